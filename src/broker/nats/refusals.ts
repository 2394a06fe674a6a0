/** What NATS refuses, counted by reason: each reason is logged when it begins, and then once in a while with how many more there were. */
import type { NatsLog } from "./connection/connection.ts";

/**
 * `storage`: a limit of JetStream or its disk. `size`: a stream's max_msg_size. `payload`: the server's max_payload.
 * `permission`: the account's permissions. `subscriptions`: a limit on subscriptions. `other`: see the log.
 */
export const refusalReasons = ["storage", "size", "payload", "permission", "subscriptions", "other"] as const;
export type RefusalReason = (typeof refusalReasons)[number];

/** What an operator can do about it. */
const lines: Readonly<Record<RefusalReason, string>> = {
  storage: "NATS does not keep what is published: its storage is full, and clients are told overloaded; raise the limits of JetStream, the account or the stream, or free its disk",
  size: "NATS does not keep what is published: it is larger than the stream's max_msg_size, and clients are told too_large; raise it (nats stream edit)",
  payload: "what is published is larger than max_payload of the NATS server, and clients are told too_large; raise it in the configuration of every server",
  permission: "NATS does not let this node publish or subscribe; correct the permissions of its user",
  subscriptions: "NATS lets this node have no more subscriptions, and joins of rooms that are not open here are refused; raise max_subscriptions of the server or the account",
  other: "NATS does not take what is published, and clients are told unavailable",
};
const quietMs = 10_000;

export class Refusals {
  readonly counts: Record<RefusalReason, number> = { storage: 0, size: 0, payload: 0, permission: 0, subscriptions: 0, other: 0 };
  readonly #log: NatsLog;
  readonly #logged = new Map<RefusalReason, { at: number; count: number }>();

  constructor(log: NatsLog) {
    this.#log = log;
  }

  /** @param fields of the log's line, where one is due. */
  note(reason: RefusalReason, fields: object): void {
    const count = ++this.counts[reason];
    const now = performance.now();
    const before = this.#logged.get(reason);
    if (before !== undefined && now - before.at < quietMs) return;
    this.#logged.set(reason, { at: now, count });
    const more = count - (before?.count ?? 0) - 1;
    this.#log.warn({ ...fields, ...(more > 0 && { more }) }, lines[reason]);
  }
}

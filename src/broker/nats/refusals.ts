/**
 * Counts what NATS rejects, by reason. Logs a reason at its first rejection, then at most every ten seconds, with the
 * count.
 */
import type { NatsLog } from "./connection/connection.ts";

/**
 * `storage`: a limit of JetStream or its disk. `size`: a stream's max_msg_size. `payload`: the server's max_payload.
 * `permission`: the account's permissions. `subscriptions`: a limit on subscriptions. `other`: see the log.
 */
export const refusalReasons = ["storage", "size", "payload", "permission", "subscriptions", "other"] as const;
export type RefusalReason = (typeof refusalReasons)[number];

/** Log line of each reason, with the remedy. */
const lines: Readonly<Record<RefusalReason, string>> = {
  storage: "NATS storage is full: publishes fail with overloaded; raise the limits of JetStream, the account or the stream, or free disk space",
  size: "NATS max_msg_size exceeded: the stream rejects the publication, which fails with too_large; raise max_msg_size (nats stream edit)",
  payload: "NATS max_payload exceeded: the publication fails with too_large; raise max_payload in the configuration of every server",
  permission: "NATS permissions: this node may not publish or subscribe; correct the permissions of its user",
  subscriptions: "NATS max_subscriptions reached: joins of rooms that are not open on this node fail; raise max_subscriptions of the server or the account",
  other: "NATS rejects publications: they fail with unavailable; see the reason in this line and the log of the NATS servers",
};
const quietMs = 10_000;

export class Refusals {
  readonly counts: Record<RefusalReason, number> = { storage: 0, size: 0, payload: 0, permission: 0, subscriptions: 0, other: 0 };
  readonly #log: NatsLog;
  readonly #logged = new Map<RefusalReason, { at: number; count: number }>();

  constructor(log: NatsLog) {
    this.#log = log;
  }

  /** @param fields of the log line, if one is due. */
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

/**
 * Direct messages. An inbox is the durable room of one user, and each of the user's devices has a cursor in it. Inboxes
 * differ from other rooms in three ways: where a device begins, what an acknowledgement does, and that any user may
 * publish to them. So one user's messages are limited, and so is the number of unused inboxes that one user may begin.
 */
import type { Position, Published } from "../broker/broker.ts";
import type { ErrorCode } from "../errors.ts";
import type { JoinRecord } from "../link/records.ts";
import type { AckRecord } from "../link/sessions.ts";
import { pageSizeMax } from "../protocol/limits.ts";
import { inboxKey, nameOfUser, tenantOfUser } from "../protocol/roomkeys.ts";
import type { Sessions as SessionStore } from "../sessions/sessions.ts";
import { Allowance } from "./allowance.ts";
import type { HubRoom, HubRooms } from "./rooms.ts";
import type { HubSession } from "./sessions/session.ts";
import type { HubSessions } from "./sessions/sessions.ts";

export interface InboxLimits {
  /** Direct messages a user may send, and inboxes a user may be the first to write to. 0 is no limit. */
  readonly sendsPerMinute: number;
  readonly newInboxesPerHour: number;
}

export interface InboxesOptions extends InboxLimits {
  readonly store: SessionStore;
  readonly rooms: HubRooms;
  readonly sessions: HubSessions;
}

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

export class Inboxes {
  readonly #options: InboxesOptions;
  readonly #sends: Allowance;
  readonly #beginnings: Allowance;

  constructor(options: InboxesOptions) {
    this.#options = options;
    this.#sends = new Allowance(options.sendsPerMinute, minuteMs);
    this.#beginnings = new Allowance(options.newInboxesPerHour, hourMs);
  }

  /**
   * Where a device continues: at the position that its client gave, else behind its cursor. A device that never
   * acknowledged begins with the oldest that is kept. One whose position is beyond the head gets the newest.
   */
  placeOf(session: HubSession, room: HubRoom, join: JoinRecord, done: (join: JoinRecord) => void): void {
    if (join.epoch !== null) return done(join.restored ? { ...join, history: pageSizeMax } : join);
    this.#options.store.cursor(session.userKey, session.device, (answer) => {
      const cursor: Position | null = "value" in answer ? answer.value : null;
      const { epoch, seq } = cursor ?? { epoch: room.epoch, seq: 0 };
      done({ ...join, epoch, seq, history: pageSizeMax });
    });
  }

  /** Moves the device's cursor. Returns the error in the position, or null. */
  acknowledge(session: HubSession, { epoch, seq }: AckRecord): ErrorCode | null {
    const { userKey, device } = session;
    const inbox = this.#options.rooms.named(inboxKey(tenantOfUser(userKey), nameOfUser(userKey)));
    if (inbox?.open !== true) return "not_joined";
    // A position that was never delivered would hide messages that are still to come.
    if (epoch !== inbox.epoch || seq > inbox.seq) return "unrecoverable_position";
    this.#options.store.acknowledge(userKey, device, { epoch, seq });
    this.#options.sessions.advanced(session, inbox, seq);
    return null;
  }

  // ------------------------------------------------------------------------------- limits of senders

  /** Whether this user may send now. The inbox may have members, or not exist yet. */
  maySend(from: string, inbox: HubRoom | undefined): boolean {
    if (inbox === undefined && this.#beginnings.isSpent(from)) return false;
    return this.#sends.take(from);
  }

  /** Counts a new inbox after its first message. Only the broker knows whether it was the first. */
  sent(from: string, { seq, duplicate, first = seq === 1 }: Published): void {
    if (first && !duplicate) this.#beginnings.take(from);
  }

  sweep(): void {
    this.#sends.sweep();
    this.#beginnings.sweep();
  }
}

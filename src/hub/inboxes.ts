/**
 * Direct messages: an inbox is the durable room of one user, and each of the user's devices has a cursor in it. What is
 * particular about inboxes is where a device begins, what acknowledging does, and that anybody may publish to them: so
 * there are limits to what one user may send, and to how many inboxes that nobody has used before one user may begin.
 */
import type { Position, Published } from "../broker/broker.ts";
import type { ErrorCode } from "../errors.ts";
import type { JoinRecord } from "../link/records.ts";
import type { AckRecord } from "../link/sessions.ts";
import { pageSizeMax } from "../protocol/limits.ts";
import { inboxKey, nameOfUser, tenantOfUser } from "../protocol/roomkeys.ts";
import type { Sessions as SessionStore } from "../sessions/sessions.ts";
import { Allowance } from "./allowance.ts";
import type { Joining } from "./recovery/replays.ts";
import type { HubRoom, HubRooms } from "./rooms.ts";
import type { HubSession, HubSessions } from "./sessions/sessions.ts";

export interface InboxLimits {
  /** Direct messages a user may send, and inboxes a user may be the first to write to; 0 is no limit. */
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
   * Where a device goes on: at the position its client gave, else behind what the device has acknowledged, or with all
   * there is for one that never did; it is told if that is not all there was. Where the inbox does not reach back to
   * a position, or is another one by now, the device is told, and gets the newest.
   */
  placeOf(session: HubSession, room: HubRoom, join: JoinRecord, done: (join: Joining) => void): void {
    if (join.epoch !== null) return done(join.restored ? { ...join, history: pageSizeMax } : join);
    this.#options.store.cursor(session.userKey, session.device, (answer) => {
      const cursor: Position | null = "value" in answer ? answer.value : null;
      const place = cursor === null ? { epoch: room.epoch, seq: 0, orOldest: true } : { epoch: cursor.epoch, seq: cursor.seq };
      done({ ...join, ...place, history: pageSizeMax });
    });
  }

  /** Moves the device's cursor. What is wrong with the position, or null. */
  acknowledge(session: HubSession, { epoch, seq }: AckRecord): ErrorCode | null {
    const { userKey, device } = session;
    const inbox = this.#options.rooms.named(inboxKey(tenantOfUser(userKey), nameOfUser(userKey)));
    if (inbox?.open !== true) return "not_joined";
    // A position it cannot have been given would hide what is still to come.
    if (epoch !== inbox.epoch || seq > inbox.seq) return "unrecoverable_position";
    this.#options.store.acknowledge(userKey, device, { epoch, seq });
    this.#options.sessions.advanced(session, inbox, seq);
    return null;
  }

  // ------------------------------------------------------------------------------- limits of senders

  /** Whether this user may send now, to an inbox that somebody is in or that may not be there yet. */
  maySend(from: string, inbox: HubRoom | undefined): boolean {
    if (inbox === undefined && this.#beginnings.isSpent(from)) return false;
    return this.#sends.take(from);
  }

  /** The first message of an inbox has begun it. Only the broker knows, so it counts when it is done. */
  sent(from: string, { seq, duplicate, first = seq === 1 }: Published): void {
    if (first && !duplicate) this.#beginnings.take(from);
  }

  sweep(): void {
    this.#sends.sweep();
    this.#beginnings.sweep();
  }
}

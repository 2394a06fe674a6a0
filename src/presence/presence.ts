/**
 * The presence seam: who is in which room, and who is there at all. Rooms and users are named by keys (roomkeys.ts),
 * which hold the tenant. Events are for people to look at, so they are batched and late on purpose: a user who goes
 * and is back within the grace has not been away.
 *
 * Answers come by callback, exactly once. Changes are told by the callbacks the implementation was made with.
 */
import type { Answer } from "../broker/broker.ts";

export interface RoomMember {
  readonly user: string;
  /** Sessions of the user in the room. */
  readonly sessions: number;
}

export interface RoomPresence {
  /** Grows with every change that is told. */
  readonly version: number;
  readonly users: number;
  readonly sessions: number;
  readonly members: readonly RoomMember[];
  /** Where the next page begins, "" after the last. Opaque. */
  readonly next: string;
}

/** Who came and who went, once the grace was over. */
export interface RoomChange {
  readonly version: number;
  readonly users: number;
  readonly sessions: number;
  /** Both empty where there were too many to name: `countsOnly`. */
  readonly joined: readonly string[];
  readonly left: readonly string[];
  readonly countsOnly: boolean;
}

export interface Status {
  readonly user: string;
  readonly online: boolean;
  /** Of a user who is not online: milliseconds since 1970, 0 where it is not known. */
  readonly lastSeen: number;
}

export interface PresenceEvents {
  /** MUST be called for open rooms only, versions rising, at most once an interval for each. */
  roomChanged(room: string, change: RoomChange): void;
  /** MUST be called for watched users only, and only when what was told last no longer holds. */
  statusChanged(status: Status): void;
}

export interface Presence {
  /** A session of the user is in the room. A session MUST be counted once, however often it enters. */
  enter(room: string, user: string, session: string): void;
  leave(room: string, user: string, session: string): void;

  /** This node has members who are to be told of changes in the room; it ends with `unfollow`. */
  follow(room: string): void;
  unfollow(room: string): void;

  /**
   * Who is in the room. A member who was there from the first page to the last MUST be on exactly one of them; `limit` 0
   * gives counts only.
   */
  members(room: string, after: string, limit: number, done: (answer: Answer<RoomPresence>) => void): void;

  /** A session of the user has begun, or is over; several make one user who is online. */
  online(user: string, session: string): void;
  offline(user: string, session: string): void;

  statuses(users: readonly string[], done: (answer: Answer<readonly Status[]>) => void): void;
  /** Someone on this node wants to know of changes to the user's status; counted, as several may. */
  watch(user: string): void;
  unwatch(user: string): void;

  usage(): { readonly rooms: number; readonly members: number; readonly users: number };

  stop(): Promise<void>;
}

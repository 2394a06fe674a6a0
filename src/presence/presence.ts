/**
 * The presence seam: who is in which room, and who is there at all. Rooms and users are named by keys (roomkeys.ts),
 * which hold the tenant. A session is named by whatever stays the same while it has its socket.
 *
 * Changes are for people to look at, so they are batched and late on purpose: a user who goes and is back within the
 * grace has not been away, and until the grace is over is still there in every answer, with no sessions.
 *
 * Answers come by callback, exactly once, for the reason that broker.ts gives. Changes are told by the callbacks the
 * implementation was made with.
 */
import type { Answer } from "../broker/broker.ts";

export interface RoomMember {
  readonly user: string;
  /** Sessions of the user in the room; 0 within the grace. */
  readonly sessions: number;
}

/** What to read of a room's members. */
export interface MembersQuery {
  /** `next` of the page before, "" for the first. */
  readonly after: string;
  /** 0 gives counts only. */
  readonly limit: number;
  /** Stop adding members once their names, and `bytesEach` for each, exceed this. The first is always in. */
  readonly bytesMax: number;
  readonly bytesEach: number;
}

export interface RoomPresence {
  /** Of the last change that was told. */
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
  /** Of a user who is not online: when the last session was over, milliseconds since 1970; 0 where it is not known. */
  readonly lastSeen: number;
}

export interface PresenceEvents {
  /**
   * MUST be called for followed rooms only, and at most once an interval for each. Each version MUST be one more than
   * the last that was told or answered, so that whoever sees a larger step knows that something was missed.
   */
  roomChanged(room: string, change: RoomChange): void;
  /** MUST be called for watched users only, and only when what was told or answered last no longer holds. */
  statusChanged(status: Status): void;
}

export interface Presence {
  /**
   * A session of the user is in the room, or no longer. A session MUST be counted once, however often it enters, and
   * leaving a room it is not in MUST change nothing.
   */
  enter(room: string, user: string, session: string): void;
  leave(room: string, user: string, session: string): void;

  /**
   * This node has members who are to be told of changes in the room from now on; it ends with `unfollow`. Changes before
   * `follow` need not be told.
   */
  follow(room: string): void;
  unfollow(room: string): void;

  /**
   * Who is in the room. A member who was there from the first page to the last MUST be on exactly one of them. Whoever
   * takes the pages and the changes told after each as sets, in their order, MUST come to what the room is then: what is
   * answered and undone before it was told has to be told. MUST answer `bad_request` for an `after` that is none.
   */
  members(room: string, query: MembersQuery, done: (answer: Answer<RoomPresence>) => void): void;

  /** A session of the user has begun, or is over; several make one user who is online. As `enter` and `leave`. */
  online(user: string, session: string): void;
  offline(user: string, session: string): void;

  /** In the order of `users`. MUST NOT be older than what was told of a user before it. */
  statuses(users: readonly string[], done: (answer: Answer<readonly Status[]>) => void): void;
  /** Someone on this node wants to know of changes to the user's status; counted, as several may. */
  watch(user: string): void;
  unwatch(user: string): void;

  /** Rooms with members, members of all of them, and users who are online; within the grace, too. */
  usage(): { readonly rooms: number; readonly members: number; readonly users: number };

  stop(): Promise<void>;
}

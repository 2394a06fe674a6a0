/**
 * The presence seam: which users are in which room, and which are online. Rooms and users are named by keys
 * (roomkeys.ts), which contain the tenant. Any string that stays the same while a session has its socket can name the
 * session.
 *
 * People read changes, so changes are batched and delayed on purpose. A user who returns within the grace counts as
 * present throughout. Until the grace is over, every answer lists the user, with no sessions.
 *
 * Answers come by callback, exactly once, for the reason that broker.ts gives. Changes go to the callbacks that the
 * implementation was created with.
 */
import type { Answer } from "../broker/broker.ts";
import type { FactKind, Subject } from "../facts/facts.ts";

export interface RoomMember {
  readonly user: string;
  /** Sessions of the user in the room; 0 within the grace. */
  readonly sessions: number;
}

/** A request for a page of a room's members. */
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
  /** Version of the last change that was announced. */
  readonly version: number;
  readonly users: number;
  readonly sessions: number;
  readonly members: readonly RoomMember[];
  /** Where the next page begins, "" after the last. Opaque. */
  readonly next: string;
}

/** Users who joined and users who left, after the grace. */
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
  /** When the last session of an offline user ended, milliseconds since 1970; 0 where unknown. */
  readonly lastSeen: number;
}

export interface PresenceEvents {
  /**
   * MUST be called for followed rooms only, and at most once an interval for each. Each version MUST be one more than
   * the last announced or answered version. So a client that sees a larger step knows that it missed a change.
   */
  roomChanged(room: string, change: RoomChange): void;
  /** MUST be called for watched users only, and only when the last announced or answered status no longer holds. */
  statusChanged(status: Status): void;
}

export interface Presence {
  /**
   * A session of the user enters or leaves the room. A session MUST be counted once, however often it enters. Leaving a
   * room without being in it MUST change nothing.
   */
  enter(room: string, user: string, session: string): void;
  leave(room: string, user: string, session: string): void;

  /**
   * From now on this node has members that get the room's changes, until `unfollow`. Changes before `follow` need not
   * be announced.
   */
  follow(room: string): void;
  unfollow(room: string): void;

  /**
   * The members of the room. A member present from the first page to the last MUST be on exactly one of them. Pages and
   * later changes, applied as set operations in their order, MUST lead to the room's state. So a change that an answer
   * showed MUST be announced when it is undone, even if it never was announced itself. MUST answer `bad_request` for an
   * invalid `after`.
   */
  members(room: string, query: MembersQuery, done: (answer: Answer<RoomPresence>) => void): void;

  /**
   * A session of the user begins or ends. Several sessions make one online user. Rules as for `enter` and `leave`.
   * @param about the session behind the socket, for the facts that webhooks tell
   */
  online(user: string, session: string, about?: BegunSession): void;
  offline(user: string, session: string, about?: LostSession): void;
  /** Sessions of the user without a socket have ended: none will be resumed. */
  endLost(user: string): void;

  /** In the order of `users`. MUST NOT be older than the last announced status of a user. */
  statuses(users: readonly string[], done: (answer: Answer<readonly Status[]>) => void): void;
  /** Begins or ends watching the user's status on this node. Calls are counted, since several sessions may watch. */
  watch(user: string): void;
  unwatch(user: string): void;

  /** Rooms with members, members of all of them, and online users; each including those within the grace. */
  usage(): { readonly rooms: number; readonly members: number; readonly users: number };

  stop(): Promise<void>;
}

// ------------------------------------------------------------------------------- for webhooks

/** Which facts somebody wants, as letters. */
export interface WantedFacts {
  ofRoom(room: string): string;
  readonly ofUsers: string;
  /** How long a session can be resumed after its socket was lost. */
  readonly sessionTtlMs: number;
  /** Whether too many facts wait: none is added meanwhile. */
  isFull(): boolean;
  /** Counts a change that added none for that reason. */
  refused(): void;
}

export interface AddedFacts extends WantedFacts {
  add(subject: Subject, fact: { readonly kind: FactKind; readonly users?: number; readonly member?: string; readonly session?: string }): void;
}

/** A session that begins or goes on with a socket. */
export interface BegunSession {
  readonly id: string;
  /** It was not resumed. */
  readonly isNew: boolean;
}

/** A session whose socket is gone. */
export interface LostSession {
  readonly id: string;
  /** It cannot be resumed. */
  readonly isOver: boolean;
}

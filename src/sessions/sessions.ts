/**
 * The sessions seam. It stores what must outlive a session's socket, so that another socket can resume the session on
 * any node that shares the store. It also stores the inbox cursors of devices, which users were signed out, and the
 * rooms into which the application has joined a user.
 *
 * Answers come by callback, exactly once, for the reason that broker.ts gives. Most writes are not answered. A store that
 * cannot be written reports that by its log and metrics. A session that cannot be read is answered `unavailable`; then
 * the signed resume token and the client's own positions have to suffice.
 */
import type { Answer, Position } from "../broker/broker.ts";

/** A session as it is stored. Users are named by tenant and name; roomkeys.ts alone composes keys of them. */
export interface SessionRecord {
  readonly id: string;
  readonly tenant: string;
  readonly user: string;
  readonly device: string;
  /** The node it was on last. */
  readonly node: string;
  /**
   * The socket that the record is written for. The first has 0, and each that resumes has a higher one, as `take` says.
   */
  readonly generation: number;
  readonly rooms: readonly StoredRoom[];
  /** Those rooms into which the application had joined the user; absent for none. */
  readonly assigned?: readonly string[];
}

/** A room the session is in, and its position there at the join or resume. */
export interface StoredRoom extends Position {
  readonly name: string;
}

/**
 * A session with a socket on this node. `socketId` belongs to this socket, `issuedAt` to its token. While it arrives it
 * has no id.
 */
export interface SessionHere {
  readonly id: string;
  readonly socketId: string;
  readonly userKey: string;
  readonly issuedAt: number;
}

/** The functions of this node that a shared store calls. */
export interface SessionsHere {
  here(): SessionHere[];
  /** Ends these sessions. */
  end(sessions: readonly SessionHere[]): void;
}

export interface Sessions {
  /**
   * Whether another process may read the records: another node, or this one after a restart. If not, a session need not
   * be put while it has a socket. The hub knows it, and a crash loses hub and store together.
   */
  readonly outlivesProcess: boolean;

  /**
   * Writes the session. Every later `take` MUST see it. It lasts until `end`, or until `ttlMs` after the last `put` or
   * `keep`. A store at its bound may evict records, the longest unwritten first.
   *
   * Where nodes share the store, a session belongs to the node that took it or put it with the highest generation.
   * Among equal ones the first counts. `put`, `keep` and `end` of any other node MUST change nothing. A node that puts
   * or keeps a session it has lost MUST be told so.
   */
  put(record: SessionRecord): void;

  /** Renews the session's TTL: its socket is open, or was just lost. An unknown id is ignored. */
  keep(id: string, generation: number): void;

  /**
   * Reads a session in order to resume it. MUST answer null for one that was ended, has expired, or never existed. The
   * record stays in the store until it is put again. From here on the session belongs to this node. `generation` MUST
   * be higher than `known`, the generation of the client's socket before. It MUST also be higher than all with which
   * the session was put or taken; where the store cannot be read, only than `known`.
   */
  take(id: string, known: number, done: (answer: Answer<SessionRecord | null>, generation: number) => void): void;

  /** Ends the session: it MUST NOT be taken again. */
  end(id: string, generation: number): void;

  /** Ends every session that the user has now. */
  endAll(tenant: string, user: string): void;

  /** Up to where a device has acknowledged its user's inbox; null where it never has. */
  cursor(user: string, device: string, done: (answer: Answer<Position | null>) => void): void;

  /**
   * MUST only move forward within an epoch; a position of another epoch replaces the cursor. Kept for at least 30 days.
   */
  acknowledge(user: string, device: string, position: Position): void;

  /** Invalidates the user's tokens that were issued at `time` (milliseconds since 1970) or before. */
  signOut(user: string, time: number): void;

  /**
   * When the user was signed out last; 0 for never. A store that has evicted sign-outs MUST answer at least the newest
   * of those for every user without one. So it may refuse a valid token, but never accepts an invalidated one.
   */
  signedOutAt(user: string, done: (answer: Answer<number>) => void): void;

  /**
   * Joins the user into a room, until `unassign`. MUST be stored before it is answered, and MUST NOT expire. Answers
   * `too_many_rooms` where the user has `max` others; a store at its own bound `overloaded`. After `unavailable` the
   * outcome is unknown. MUST change nothing where the user has the room.
   */
  assign(user: string, room: string, max: number, done: (answer: Answer<null>) => void): void;

  /** Takes the room from the user; MUST change nothing where the user does not have it. */
  unassign(user: string, room: string, done: (answer: Answer<null>) => void): void;

  /**
   * The user's rooms, in no fixed order. MUST show what was answered before. Answers about one user MUST come in the
   * order in which they were asked for.
   */
  assigned(user: string, done: (answer: Answer<readonly string[]>) => void): void;

  usage(): { readonly sessions: number; readonly cursors: number };

  /** Finishes pending writes and releases all resources. Later calls are errors of the caller. */
  stop(): Promise<void>;
}

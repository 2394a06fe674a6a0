/**
 * The sessions seam: what is known of a session that must outlive its socket, so that another socket, on any node
 * that shares the store, can go on with it. And what devices have read of their users' inboxes, and which users were
 * signed out.
 *
 * Answers come by callback, exactly once, for the reason that broker.ts gives. Writes are not answered: a store that
 * cannot be written to says so by way of its own log and metrics, and a session that cannot be read back is answered
 * `unavailable`, upon which the signed resume token and the client's own positions have to be enough.
 */
import type { Answer, Position } from "../broker/broker.ts";

/** A session as it is stored. Users are named by tenant and name, which nobody else composes: see roomkeys.ts. */
export interface SessionRecord {
  readonly id: string;
  readonly tenant: string;
  readonly user: string;
  readonly device: string;
  /** The node it was on last. */
  readonly node: string;
  /** Of its sockets the one that it is written for. The first has 0, and each that resumes it a higher one, as `take` says. */
  readonly generation: number;
  readonly rooms: readonly StoredRoom[];
}

/** A room the session is in, and where it was when it joined or was resumed. */
export interface StoredRoom extends Position {
  readonly name: string;
}

/** A session that has a socket here; `socketId` is of this socket alone, `issuedAt` of its token. While it arrives it has no id. */
export interface SessionHere {
  readonly id: string;
  readonly socketId: string;
  readonly userKey: string;
  readonly issuedAt: number;
}

/** What a store that nodes share asks of this one. */
export interface SessionsHere {
  here(): SessionHere[];
  /** They are over. */
  end(sessions: readonly SessionHere[]): void;
}

export interface Sessions {
  /**
   * Whether another process may ask for what is put: another node, or this one when it has been started again. Where not,
   * a session need not be put while it has a socket: the hub knows it, and if the hub is gone, so is the store.
   */
  readonly outlivesProcess: boolean;

  /**
   * Writes the session. MUST be seen by every `take` after it. Lives until `end`, or `ttlMs` after the last `put` or
   * `keep`; a record over the bounds of the store may be forgotten, the longest unwritten first.
   *
   * Where nodes share the store a session is that node's which took it or put it with the highest generation, among equal
   * ones the first's. `put`, `keep` and `end` of any other MUST change nothing, and the node MUST be told that it has lost
   * the session when it puts or keeps it.
   */
  put(record: SessionRecord): void;

  /** The session's socket is there, or has just been lost: its life begins anew. An unknown id is ignored. */
  keep(id: string, generation: number): void;

  /**
   * Reads a session in order to resume it. MUST answer null for one that was ended, has outlived its time, or was never
   * there. It stays in the store: whoever resumes it puts it again. The session is from here on this node's. `generation`
   * MUST be higher than `known`, which is that of the socket its client had before, and than all that the session was put
   * with and taken as; where the store cannot be read, than `known`.
   */
  take(id: string, known: number, done: (answer: Answer<SessionRecord | null>, generation: number) => void): void;

  /** The session is over: MUST NOT be taken again. */
  end(id: string, generation: number): void;

  /** The same for every session that the user has now. */
  endAll(tenant: string, user: string): void;

  /** Up to where a device has read its user's inbox; null where it never has. */
  cursor(user: string, device: string, done: (answer: Answer<Position | null>) => void): void;

  /** MUST only move forward within an epoch; a position of another epoch replaces the cursor. Kept for at least 30 days. */
  acknowledge(user: string, device: string, position: Position): void;

  /** Tokens of the user that were issued at `time` or before (milliseconds since 1970) count no more. */
  signOut(user: string, time: number): void;

  /**
   * When the user was signed out last; 0 for never. A store that had to forget sign-outs for want of room MUST answer
   * no less than the newest of those for everybody else: a token too many is refused rather than one too few.
   */
  signedOutAt(user: string, done: (answer: Answer<number>) => void): void;

  usage(): { readonly sessions: number; readonly cursors: number };

  /** Writes what is still to be written, and gives everything back. Calls after it are errors of the caller. */
  stop(): Promise<void>;
}

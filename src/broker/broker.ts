/**
 * The broker seam: where publications get their order, are kept, and are handed to every node that wants them.
 *
 * Answers come by callback, not by promise: an embedded broker answers before the call returns, and the hub
 * must not give up its turn for that. A callback is called exactly once.
 */
import type { ErrorCode } from "../errors.ts";

/** What a namespace of the configuration asks of the broker. */
export interface Retention {
  /** Kept publications can be read back by history. */
  readonly durable: boolean;
  readonly historySize: number;
  readonly historyTtlMs: number;
  readonly historyBytesMax: number;
}

/** A place in a room's stream: positions compare only within one epoch. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** A publication on its way in. `payload` is valid only until publish returns: keep a copy. */
export interface Draft {
  readonly sender: string;
  readonly payload: Uint8Array;
  readonly format: number;
  /** Idempotency key, "" for none. */
  readonly key: string;
  /** Comes back with the delivery, unread: the hub's note of whom to leave out. "" for nobody. */
  readonly origin: string;
  /** The answer is to say whether the room had kept nothing before. */
  readonly asksFirst?: boolean;
}

/** A publication with its place. `prev` is the seq of the one before it in the room, 0 for the first. */
export interface Stored extends Position {
  readonly prev: number;
  readonly sender: string;
  /** Milliseconds since 1970, by the clock of the broker's node. */
  readonly time: number;
  readonly payload: Uint8Array;
  readonly format: number;
  readonly origin: string;
}

export interface Page {
  /** Oldest first. */
  readonly publications: readonly Stored[];
  /** The room's head when the page was read. */
  readonly position: Position;
  /** There is more in the direction that was read. */
  readonly more: boolean;
  /** Something after the position is not kept any more, or may not be: only for who asked with `orOldest`. */
  readonly trimmed?: boolean;
}

/** What to read: forward from a position (not including it), backward from one, or the newest. */
export interface Query {
  readonly direction: "since" | "before" | "newest";
  /** Ignored for `newest`. */
  readonly position: Position;
  readonly limit: number;
  /** Stop adding publications once their payloads, and `bytesEach` for each (0), exceed this. The first is always in. */
  readonly bytesMax: number;
  readonly bytesEach?: number;
  /** `since` begins with the oldest that is kept where the position is not covered, and says so with `trimmed`. */
  readonly orOldest?: boolean;
}

export type Answer<T> = { readonly value: T } | { readonly error: ErrorCode };

export interface Published extends Position {
  /** The idempotency key had been used: this is the position of the first publication with it. */
  readonly duplicate: boolean;
  /** Seq of the publication before it in the room, as it was delivered: there where the room is open and it is no duplicate. */
  readonly prev?: number;
  /** For a draft that asks: nothing was kept in the room before it. Where it is not said, seq 1 is the first. */
  readonly first?: boolean;
}

/** Called with every publication of every open room, in seq order per room. The payload is valid until it returns. */
export type Deliver = (room: string, publication: Stored) => void;

/**
 * Called when an open room goes on from a position that does not follow what was delivered last: with another epoch its
 * stream has begun anew, with the same one publications may have been lost on their way here. What comes from here on is
 * after this position. Only brokers that get publications from elsewhere have to call it.
 */
export type Moved = (room: string, position: Position) => void;

export interface Broker {
  /**
   * Starts deliveries of a room. MUST deliver every publication after the position that `done` gets, none at or
   * before it, each once, in order. Opening an open room is an error of the caller.
   */
  open(room: string, retention: Retention, done: (answer: Answer<Position>) => void): void;

  /** Ends deliveries of a room. MUST NOT deliver for it afterwards. What is durable stays. */
  close(room: string): void;

  /**
   * Gives a publication its position. MUST deliver it to an open room before `done` is called, MUST keep what is
   * durable before `done` is called, MUST publish nothing when `done` gets an error (but `unavailable`, which may leave
   * open what became of it: the same key tells), MUST answer with `prev` where it was delivered to an open room, and MUST
   * answer a key that was used in this room within the key window with the first position, without `prev`, and publish
   * nothing. Works for rooms that are not open.
   */
  publish(room: string, retention: Retention, draft: Draft, done: (answer: Answer<Published>) => void): void;

  /**
   * Reads what is kept of a durable room; an ephemeral room answers as an empty one. MUST answer
   * `unrecoverable_position` for `since` unless every publication after the position is still kept (or it was asked
   * with `orOldest`), and for any position of another epoch or beyond the head. Publications of a page MUST stay unchanged after `done` returns.
   */
  history(room: string, retention: Retention, query: Query, done: (answer: Answer<Page>) => void): void;

  /** Rooms it knows and bytes it keeps, for metrics. */
  usage(): { readonly rooms: number; readonly publications: number; readonly bytes: number };

  /** Gives everything back. Calls after it are errors of the caller. */
  stop(): Promise<void>;
}

/** What a broker that keeps its rooms on servers says of the connection to them. */
export interface ConnectionUsage {
  /** Nothing can be published now: it is not connected, or does not answer. */
  readonly away: boolean;
  readonly reconnects: number;
  /** Publications without an answer, and their bytes. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** Publications that were not answered in time. */
  readonly timeouts: number;
  /** Publications that were read from where they are kept because they did not arrive by themselves. */
  readonly filled: number;
  /** Reads of what is kept. */
  readonly reads: number;
  /** Messages for open rooms that are too large for this node, or not of this program. */
  readonly undeliverable: number;
  /** What it refused, by reason. */
  readonly refused: Readonly<Record<string, number>>;
  /** Open rooms that it does not let this node listen to. */
  readonly unheard: number;
}

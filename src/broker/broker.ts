/**
 * The broker seam: gives publications their order, stores them, and delivers them to every node with the room open.
 *
 * Answers come by callback, not by promise: an embedded broker answers before the call returns, and the hub must not
 * give up its turn for that. Each callback is called exactly once.
 */
import type { ErrorCode } from "../errors.ts";

/** Retention of a namespace, from the configuration. */
export interface Retention {
  /** Whether the room stores a history. */
  readonly durable: boolean;
  readonly historySize: number;
  readonly historyTtlMs: number;
  readonly historyBytesMax: number;
  /** Whether publications are archived for good, so that streams keep them until they are. */
  readonly archive?: boolean;
  /** Whether members recover from the archive what the stream no longer keeps. */
  readonly archiveRecovery?: boolean;
}

/** Position in a room's stream. Only positions of one epoch can be compared. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** A publication before it has a position. `payload` is valid only until publish returns: keep a copy. */
export interface Draft {
  readonly sender: string;
  readonly payload: Uint8Array;
  readonly format: number;
  /** Idempotency key, "" for none. */
  readonly key: string;
  /** Returned with the delivery on this node, and on all nodes where it is a text that begins with `originForAll`. */
  readonly origin: Origin;
  /** Whether the answer must say if the room kept nothing before. */
  readonly asksFirst?: boolean;
}

/**
 * The session that a publication is not delivered to. "": nobody. A text of at most 128 ASCII characters, or a session
 * of this node. A broker that sends publications through another process writes that as `originText`, and returns the
 * text.
 */
export type Origin = string | OriginSession;

/** Begins an origin that has a meaning on every node. */
export const originForAll = "=";

/** A socket of this node: the number of its reactor, and the session's slot and life there. */
export interface OriginSession {
  readonly reactor: number;
  readonly slot: number;
  readonly life: number;
}

export function originText(origin: Origin): string {
  return typeof origin === "string" ? origin : `${origin.reactor} ${origin.slot} ${origin.life}`;
}

/** The session in a text of `originText`. */
export function readOrigin(text: string): OriginSession {
  const [reactor, slot, life] = text.split(" ").map(Number);
  return { reactor: reactor!, slot: slot!, life: life! };
}

/** A publication with its position. `prev` is the seq of the one before it in the room, 0 for the first. */
export interface Stored extends Position {
  readonly prev: number;
  readonly sender: string;
  /** Milliseconds since 1970, by the clock of the broker's node. */
  readonly time: number;
  readonly payload: Uint8Array;
  readonly format: number;
  readonly origin: Origin;
  /** Idempotency key, where it was asked for and is stored. */
  readonly key?: string;
}

export interface Page {
  /** Oldest first. */
  readonly publications: readonly Stored[];
  /** Head of the room when the page was read. */
  readonly position: Position;
  /** Whether there are more publications in this direction. */
  readonly more: boolean;
  /** Publications after the position are missing, or may be. Only with `orOldest`. */
  readonly trimmed?: boolean;
  /** Publications between those of this page are missing: they were never archived. */
  readonly gap?: boolean;
}

/** Query of a history: forward from a position (exclusive), backward from one, or the newest. */
export interface Query {
  readonly direction: "since" | "before" | "newest";
  /** Ignored for `newest`. */
  readonly position: Position;
  readonly limit: number;
  /**
   * The page ends once its payloads, plus `bytesEach` for each (0), exceed this. The first publication is always
   * included.
   */
  readonly bytesMax: number;
  readonly bytesEach?: number;
  /** If the position is not covered, `since` starts with the oldest stored publication and sets `trimmed`. */
  readonly orOldest?: boolean;
  /** A member recovers: only within `historySize`, where the broker keeps more than that for the archive. */
  readonly recovers?: boolean;
  /** The archive knows that nothing after the position was deleted but from the stream's start. */
  readonly archived?: boolean;
  /** Publications have their idempotency key. */
  readonly keys?: boolean;
}

export type Answer<T> = { readonly value: T } | { readonly error: ErrorCode };

export interface Published extends Position {
  /** Whether the idempotency key was used before. Then this is the position of its first publication. */
  readonly duplicate: boolean;
  /** Seq of the publication delivered before it. Set where the room is open and this is no duplicate. */
  readonly prev?: number;
  /** For a draft with `asksFirst`: whether the room kept nothing before. If missing, seq 1 is the first. */
  readonly first?: boolean;
}

/** Called with every publication of every open room, per room in seq order. The payload is valid until it returns. */
export type Deliver = (room: string, publication: Stored) => void;

/**
 * Called when an open room continues from a position that does not follow the last delivery. With another epoch, the
 * stream is a new one. With the same epoch, publications may have been lost on the way here. Later deliveries follow
 * this position. Only brokers that receive publications from elsewhere call it.
 */
export type Moved = (room: string, position: Position) => void;

export interface Broker {
  /**
   * Starts deliveries of a room. MUST deliver every publication after the position passed to `done`, none at or before
   * it, each once, in order. Opening an open room is an error of the caller.
   */
  open(room: string, retention: Retention, done: (answer: Answer<Position>) => void): void;

  /** Ends deliveries of a room. MUST NOT deliver for it afterwards. Durable publications stay. */
  close(room: string): void;

  /**
   * Gives a publication its position. MUST deliver it to an open room before `done` is called. MUST store a durable
   * publication before `done` is called. MUST publish nothing when `done` gets an error; the exception is
   * `unavailable`, where the outcome may be unknown and a retry with the same key tells. MUST answer with `prev` where
   * it was delivered to an open room. For a key used in this room within the key window, MUST answer with the first
   * position, without `prev`, and publish nothing. Works for rooms that are not open.
   */
  publish(room: string, retention: Retention, draft: Draft, done: (answer: Answer<Published>) => void): void;

  /**
   * Reads the history of a durable room. An ephemeral room answers like an empty one. MUST answer
   * `unrecoverable_position` for `since` unless every later publication is still stored (or the query has `orOldest`),
   * and for any position of another epoch or after the head. Publications of a page MUST stay unchanged after `done`
   * returns.
   */
  history(room: string, retention: Retention, query: Query, done: (answer: Answer<Page>) => void): void;

  /** Rooms and stored bytes, for metrics. */
  usage(): { readonly rooms: number; readonly publications: number; readonly bytes: number };

  /** Releases everything. Later calls are errors of the caller. */
  stop(): Promise<void>;
}

/** State of the connection of a broker that stores rooms on servers. */
export interface ConnectionUsage {
  /** Unavailable: not connected, or the server does not answer. Nothing can be published now. */
  readonly away: boolean;
  readonly reconnects: number;
  /** Publications without an acknowledgement, and their bytes. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** Publications that were not acknowledged in time. */
  readonly timeouts: number;
  /** Publications read from storage because their copy did not arrive. */
  readonly filled: number;
  /** Reads of stored publications. */
  readonly reads: number;
  /** Messages for open rooms that are too large for this node, or from another program. */
  readonly undeliverable: number;
  /** Rejections by the server, by reason. */
  readonly refused: Readonly<Record<string, number>>;
  /** Open rooms that the server does not let this node subscribe to. */
  readonly unheard: number;
  /** Streams that lost what they kept, and began again. */
  readonly restarts: number;
}

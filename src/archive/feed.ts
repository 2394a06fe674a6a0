/** What is archived: a stream of publications in the order of their sequence, as a broker stores it. */
import type { ArchivedRow } from "./archive.ts";

export interface FeedState {
  readonly epoch: string;
  /** Oldest stored sequence, and the newest. */
  readonly first: number;
  readonly last: number;
}

export interface FeedPublication {
  readonly seq: number;
  /** Time at which the stream stored it, in microseconds since 1970. */
  readonly at: number;
  /** Null: unreadable. */
  readonly content: FeedContent | null;
}

export type FeedContent = Omit<ArchivedRow, "seq" | "at">;

export interface FeedPiece {
  /** In order. Missing sequences are not in the stream any more. */
  readonly publications: readonly FeedPublication[];
  /** Publications in the stream after these. */
  readonly pending: number;
}

/** Rejects with any error while the broker is unavailable; the caller retries. */
export interface Feed {
  readonly stream: string;

  /** MUST be asked after the call. */
  state(): Promise<FeedState>;

  /** Time in microseconds of a stored message; null: it is not in the stream. */
  timeAt(seq: number): Promise<number | null>;

  /**
   * Reads on after a sequence: up to `limit` publications, fewer after a moment, none after some seconds without any.
   * @param at time of the message at `after`, 0 if unknown. MUST reject where the stream has another message there, or ends
   * before it: it was set back.
   */
  read(after: number, at: number, limit: number): Promise<FeedPiece>;

  /** Frees what a read needs, and ends one under way. Another `read` may follow. */
  pause(): void;
}

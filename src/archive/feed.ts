/** What is archived: a stream of publications in the order of their sequence, as a broker stores it. */
import type { ArchivedRow, RoomEpoch } from "./archive.ts";

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
  /** In a journal: the position in the room's own stream. */
  readonly own?: OwnPosition;
}

export interface OwnPosition extends RoomEpoch {
  readonly seq: number;
  /** This is no publication: it says that the room has come so far. */
  readonly isHead: boolean;
}

export type FeedContent = Omit<ArchivedRow, "seq" | "at" | "of">;

export interface FeedPiece {
  /** In order. Missing sequences are not in the stream any more. */
  readonly publications: readonly FeedPublication[];
  /** Publications in the stream after these. */
  readonly pending: number;
  /** How far was read, where that is beyond the last publication. */
  readonly upTo?: { readonly seq: number; readonly at: number };
  /** Parts of a journal that were deleted before they were archived. */
  readonly dropped?: readonly { readonly from: number; readonly to: number }[];
}

/** Rejects with any error while the broker is unavailable; the caller retries. */
export interface Feed {
  readonly stream: string;
  /** Its publications have positions of their own (`own`), and sequences are places in a journal. */
  readonly isJournal?: boolean;

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

  /** Everything up to here is archived: it need not be kept for the archive any more. */
  archived?(seq: number): void;

  /** Publications after a sequence, roughly. Missing: sequences count them. */
  pendingAfter?(seq: number): number;

  /** Share of its space that is taken by what waits for the archive. At 1 it is deleted, archived or not. */
  filled?(): number;
}

/** What the archive needs of a broker. */
export interface ArchivedBroker {
  /** Streams of archived namespaces, to be read in their order. */
  feeds(): readonly Feed[];
  /** The stream of a room in the archive. */
  streamOf(room: string): string;
}

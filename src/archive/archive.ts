/**
 * The archive seam: stores the publications of archived namespaces for good, exactly once and in the order of their
 * stream, and reads the history of a room from there.
 *
 * A stream has one cursor: everything up to it is stored, or noted as a gap. A write moves the cursor in the same
 * transaction and states from where. So of two writers one fails, and a write whose outcome is unknown is settled by
 * reading the cursor.
 *
 * The stream of a NATS broker holds many rooms, and its sequences are the positions of their publications. A journal
 * holds many rooms as well, but each room counts its own publications. There every room is a stream of its own in the
 * archive, with epochs and gaps, and the journal has the cursor.
 */
import type { Position, Query, Stored } from "../broker/broker.ts";

/** How far a stream is archived. */
export interface Cursor extends Position {
  /** Time at which the stream stored the message there, in microseconds since 1970; 0: unknown. */
  readonly at: number;
  /**
   * From here on every publication of the epoch is a row or in a gap. Earlier ones may be missing: the stream had deleted
   * them before the archive began.
   */
  readonly completeFrom: number;
}

/** A publication to store. */
export interface ArchivedRow {
  readonly seq: number;
  /** Time at which the stream stored it, in microseconds since 1970. */
  readonly at: number;
  readonly tenant: string;
  readonly room: string;
  readonly sender: string;
  /** Time of publishing by the clock of the publisher's node, in milliseconds since 1970. */
  readonly time: number;
  readonly format: number;
  readonly key: string;
  readonly payload: Uint8Array;
  /** Stream and epoch that `seq` belongs to. Missing: those of the cursor. */
  readonly of?: RoomEpoch;
}

/** An epoch of a room in a journal: a stream of its own. */
export interface RoomEpoch {
  readonly stream: string;
  readonly epoch: string;
}

/** An epoch of a room whose first publications, or the next complete ones, are in this write. */
export interface BegunEpoch extends RoomEpoch {
  readonly completeFrom: number;
}

/** Sequences of a stream that are not in the archive and never will be. `to` null: their end is unknown. */
export interface Gap {
  /** Missing: the stream of the cursor. */
  readonly stream?: string;
  readonly epoch: string;
  readonly from: number;
  readonly to: number | null;
  readonly reason: GapReason;
}

/**
 * dropped: the stream deleted them before they were archived. unreadable: messages of another program. refused: the
 * archive cannot store them. lost: the stream was lost or set back, so publications may be missing.
 */
export type GapReason = "dropped" | "unreadable" | "refused" | "lost";

export interface Taken {
  readonly stream: string;
  /** Null: the stream was never archived. */
  readonly cursor: Cursor | null;
}

/** Which rows to read. `position` is ignored for `newest`. */
export interface ArchiveQuery extends Pick<Query, "direction" | "position" | "limit" | "bytesMax" | "bytesEach"> {
  readonly stream: string;
  readonly tenant: string;
  readonly room: string;
}

export interface ArchivePage {
  /** Oldest first. `prev` is seq - 1 where publications before it are missing. */
  readonly publications: readonly Stored[];
  /** Whether the archive has more in this direction. */
  readonly more: boolean;
  /** Everything of the stream up to here is archived, or a gap. */
  readonly cursor: Cursor;
  /** Publications are missing in what was read: from the position to the last row, and without `more` to the cursor. */
  readonly gap: boolean;
  /** The missing ones are, some of them, between the newest row and what follows it: the cursor, or the position of `before`. */
  readonly gapAtEnd: boolean;
  /** Publications are missing somewhere after the position. Only for `since`. */
  readonly gapAfter: boolean;
}

/** The archive rejects a row for its content. Others may be stored. */
export class RowRefused extends Error {
  override readonly name = "RowRefused";
}

export interface Archive {
  /**
   * Takes streams that no other holder has, or whose holder's lease has expired, and renews those it has. MUST return
   * each stream that the holder has afterwards, at most `max` new ones, and no stream to two holders.
   */
  take(streams: readonly string[], holder: string, leaseMs: number, max: number): Promise<readonly Taken[]>;

  /** Epochs that streams have in the archive, whoever archives them. "": none yet. */
  epochs(streams: readonly string[]): Promise<ReadonlyMap<string, string>>;

  /** Gives up leases: others may take the streams at once. */
  release(streams: readonly string[], holder: string): Promise<void>;

  /**
   * Begins an epoch of a stream: moves the cursor there, and notes what was lost of the epoch before. MUST change nothing
   * and return null where the cursor is not at `from`. For an epoch that is archived already, MUST go on after its newest
   * row.
   */
  begin(stream: string, from: Cursor | null, to: Cursor, lost: Gap | null): Promise<Cursor | null>;

  /**
   * Stores rows and gaps, and moves the cursor from `from` to `to`: all of it or nothing. MUST store nothing and return
   * false where the cursor is not at `from`. MUST keep the higher `completeFrom` of an epoch that has begun before.
   * @throws RowRefused where the content of a row is the reason
   */
  append(stream: string, from: Cursor, to: Cursor, rows: readonly ArchivedRow[], gaps: readonly Gap[], begun?: readonly BegunEpoch[]): Promise<boolean>;

  /** How far rooms of journals are archived: newest epoch, and the last sequence there that is a row or in a gap. Rooms that never were are left out. */
  ends(streams: readonly string[]): Promise<ReadonlyMap<string, Position>>;

  /** The newest row of an epoch at or before a sequence. */
  rowBefore(stream: string, epoch: string, seq: number): Promise<{ readonly seq: number; readonly at: number } | null>;

  /**
   * Reads the history of a room, through all epochs of its stream. MUST return null where the position is unknown, or
   * where rows after it may have been deleted, or were published before the archive began.
   */
  history(query: ArchiveQuery): Promise<ArchivePage | null>;

  /** Prepares room for the next days, and deletes rows older than `keepMs`; 0: none. MUST delete the oldest first. */
  tidy(now: number, keepMs: number): Promise<void>;

  stop(): Promise<void>;
}

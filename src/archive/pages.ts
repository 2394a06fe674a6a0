/** A page of a room's history from archived rows: the order of epochs, and what is a gap. Each archive reads its own rows. */
import type { Stored } from "../broker/broker.ts";
import type { ArchivePage, ArchiveQuery, Cursor } from "./archive.ts";

export interface Epoch {
  readonly epoch: string;
  readonly completeFrom: number;
  /** `to` is Infinity where the end is unknown. */
  readonly gaps: readonly { readonly from: number; readonly to: number }[];
}

/** What the archive knows of a stream: its epochs, the oldest first, and how far it is archived. */
export interface Known {
  readonly epochs: readonly Epoch[];
  readonly cursor: Cursor;
}

export type Found = Pick<Stored, "epoch" | "seq" | "sender" | "time" | "format" | "payload" | "key">;

export interface Piece {
  /** Nearest to the position first. */
  readonly rows: readonly Found[];
  /** Seq of the next row, where there is one. */
  readonly beyond: number | null;
}

/** Rows of the room after (before) a sequence. At least one, whatever its bytes. */
export type ReadRows = (epoch: string, seq: number, isForward: boolean, limit: number, bytesMax: number) => Promise<Piece>;

/** Null: the position is unknown, or rows after it may be missing. @param has whether the room has a row there */
export async function pageOf(query: ArchiveQuery, known: Known, rows: ReadRows, has: (epoch: string, seq: number) => Promise<boolean>): Promise<ArchivePage | null> {
  const { direction, position } = query;
  const { epochs, cursor } = known;
  if (direction === "newest") return backward(query, known, rows, epochs.length - 1, Number.MAX_SAFE_INTEGER);
  const at = epochs.findIndex(({ epoch }) => epoch === position.epoch);
  const epoch = epochs[at];
  if (epoch === undefined) return null;
  if (direction === "before") return backward(query, known, rows, at, position.seq);
  const isAhead = epoch.epoch === cursor.epoch && position.seq > cursor.seq;
  if (isAhead || (position.seq + 1 < epoch.completeFrom && !(await has(epoch.epoch, position.seq)))) return null;
  return forward(query, known, rows, at);
}

async function forward({ position, limit, bytesMax, bytesEach = 0 }: ArchiveQuery, { epochs, cursor }: Known, rows: ReadRows, at: number): Promise<ArchivePage> {
  const publications: Stored[] = [];
  let bytes = 0;
  let more = false;
  let gap = false;
  let gapAtEnd = false;
  for (let i = at; i < epochs.length && !more; i++) {
    const { epoch, gaps } = epochs[i]!;
    let after = i === at ? position.seq : 0;
    const left = limit - publications.length;
    const isFull = publications.length > 0 && (left <= 0 || bytes >= bytesMax);
    const piece = await rows(epoch, after, true, isFull ? 1 : left, isFull ? 0 : bytesMax - bytes);
    more = isFull ? piece.rows.length > 0 : piece.beyond !== null;
    for (const row of isFull ? [] : piece.rows) {
      const isAfterGap = gaps.some(({ from, to }) => to > after && from < row.seq);
      publications.push({ ...row, prev: isAfterGap ? row.seq - 1 : after, origin: "" });
      gap ||= isAfterGap;
      bytes += row.payload.length + bytesEach;
      after = row.seq;
    }
    gapAtEnd = !more && gaps.some(({ to }) => to > after);
    gap ||= gapAtEnd;
  }
  const gapAfter = at < epochs.length - 1 || epochs[at]!.gaps.some(({ to }) => to > position.seq);
  return { publications, more, cursor, gap, gapAtEnd, gapAfter };
}

async function backward({ limit, bytesMax, bytesEach = 0 }: ArchiveQuery, { epochs, cursor }: Known, rows: ReadRows, at: number, below: number): Promise<ArchivePage> {
  const publications: Stored[] = [];
  let bytes = 0;
  let more = false;
  let gap = false;
  let gapAtEnd = false;
  for (let i = at; i >= 0 && !more; i--) {
    const { epoch, gaps } = epochs[i]!;
    const end = i === at ? below : Number.MAX_SAFE_INTEGER;
    const left = limit - publications.length;
    const isFull = publications.length > 0 && (left <= 0 || bytes >= bytesMax);
    const piece = await rows(epoch, end, false, isFull ? 1 : left, isFull ? 0 : bytesMax - bytes);
    more = isFull ? piece.rows.length > 0 : piece.beyond !== null;
    const newest = piece.rows[0]?.seq ?? 0;
    const isCut = !isFull && gaps.some(({ from, to }) => to > newest && from < end);
    gapAtEnd ||= isCut && publications.length === 0;
    gap ||= isCut;
    for (const [n, row] of (isFull ? [] : piece.rows).entries()) {
      const before = piece.rows[n + 1]?.seq ?? piece.beyond ?? 0;
      const isAfterGap = gaps.some(({ from, to }) => to > before && from < row.seq);
      publications.push({ ...row, prev: isAfterGap ? row.seq - 1 : before, origin: "" });
      gap ||= isAfterGap;
      bytes += row.payload.length + bytesEach;
    }
  }
  return { publications: publications.reverse(), more, cursor, gap, gapAtEnd, gapAfter: false };
}

/** What a batch of publications becomes in the archive: rows, gaps, and epochs of rooms that begin. */
import { LRUCache } from "lru-cache";
import type { Position } from "../broker/broker.ts";
import type { Archive, ArchivedRow, BegunEpoch, Cursor, Gap, GapReason } from "./archive.ts";
import type { FeedPublication } from "./feed.ts";

export interface Batch {
  readonly rows: readonly ArchivedRow[];
  readonly gaps: readonly Gap[];
  readonly begun: readonly BegunEpoch[];
}

/** Of a stream whose sequences are the positions of its publications. */
export function streamBatch(publications: readonly FeedPublication[], cursor: Cursor, isRefused: boolean): Batch {
  const rows = isRefused ? [] : publications.flatMap(({ seq, at, content }) => (content === null ? [] : [{ seq, at, ...content }]));
  return { rows, gaps: gapsIn(publications, cursor, isRefused), begun: [] };
}

/** Sequences that are missing before or between publications, and messages that are none. */
function gapsIn(publications: readonly FeedPublication[], { epoch, seq: after, completeFrom }: Cursor, isRefused: boolean): Gap[] {
  const gaps: Gap[] = [];
  let next = after + 1;
  for (const { seq, content } of publications) {
    const from = Math.max(next, completeFrom);
    if (from < seq) gaps.push({ epoch, from, to: seq - 1, reason: "dropped" });
    if (content === null || isRefused) gaps.push({ epoch, from: seq, to: seq, reason: isRefused ? "refused" : "unreadable" });
    next = seq + 1;
  }
  return gaps;
}

/** Rooms whose end is remembered here. The archive knows it of the others. */
const roomsMax = 100_000;

/** Of a journal, where each room counts its own publications without a hole. */
export class JournalBatches {
  readonly #archive: Pick<Archive, "ends">;
  readonly #journal: string;
  readonly #ends = new LRUCache<string, Position>({ max: roomsMax });
  /** A part of the journal was deleted before it was archived. Without that no room lacks anything. Null: not known. */
  #hasGaps: boolean | null = null;

  constructor(archive: Pick<Archive, "ends">, journal: string) {
    this.#archive = archive;
    this.#journal = journal;
  }

  /** After an error nobody knows what is stored. */
  forget(): void {
    this.#ends.clear();
  }

  /** Nothing is remembered before `stored`. @param isGap a part of the journal before these was deleted */
  async of(publications: readonly FeedPublication[], cursor: Cursor, isRefused: boolean, isGap: boolean): Promise<Batch & { readonly ends: ReadonlyMap<string, Position> }> {
    if (isGap) this.#hasGaps = true;
    this.#hasGaps ??= ((await this.#archive.ends([this.#journal])).get(this.#journal)?.seq ?? 0) >= cursor.completeFrom;
    const ends = new Map<string, Position>();
    const unknown = new Set<string>();
    for (const { own } of publications) {
      const known = this.#ends.get(own!.stream);
      if (known === undefined) unknown.add(own!.stream);
      else ends.set(own!.stream, known);
    }
    if (unknown.size > 0) for (const [stream, end] of await this.#archive.ends([...unknown])) ends.set(stream, end);
    const batch = { rows: [] as ArchivedRow[], gaps: [] as Gap[], begun: [] as BegunEpoch[], ends };
    for (const one of publications) add(batch, one, { cursor, isRefused, hasGaps: this.#hasGaps });
    return batch;
  }

  stored(ends: ReadonlyMap<string, Position>): void {
    for (const [stream, end] of ends) this.#ends.set(stream, end);
  }
}

/**
 * The journal may have a publication twice, since cleaning copies old ones to its end. What it had when the archive began
 * may therefore be out of order, and publications may be missing there. Neither that is a gap, nor what a room had
 * published before its namespace was archived, nor the last rows of a room where they were erased.
 */
function add({ rows, gaps, begun, ends }: { rows: ArchivedRow[]; gaps: Gap[]; begun: BegunEpoch[]; ends: Map<string, Position> }, one: FeedPublication, { cursor, isRefused, hasGaps }: { readonly cursor: Cursor; readonly isRefused: boolean; readonly hasGaps: boolean }): void {
  const { stream, epoch, seq, isHead } = one.own!;
  const isOld = one.seq < cursor.completeFrom;
  const end = ends.get(stream);
  const isFirst = isOld || end === undefined;
  const isNew = end?.epoch !== epoch;
  const done = isNew ? 0 : end!.seq;
  // The first one that is not missing.
  const from = isHead ? seq + 1 : seq;
  if (isNew) begun.push({ stream, epoch, completeFrom: isFirst ? from : 1 });
  if (from > done + 1) {
    if (!isFirst && hasGaps) gaps.push({ stream, epoch, from: done + 1, to: from - 1, reason: "dropped" });
    else if (isFirst && !isNew) begun.push({ stream, epoch, completeFrom: from });
  }
  if (isNew || seq > done) ends.set(stream, { epoch, seq });
  if (isHead || (seq <= done && !isOld)) return;
  if (one.content === null || isRefused) gaps.push({ stream, epoch, from: seq, to: seq, reason: reasonOf(isRefused) });
  else rows.push({ ...one.content, seq, at: one.at, of: { stream, epoch } });
}

function reasonOf(isRefused: boolean): GapReason {
  return isRefused ? "refused" : "unreadable";
}

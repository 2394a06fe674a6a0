/**
 * Archives one stream, from its cursor on. Each round reads a batch, checks that the stream is still the one the batch
 * was read for, and stores the batch together with the cursor. Whatever fails is repeated from the cursor.
 */
import { RowRefused, type Archive, type Cursor, type Gap } from "./archive.ts";
import { JournalBatches, streamBatch } from "./batches.ts";
import { textOf } from "../postgres/errors.ts";
import type { Feed, FeedPublication, FeedState } from "./feed.ts";

export interface WriterLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** What the writers of a node have done, for metrics. */
export interface ArchiveCounts {
  rows: number;
  gaps: number;
  /** Publications in gaps, as far as their number is known. */
  missing: number;
  failures: number;
}

export interface WriterOptions {
  readonly feed: Feed;
  readonly archive: Archive;
  readonly counts: ArchiveCounts;
  /** The cursor, where this node still has the stream; undefined: it has not. */
  readonly retake: () => Promise<Cursor | null | undefined>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly retryMs: number;
  readonly log: WriterLog;
}

/** Publications of one write. */
const batchMax = 2000;

/** Where a batch ends. */
type End = Pick<Cursor, "seq" | "at">;

export class Writer {
  /** Publications of the stream that are not archived, as far as known. */
  pending = 0;
  readonly #options: WriterOptions;
  #stopped = false;
  #wake: () => void = () => undefined;
  /** Stream time, in milliseconds, of the oldest publication that waits; 0: none does. */
  #waitingSince = 0;
  #failing = false;
  /** Null: the sequences of the stream are the positions of its publications. */
  readonly #batches: JournalBatches | null;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#batches = options.feed.isJournal === true ? new JournalBatches(options.archive, options.feed.stream) : null;
  }

  get stream(): string {
    return this.#options.feed.stream;
  }

  get lagMs(): number {
    return this.#waitingSince === 0 ? 0 : Math.max(0, this.#options.now() - this.#waitingSince);
  }

  /** Ends after the write under way. */
  stop(): void {
    this.#stopped = true;
    this.#options.feed.pause();
    this.#wake();
  }

  /** Runs until it is stopped, or another writer has the stream. Never rejects. */
  async run(taken: Cursor | null): Promise<void> {
    let cursor: Cursor | null = taken;
    let isCertain = true;
    while (!this.#stopped) {
      try {
        // After an error nobody knows whether the last write took place.
        const known: Cursor | null | undefined = isCertain ? cursor : await this.#options.retake();
        if (known === undefined) return;
        isCertain = true;
        const next: Cursor | null = await this.#round(known);
        if (next === null) return this.#fenced();
        cursor = next;
        this.#succeeded();
      } catch (error) {
        if (this.#stopped) return;
        isCertain = false;
        this.#batches?.forget();
        this.#failed(error);
        await this.#look(cursor);
        await this.#pause();
      }
    }
  }

  /** @returns the cursor afterwards; null: another writer has moved it. */
  async #round(cursor: Cursor | null): Promise<Cursor | null> {
    const { feed } = this.#options;
    const state = await feed.state();
    if (cursor === null || cursor.epoch !== state.epoch) return this.#begin(cursor, state);
    feed.archived?.(cursor.seq);
    const { publications, pending, upTo, dropped } = await feed.read(cursor.seq, cursor.at, batchMax);
    const [oldest, newest] = [publications[0], publications.at(-1)];
    this.#waits(oldest, pending + publications.length);
    const end = upTo ?? newest;
    if (end === undefined) return cursor;
    // The batch belongs to this epoch only if the stream still has it.
    if ((await feed.state()).epoch !== cursor.epoch) return cursor;
    const lost = (dropped ?? []).map((part): Gap => ({ epoch: cursor.epoch, ...part, reason: "dropped" }));
    const moved = await this.#store(cursor, publications, end, lost);
    if (moved !== null) this.#waits(pending === 0 ? undefined : newest, pending);
    return moved;
  }

  #waits(oldest: FeedPublication | undefined, pending: number): void {
    this.pending = pending;
    this.#waitingSince = oldest === undefined ? 0 : oldest.at / 1000;
  }

  /** @param end how far the cursor moves @param lost parts of a journal that are not there any more */
  async #store(cursor: Cursor, publications: readonly FeedPublication[], end: End, lost: readonly Gap[]): Promise<Cursor | null> {
    try {
      return await this.#append(cursor, publications, end, lost);
    } catch (error) {
      if (!(error instanceof RowRefused) || publications.length === 0) throw error;
      return this.#storeOthers(cursor, publications, end, lost, error);
    }
  }

  async #append(cursor: Cursor, publications: readonly FeedPublication[], { seq, at }: End, lost: readonly Gap[], isRefused = false): Promise<Cursor | null> {
    const { archive, counts } = this.#options;
    const inJournal = await this.#batches?.of(publications, cursor, isRefused, lost.length > 0);
    const { rows, gaps: missing, begun } = inJournal ?? streamBatch(publications, cursor, isRefused);
    const to = { ...cursor, seq, at };
    const gaps = [...lost, ...missing];
    if (!(await archive.append(this.stream, cursor, to, rows, gaps, begun))) return null;
    if (inJournal !== undefined) this.#batches!.stored(inJournal.ends);
    counts.rows += rows.length;
    this.#note(gaps);
    return to;
  }

  /** The archive refuses a row: the batch is halved until the row is known. It becomes a gap, and the others are stored. */
  async #storeOthers(cursor: Cursor, publications: readonly FeedPublication[], end: End, lost: readonly Gap[], { message }: RowRefused): Promise<Cursor | null> {
    if (publications.length > 1) {
      const half = publications.length >> 1;
      const early = publications.slice(0, half);
      const first = await this.#store(cursor, early, early.at(-1)!, lost);
      return first === null ? null : this.#store(first, publications.slice(half), end, []);
    }
    const { seq } = publications[0]!;
    this.#options.log.error({ stream: this.stream, seq, problem: message }, "archive: PostgreSQL refuses a publication for its content; it is not archived, and noted as a gap");
    return this.#append(cursor, publications, end, lost, true);
  }

  /** The stream is new to the archive, or has another epoch than the cursor. */
  async #begin(cursor: Cursor | null, { epoch, first, last }: FeedState): Promise<Cursor | null> {
    const { archive, log } = this.#options;
    if (cursor === null) return archive.begin(this.stream, null, { epoch, seq: Math.max(0, first - 1), at: 0, completeFrom: last + 1 }, null);
    const shared = await this.#sharedUpTo(cursor, first, last);
    const lost: Gap = { epoch: cursor.epoch, from: Math.max(cursor.seq, shared.seq) + 1, to: null, reason: "lost" };
    const begun = await archive.begin(this.stream, cursor, { epoch, ...shared, completeFrom: shared.seq + 1 }, lost);
    if (begun === null) return null;
    log.error({ stream: this.stream, archived: cursor.seq, continues: begun.seq + 1 }, "archive: the stream was lost or set back and has a new epoch; publications after the archived ones may be missing, and a gap is noted");
    this.#note([lost]);
    return begun;
  }

  /**
   * The newest row that the stream still has: none where the stream was created again, the last one left where it was set
   * back. What is the same has the same time at the same sequence, and nothing after the first difference is.
   */
  async #sharedUpTo({ epoch, seq: archived }: Cursor, first: number, last: number): Promise<{ seq: number; at: number }> {
    const { feed, archive } = this.#options;
    let shared = { seq: 0, at: 0 };
    let high = Math.min(archived, last);
    for (let low = 0, probe = high; low < high; probe = Math.ceil((low + high) / 2)) {
      const row = await archive.rowBefore(this.stream, epoch, probe);
      if (row === null || row.seq <= shared.seq || row.seq < first) {
        low = probe; // no row in between
      } else if ((await feed.timeAt(row.seq)) === row.at) {
        shared = row;
        low = probe;
      } else {
        high = row.seq - 1;
      }
    }
    return shared;
  }

  #note(gaps: readonly Gap[]): void {
    const { counts, log, feed } = this.#options;
    const inJournal = feed.isJournal === true;
    const raise = inJournal ? "dataBytesMax" : "archiveLagBytesMax";
    for (const { stream, from, to, reason } of gaps) {
      counts.gaps++;
      const isPart = inJournal && stream === undefined;
      // A part of a journal is bytes, and the gaps of its rooms follow. Those have no line each: they may be thousands.
      if (to !== null && !isPart) counts.missing += to - from + 1;
      if (reason === "dropped" && (isPart || !inJournal)) log.error({ stream: this.stream, from, to }, `archive: the stream dropped publications before they were archived, and a gap is noted; raise archiveLagMs or ${raise}, and see why the archive lags`);
      if (reason === "unreadable") log.warn({ stream: this.stream, from, to }, "archive: a message of another program is not archived, and noted as a gap; check who may publish to the subjects of the gateway");
    }
  }

  #fenced(): void {
    if (!this.#stopped) this.#options.log.info({ stream: this.stream }, "archive: another node archives the stream now");
  }

  #succeeded(): void {
    if (this.#failing) this.#options.log.info({ stream: this.stream }, "archive: the stream is archived again");
    this.#failing = false;
  }

  #failed(error: unknown): void {
    const { counts, log } = this.#options;
    counts.failures++;
    if (!this.#failing) log.warn({ stream: this.stream, problem: textOf(error) }, "archive: the stream cannot be archived now; the node retries until it can");
    this.#failing = true;
  }

  /** How much waits, while nothing can be stored. */
  async #look(cursor: Cursor | null): Promise<void> {
    const state = await this.#options.feed.state().catch(() => null);
    if (state === null || cursor?.epoch !== state.epoch) return;
    this.pending = this.#options.feed.pendingAfter?.(cursor.seq) ?? Math.max(0, state.last - Math.max(cursor.seq, state.first - 1));
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#options.retryMs);
      this.#wake = () => (clearTimeout(timer), resolve());
    });
  }
}

/**
 * Archives one stream, from its cursor on. Each round reads a batch, checks that the stream is still the one the batch
 * was read for, and stores the batch together with the cursor. Whatever fails is repeated from the cursor.
 */
import { RowRefused, type Archive, type ArchivedRow, type Cursor, type Gap } from "./archive.ts";
import { textOf } from "../postgres/connection.ts";
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

export class Writer {
  /** Publications of the stream that are not archived, as far as known. */
  pending = 0;
  readonly #options: WriterOptions;
  #stopped = false;
  #wake: () => void = () => undefined;
  /** Stream time, in milliseconds, of the oldest publication that waits; 0: none does. */
  #waitingSince = 0;
  #failing = false;

  constructor(options: WriterOptions) {
    this.#options = options;
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
    const { publications, pending } = await feed.read(cursor.seq, cursor.at, batchMax);
    const [oldest, newest] = [publications[0], publications.at(-1)];
    this.#waits(oldest, pending + publications.length);
    if (newest === undefined) return cursor;
    // The batch belongs to this epoch only if the stream still has it.
    if ((await feed.state()).epoch !== cursor.epoch) return cursor;
    const moved = await this.#store(cursor, publications);
    if (moved !== null) this.#waits(pending === 0 ? undefined : newest, pending);
    return moved;
  }

  #waits(oldest: FeedPublication | undefined, pending: number): void {
    this.pending = pending;
    this.#waitingSince = oldest === undefined ? 0 : oldest.at / 1000;
  }

  async #store(cursor: Cursor, publications: readonly FeedPublication[]): Promise<Cursor | null> {
    const { archive, counts } = this.#options;
    const { seq, at } = publications.at(-1)!;
    const to = { ...cursor, seq, at };
    const gaps = gapsIn(publications, cursor);
    const rows = publications.flatMap(rowOf);
    try {
      if (!(await archive.append(this.stream, cursor, to, rows, gaps))) return null;
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error;
      return this.#storeOthers(cursor, publications, error);
    }
    counts.rows += rows.length;
    this.#note(gaps);
    return to;
  }

  /** The archive refuses a row: the batch is halved until the row is known. It becomes a gap, and the others are stored. */
  async #storeOthers(cursor: Cursor, publications: readonly FeedPublication[], { message }: RowRefused): Promise<Cursor | null> {
    if (publications.length > 1) {
      const half = publications.length >> 1;
      const first = await this.#store(cursor, publications.slice(0, half));
      return first === null ? null : this.#store(first, publications.slice(half));
    }
    const { seq, at } = publications[0]!;
    const to = { ...cursor, seq, at };
    const gaps: Gap[] = [...gapsIn(publications, cursor), { epoch: cursor.epoch, from: seq, to: seq, reason: "refused" }];
    this.#options.log.error({ stream: this.stream, seq, problem: message }, "archive: PostgreSQL refuses a publication for its content; it is not archived, and noted as a gap");
    if (!(await this.#options.archive.append(this.stream, cursor, to, [], gaps))) return null;
    this.#note(gaps);
    return to;
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
    const { counts, log } = this.#options;
    for (const { from, to, reason } of gaps) {
      counts.gaps++;
      if (to !== null) counts.missing += to - from + 1;
      if (reason === "dropped") log.error({ stream: this.stream, from, to }, "archive: the stream dropped publications before they were archived, and a gap is noted; raise archiveLagMs or archiveLagBytesMax, and see why the archive lags");
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
    this.pending = Math.max(0, state.last - Math.max(cursor.seq, state.first - 1));
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#options.retryMs);
      this.#wake = () => (clearTimeout(timer), resolve());
    });
  }
}

function rowOf({ seq, at, content }: FeedPublication): ArchivedRow[] {
  return content === null ? [] : [{ seq, at, ...content }];
}

/** Sequences that are missing before or between publications, and messages that are none. */
function gapsIn(publications: readonly FeedPublication[], { epoch, seq: after, completeFrom }: Cursor): Gap[] {
  const gaps: Gap[] = [];
  let next = after + 1;
  for (const { seq, content } of publications) {
    const from = Math.max(next, completeFrom);
    if (from < seq) gaps.push({ epoch, from, to: seq - 1, reason: "dropped" });
    if (content === null) gaps.push({ epoch, from: seq, to: seq, reason: "unreadable" });
    next = seq + 1;
  }
  return gaps;
}

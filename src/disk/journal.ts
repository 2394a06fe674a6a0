/**
 * A journal: records in files, made durable together. What arrives while a commit is being written goes into the next
 * one, so that one sync of the disk serves all of them, and the thread that appends never waits for the disk.
 *
 * Whoever appends is told when its record is durable, in the order of appending; until then nobody may be told of it.
 * Where a commit fails, it and everything that waits behind it has failed, and nothing of it is in the files.
 */
import { fileHeadBytes, frameHeadBytes, sealFrame } from "./frames.ts";
import { createSegment, type Segment } from "./segment.ts";

/** What waits for a record to be durable. One of the two is called, once. */
export interface Waiting {
  committed(segment: Segment, at: number): void;
  failed(): void;
}

export interface JournalOptions {
  readonly folder: string;
  /** A file that has grown to this is followed by the next. */
  readonly segmentBytes: number;
  /** Bytes of records that may wait for their commit. */
  readonly uncommittedBytesMax: number;
  /** Whether a commit is answered when it is on the disk, or when the operating system has it. */
  readonly sync: boolean;
  readonly log: JournalLog;
}

/** What the journal needs of the node's log. */
export interface JournalLog {
  error(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  info(fields: object, text: string): void;
}

/** What is counted, for metrics. */
export interface JournalCounts {
  commits: number;
  failedCommits: number;
  records: number;
  bytes: number;
  /** Commits by how long they took, in the steps of `commitBucketsMs`, and the sum of it. */
  readonly buckets: number[];
  sumMs: number;
}

/** What a journal says of itself. */
export interface DiskUsage {
  readonly bytes: number;
  readonly uncommittedBytes: number;
  readonly failing: boolean;
  readonly counts: JournalCounts;
}

export const commitBucketsMs = [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000] as const;

/** After a failed commit this long everything is refused at once, then the disk is tried again. */
const retryMs = 1000;
/**
 * Whoever was answered by a commit often has the next record soon: the next commit waits for as many as there were, for
 * this share of what the last one took. Else half of the publishers would always wait for the other half's commit.
 */
const gatherShare = 0.5;
const gatherMsMax = 10;
/** Timers are no finer. */
const gatherMsMin = 1;
const batchBytesMin = 256 * 1024;
/** A buffer that has grown beyond this is not kept. */
const batchBytesKept = 4 * 1024 * 1024;

interface Batch {
  buffer: Buffer;
  used: number;
  readonly waiting: Waiting[];
  /** Told when all of those have been. */
  readonly settled: (() => void)[];
  /** Where in the buffer the record of each lies. */
  readonly starts: number[];
}

export class Journal {
  readonly counts: JournalCounts = {
    commits: 0, failedCommits: 0, records: 0, bytes: 0, buckets: new Array<number>(commitBucketsMs.length + 1).fill(0), sumMs: 0,
  };
  /** Oldest first; the last is written to. */
  readonly segments: Segment[];
  readonly #options: JournalOptions;
  readonly #free: Batch[] = [];
  /** Of all files but the last. */
  #olderBytes: number;
  #forming: Batch = newBatch();
  #writing: Batch | null = null;
  #scheduled = false;
  /** How many records the next commit is to have, and until when it waits for them. */
  #expected = 0;
  #gatherUntil = 0;
  #gathering: NodeJS.Timeout | null = null;
  #rollWanted = false;
  #failingSince = 0;
  #retryAt = 0;
  #idle: (() => void)[] = [];

  constructor(options: JournalOptions, segments: Segment[]) {
    this.#options = options;
    this.segments = segments;
    this.#olderBytes = segments.slice(0, -1).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get head(): Segment {
    return this.segments.at(-1)!;
  }

  get uncommittedBytes(): number {
    return this.#forming.used + (this.#writing?.used ?? 0) - frameHeadBytes * (this.#writing === null ? 1 : 2);
  }

  get bytes(): number {
    return this.#olderBytes + this.head.bytes;
  }

  get failing(): boolean {
    return this.#failingSince > 0;
  }

  /** Why a record of this length would be refused now; null where it would not. */
  refusal(length: number): "overloaded" | "unavailable" | null {
    if (this.#failingSince > 0 && (performance.now() < this.#retryAt || this.#writing !== null)) return "unavailable";
    return this.uncommittedBytes + length > this.#options.uncommittedBytesMax ? "overloaded" : null;
  }

  /** Room for a record in the next commit, to be written before anything else happens. Ask for `refusal` first. */
  append(length: number, waiting: Waiting): Buffer {
    const batch = this.#forming;
    const start = batch.used;
    if (start + length > batch.buffer.length) grow(batch, start + length);
    batch.used = start + length;
    batch.waiting.push(waiting);
    batch.starts.push(start);
    if (this.#writing === null && !this.#scheduled) this.#plan();
    const record = batch.buffer.subarray(start, start + length);
    record.writeUInt32LE(length, 0);
    return record;
  }

  /** What is appended from here on goes into a new file. */
  roll(): void {
    this.#rollWanted = true;
  }

  /** Resolves when all that was appended until now is durable or has failed. */
  settled(): Promise<void> {
    const batch = this.#forming.waiting.length > 0 ? this.#forming : this.#writing;
    return batch === null ? Promise.resolve() : new Promise((resolve) => batch.settled.push(resolve));
  }

  /** Resolves when nothing waits any more: while there is much to do that is never. */
  async idle(): Promise<void> {
    while (this.#writing !== null || this.#forming.waiting.length > 0) {
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  async close(): Promise<void> {
    await this.idle();
    await Promise.all(this.segments.map(({ file }) => file.close()));
  }

  /** Takes a file away, of which nothing is needed any more. */
  async remove(segment: Segment): Promise<void> {
    this.segments.splice(this.segments.indexOf(segment), 1);
    this.#olderBytes -= segment.bytes;
    await segment.remove();
  }

  /** Begins the next commit now, or when it has what is expected of it. */
  #plan(): void {
    if (this.#forming.waiting.length < this.#expected && performance.now() < this.#gatherUntil) {
      this.#gathering ??= setTimeout(() => this.#schedule(), this.#gatherUntil - performance.now());
    } else this.#schedule();
  }

  /** At the end of this turn: what comes in with it goes into the same commit. */
  #schedule(): void {
    if (this.#gathering !== null) clearTimeout(this.#gathering);
    this.#gathering = null;
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#writing === null) this.#next();
    });
  }

  #next(): void {
    const batch = this.#forming;
    if (batch.waiting.length === 0) {
      for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    this.#forming = this.#free.pop() ?? newBatch();
    this.#writing = batch;
    const began = performance.now();
    this.#write(batch).then(
      ([segment, at]) => {
        const ms = performance.now() - began;
        this.#count(batch, ms);
        this.#expected = batch.waiting.length + this.#forming.waiting.length;
        this.#writing = null;
        const gatherMs = Math.min(gatherMsMax, ms * gatherShare);
        // A quick disk gets its next work before those who waited are told.
        if (gatherMs < gatherMsMin) this.#next();
        else this.#gatherUntil = began + ms + gatherMs;
        this.#settle(batch, segment, at);
        if (this.#writing === null && !this.#scheduled) {
          if (this.#forming.waiting.length > 0) this.#plan();
          else this.#next();
        }
      },
      (error: unknown) => this.#failed(batch, error),
    );
  }

  async #write(batch: Batch): Promise<[Segment, number]> {
    const frame = batch.buffer.subarray(0, batch.used);
    const { folder, segmentBytes, sync } = this.#options;
    const full = this.head.bytes > fileHeadBytes && this.head.bytes + frame.length > segmentBytes;
    if (this.#rollWanted || full) {
      const segment = await createSegment(folder, this.head.id + 1, sync);
      this.#olderBytes += this.head.bytes;
      this.segments.push(segment);
      this.#rollWanted = false;
    }
    const segment = this.head;
    sealFrame(frame, segment.salt);
    return [segment, await segment.append(frame)];
  }

  #settle(batch: Batch, segment: Segment, at: number): void {
    for (let i = 0; i < batch.waiting.length; i++) {
      try {
        batch.waiting[i]!.committed(segment, at + batch.starts[i]!);
      } catch (error) {
        this.#options.log.error({ err: error }, "journal: what was to follow a commit failed");
      }
    }
    this.#release(batch);
  }

  #failed(batch: Batch, error: unknown): void {
    this.counts.failedCommits++;
    const { folder, log } = this.#options;
    if (this.#failingSince === 0) {
      this.#failingSince = Date.now();
      log.error({ err: error, folder }, "the disk does not take what is published; it is refused until the disk does");
    }
    this.#retryAt = performance.now() + retryMs;
    const behind = this.#forming;
    this.#forming = this.#free.pop() ?? newBatch();
    this.#writing = null;
    for (const { waiting } of [batch, behind]) {
      for (const one of waiting) {
        try {
          one.failed();
        } catch (another) {
          log.error({ err: another }, "journal: what was to follow a failed commit failed");
        }
      }
    }
    this.#release(batch);
    this.#release(behind);
    this.#next();
  }

  #count(batch: Batch, ms: number): void {
    const { counts } = this;
    counts.commits++;
    counts.records += batch.waiting.length;
    counts.bytes += batch.used;
    counts.sumMs += ms;
    const bucket = commitBucketsMs.findIndex((most) => ms <= most);
    counts.buckets[bucket < 0 ? commitBucketsMs.length : bucket]!++;
    if (this.#failingSince === 0) return;
    const seconds = Math.round((Date.now() - this.#failingSince) / 1000);
    this.#options.log.warn({ folder: this.#options.folder, seconds }, "the disk takes what is published again");
    this.#failingSince = 0;
  }

  #release(batch: Batch): void {
    for (const resolve of batch.settled.splice(0)) resolve();
    batch.used = frameHeadBytes;
    batch.waiting.length = 0;
    batch.starts.length = 0;
    if (batch.buffer.length <= batchBytesKept && this.#free.length < 3) this.#free.push(batch);
  }
}

function newBatch(): Batch {
  return { buffer: Buffer.allocUnsafeSlow(batchBytesMin), used: frameHeadBytes, waiting: [], settled: [], starts: [] };
}

/** Records that lie in the old buffer already stay there for those who look at them; they are copied. */
function grow(batch: Batch, need: number): void {
  let size = batch.buffer.length * 2;
  while (size < need) size *= 2;
  const buffer = Buffer.allocUnsafeSlow(size);
  batch.buffer.copy(buffer, 0, 0, batch.used);
  batch.buffer = buffer;
}

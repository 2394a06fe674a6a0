/**
 * A journal: records in files, committed together. Records that arrive during a commit go into the next one. So one
 * sync serves all of them, and the appending thread never waits for the disk.
 *
 * The journal calls back once a record is durable, in the order of appending. Nobody may see the record before that. A
 * failed commit fails with every record queued behind it, and the files contain none of them.
 */
import { fileHeadBytes, frameHeadBytes, sealFrame } from "./frames.ts";
import { createSegment, type Segment } from "./segment.ts";
import { syncFolder } from "./whole.ts";

/** Called back once for a record: `committed` or `failed`. */
export interface Waiting {
  committed(segment: Segment, at: number): void;
  failed(): void;
}

export interface JournalOptions {
  readonly folder: string;
  /** Size at which the journal starts the next file. */
  readonly segmentBytes: number;
  /** Bytes of records that may wait for a commit. */
  readonly uncommittedBytesMax: number;
  /** Whether a commit counts as done once the disk has it, or once the operating system has it. */
  readonly sync: boolean;
  readonly log: JournalLog;
}

/** The part of the node's log that the journal uses. */
export interface JournalLog {
  error(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  info(fields: object, text: string): void;
}

/** Counters for metrics. */
export interface JournalCounts {
  commits: number;
  failedCommits: number;
  records: number;
  bytes: number;
  /** Commits by duration, in the steps of `commitBucketsMs`, and the sum of all durations. */
  readonly buckets: number[];
  sumMs: number;
}

/** State of a journal, for metrics. */
export interface DiskUsage {
  readonly bytes: number;
  readonly uncommittedBytes: number;
  readonly failing: boolean;
  readonly counts: JournalCounts;
}

export const commitBucketsMs = [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000] as const;

/** Time after a failed commit in which the journal rejects every record. Then it tries the disk again. */
const retryMs = 1000;
/**
 * A publisher whose commit is acknowledged often sends its next record at once. So the next commit waits for as many
 * records as the last had, for this share of its duration. Otherwise half of the publishers would always wait for the
 * commit of the other half.
 */
const gatherShare = 0.5;
const gatherMsMax = 10;
/** Timers are no finer than this. */
const gatherMsMin = 1;
const batchBytesMin = 256 * 1024;
/** Larger buffers are not reused. */
const batchBytesKept = 4 * 1024 * 1024;

interface Batch {
  buffer: Buffer;
  used: number;
  readonly waiting: Waiting[];
  /** Called after all callbacks of the batch. */
  readonly settled: (() => void)[];
  /** Offset of each record in the buffer. */
  readonly starts: number[];
}

export class Journal {
  readonly counts: JournalCounts = {
    commits: 0, failedCommits: 0, records: 0, bytes: 0, buckets: new Array<number>(commitBucketsMs.length + 1).fill(0), sumMs: 0,
  };
  /** Oldest first. The journal writes to the last. */
  readonly segments: Segment[];
  readonly #options: JournalOptions;
  readonly #free: Batch[] = [];
  /** Bytes of all files but the last. */
  #olderBytes: number;
  #forming: Batch = newBatch();
  #writing: Batch | null = null;
  #scheduled = false;
  /** Records the next commit waits for, and until when. */
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

  /** Why a record of this length would be rejected now, or null. */
  refusal(length: number): "overloaded" | "unavailable" | null {
    if (this.#failingSince > 0 && (performance.now() < this.#retryAt || this.#writing !== null)) return "unavailable";
    return this.uncommittedBytes + length > this.#options.uncommittedBytesMax ? "overloaded" : null;
  }

  /** Reserves space for a record in the next commit; the caller fills it synchronously, after asking `refusal`. */
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

  /** Later records go into a new file. */
  roll(): void {
    this.#rollWanted = true;
  }

  /** Resolves when every record appended so far is durable or has failed. */
  settled(): Promise<void> {
    const batch = this.#forming.waiting.length > 0 ? this.#forming : this.#writing;
    return batch === null ? Promise.resolve() : new Promise((resolve) => batch.settled.push(resolve));
  }

  /** Resolves when the disk has what is committed now in the files of these numbers: at once, where commits wait for the disk anyway. */
  async synced(from: number, to = Infinity): Promise<void> {
    const { folder, sync } = this.#options;
    if (sync) return;
    await Promise.all(this.segments.filter(({ id }) => id >= from && id <= to).map(({ file }) => file.datasync()));
    await syncFolder(folder); // the files may be new
  }

  /** Resolves when no record waits: under constant load, never. */
  async idle(): Promise<void> {
    while (this.#writing !== null || this.#forming.waiting.length > 0) {
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  async close(): Promise<void> {
    await this.idle();
    await Promise.all(this.segments.map(({ file }) => file.close()));
  }

  /** Deletes a file that nothing needs any more. */
  async remove(segment: Segment): Promise<void> {
    this.segments.splice(this.segments.indexOf(segment), 1);
    this.#olderBytes -= segment.bytes;
    await segment.remove();
  }

  /** Starts the next commit now, or once the expected records have arrived. */
  #plan(): void {
    if (this.#forming.waiting.length < this.#expected && performance.now() < this.#gatherUntil) {
      this.#gathering ??= setTimeout(() => this.#schedule(), this.#gatherUntil - performance.now());
    } else this.#schedule();
  }

  /** Commits at the end of this turn of the event loop, so that all records of the turn share one commit. */
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
        // A fast disk gets its next commit before the callbacks of this one run.
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
        this.#options.log.error({ err: error }, "journal: a callback threw after a commit; the record is durable");
      }
    }
    this.#release(batch);
  }

  #failed(batch: Batch, error: unknown): void {
    this.counts.failedCommits++;
    const { folder, log } = this.#options;
    if (this.#failingSince === 0) {
      this.#failingSince = Date.now();
      log.error({ err: error, folder }, "disk write failed: durable publishes are rejected until it recovers; check the disk's free space and health");
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
          log.error({ err: another }, "journal: a callback threw after a failed commit");
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
    this.#options.log.warn({ folder: this.#options.folder, seconds }, "disk writes succeed again: durable publishes are accepted");
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

/** Copies the records. Callers that hold a slice of the old buffer keep it. */
function grow(batch: Batch, need: number): void {
  let size = batch.buffer.length * 2;
  while (size < need) size *= 2;
  const buffer = Buffer.allocUnsafeSlow(size);
  batch.buffer.copy(buffer, 0, 0, batch.used);
  batch.buffer = buffer;
}

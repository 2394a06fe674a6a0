/**
 * A state in memory and its changes in a journal, a line of JSON each, so that the state can be read again at start. A
 * failed write is not lost: memory has it, and the journal is rewritten from memory when the disk works again.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { DiskUsage, Journal, JournalLog, Waiting } from "./journal.ts";
import { openJournal } from "./opening.ts";

export interface LinesOptions<Line> {
  readonly folder: string;
  readonly sync: boolean;
  readonly uncommittedBytesMax: number;
  readonly log: JournalLog;
  /** What the journal holds, for the log: "sessions". */
  readonly what: string;
  /** Called for each line found, in order. */
  read(line: Line): void;
  /** The whole state. Each line is made from the current state when it is taken. */
  all(): Generator<Line>;
}

const segmentBytes = 64 * 1024 * 1024;
/** The journal is rewritten once it has this size, and has grown by this factor since the last rewrite. */
const rewriteBytesMin = 4 * 1024 * 1024;
const rewriteFactor = 3;
/** Lines that a rewrite writes in one turn of the loop. */
const sliceLines = 1000;
const lineHeadBytes = 4;

/** @throws DataDirError */
export async function openLines<Line>(options: LinesOptions<Line>): Promise<Lines<Line>> {
  const journal = await openJournal({ ...options, segmentBytes }, (record) => options.read(JSON.parse(record.toString("utf8", lineHeadBytes)) as Line));
  return new Lines(journal, options);
}

export class Lines<Line> implements Waiting {
  readonly #journal: Journal;
  readonly #options: LinesOptions<Line>;
  /** Some change is only in memory: everything has to be written again. */
  #behind = false;
  #rewriting: Promise<void> | null = null;
  #rewrittenBytes: number;
  #stopped = false;

  constructor(journal: Journal, options: LinesOptions<Line>) {
    this.#journal = journal;
    this.#options = options;
    this.#rewrittenBytes = journal.bytes / rewriteFactor;
  }

  write(line: Line): void {
    const text = JSON.stringify(line);
    const length = lineHeadBytes + Buffer.byteLength(text);
    if (this.#journal.refusal(length) !== null) this.#behind = true;
    else this.#journal.append(length, this).write(text, lineHeadBytes);
  }

  /**
   * Like `write`, and answers when the disk has it. If the commit fails, memory has it, and a rewrite brings it to disk.
   * @param change changes memory, or says why it does not
   */
  store<Refusal>(line: Line, change: () => Refusal | null, done: (error: Refusal | "overloaded" | "unavailable" | null) => void): void {
    const text = JSON.stringify(line);
    const length = lineHeadBytes + Buffer.byteLength(text);
    const error = this.#journal.refusal(length) ?? change();
    if (error !== null) return done(error);
    const failed = () => {
      this.#behind = true;
      done("unavailable");
    };
    this.#journal.append(length, { committed: () => done(null), failed }).write(text, lineHeadBytes);
  }

  committed(): void {}

  failed(): void {
    this.#behind = true;
  }

  /** Rewrites the journal where that is due. */
  tidy(): void {
    const grown = this.#journal.bytes > Math.max(rewriteBytesMin, rewriteFactor * this.#rewrittenBytes);
    if (this.#stopped || this.#rewriting !== null || !(grown || this.#behind)) return;
    this.#rewriting = this.#rewrite()
      .catch((error: unknown) => this.#failedToRewrite(error))
      .finally(() => (this.#rewriting = null));
  }

  #failedToRewrite(error: unknown): void {
    this.#options.log.error({ err: error }, `rewriting the ${this.#options.what} journal failed: the old files stay and the node retries`);
  }

  usage(): DiskUsage {
    const { bytes, uncommittedBytes, failing, counts } = this.#journal;
    return { bytes, uncommittedBytes, failing, counts };
  }

  async stop(): Promise<void> {
    await this.#rewriting;
    // Whatever fails here, the file is closed and the node goes on to close.
    if (this.#behind) await this.#rewrite().catch((error: unknown) => this.#failedToRewrite(error));
    this.#stopped = true;
    await this.#journal.idle();
    if (this.#behind) this.#options.log.error({}, `${this.#options.what} could not be written to disk before the exit: the latest changes are lost`);
    await this.#journal.close();
  }

  /**
   * Writes everything into a new file, then removes the older ones. A change made meanwhile lies behind the line that
   * this writes about the same thing. Each line is made from the current state when it is written, and every wait comes
   * before that.
   */
  async #rewrite(): Promise<void> {
    this.#behind = false;
    const old = this.#journal.segments.slice();
    this.#journal.roll();
    const lines = this.#options.all();
    for (let n = 1; ; n++) {
      if (n % sliceLines === 0) await nextTurn();
      // Half of the queue is left to changes made meanwhile: if one were refused, all would have to be written again.
      if (this.#journal.refusal(this.#options.uncommittedBytesMax / 2) === "overloaded") await this.#journal.settled();
      const next = lines.next();
      if (next.done === true) break;
      this.write(next.value);
      if (this.#behind) return;
    }
    await this.#journal.settled();
    if (this.#behind) return;
    await this.#journal.synced(old.at(-1)!.id + 1);
    for (const segment of old) await this.#journal.remove(segment);
    this.#rewrittenBytes = this.#journal.bytes;
  }
}

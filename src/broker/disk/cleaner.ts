/**
 * Frees disk space. Deletes files of the journal with nothing left to keep. When space runs out, copies the live
 * records of the emptiest file to the end of the journal, and deletes that file.
 */
import { framesOf } from "../../disk/reading.ts";
import type { Journal, JournalLog, Waiting } from "../../disk/journal.ts";
import type { Segment } from "../../disk/segment.ts";
import type { Hold } from "./hold.ts";
import { readRecord, recordKinds, recordLength, writeRecord, type Found } from "./records.ts";
import { firstKept, headOf, type LogRoom, type Stock } from "./stock.ts";

export interface CleanerOptions {
  readonly journal: Journal;
  readonly stock: Stock;
  readonly dataBytesMax: number;
  /** Part of them reserved for copies. */
  readonly spareBytes: number;
  readonly keyWindowMs: number;
  /** The system's. */
  readonly clock: () => number;
  /** As that of the stock. */
  readonly steady: () => number;
  /** Null: nothing is archived. */
  readonly hold: Hold | null;
  readonly log: JournalLog;
}

/** Cleaning starts at this share of the limit. */
export const fillingShare = 0.8;
/** Files that are fuller than this are not worth copying, where others wait for the archive. */
const fullShare = 0.9;
/** Commits after the copies of a file, unless nobody publishes. */
const commitsBetween = 16;
/** From this share on, keys of deleted publications are not copied: new publications need the space. */
const pressedShare = 0.9;
const nothing = new Uint8Array(0);

export class Cleaner {
  readonly #options: CleanerOptions;
  /** Files that could not be read; cleaning skips them. */
  readonly #unreadable = new Set<Segment>();
  /** Files that something was copied out of, and the number of the first file that has some of it. */
  readonly #copied = new WeakMap<Segment, number>();
  /** Files that go once the disk has what was copied out of them. */
  readonly #emptied = new Set<Segment>();
  #syncing: Promise<void> | null = null;
  /** The journal deletes what is not archived, and this has been logged. */
  #gaveUp = false;
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(options: CleanerOptions) {
    this.#options = options;
    // An earlier process may have copied out of any of them.
    for (const segment of options.journal.segments) this.#copied.set(segment, segment.id + 1);
  }

  /** Whether this many more bytes would exceed the limit until something is cleaned. */
  isFull(bytes: number): boolean {
    if (this.#fits(bytes)) return false;
    if (this.#emptied.size > 0) void this.#makeRoom().catch((error: unknown) => this.#failed(error));
    if (this.#fits(bytes)) return false;
    this.tidy();
    return true;
  }

  #fits(bytes: number): boolean {
    const { journal, dataBytesMax, spareBytes } = this.#options;
    return journal.bytes + journal.uncommittedBytes + bytes <= dataBytesMax - spareBytes;
  }

  #failed(error: unknown): void {
    this.#options.log.error({ err: error }, "data directory: cleaning failed; publishes are rejected once it is full");
  }

  tidyIfFilling(): void {
    if (this.#running === null && (this.#isFilling || (this.#isPressed && this.#emptied.size > 0))) this.tidy();
  }

  tidy(): void {
    if (this.#stopped) return;
    this.#running ??= this.#run()
      .catch((error: unknown) => this.#failed(error))
      .finally(() => (this.#running = null));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
    await this.#syncing;
  }

  get #isFilling(): boolean {
    let leaving = 0;
    for (const { bytes } of this.#emptied) leaving += bytes;
    return this.#options.journal.bytes - leaving > this.#options.dataBytesMax * fillingShare;
  }

  get #isPressed(): boolean {
    return this.#options.journal.bytes > this.#options.dataBytesMax * pressedShare;
  }

  async #run(): Promise<void> {
    const { journal } = this.#options;
    for (const segment of journal.segments.slice(0, -1)) if (this.#mayGo(segment) && this.#isDone(segment)) await this.#remove(segment);
    await this.#makeRoom();
    if (!this.#isFilling) this.#gaveUp = false;
    while (this.#isFilling && !this.#stopped) {
      const segment = this.#next();
      if (segment === null) return;
      if (this.#isDone(segment)) await this.#remove(segment);
      else if (!(await this.#clean(segment))) return;
      await this.#makeRoom();
    }
  }

  /** What is archived first. Then the oldest file that waits for the archive: publishers do not wait for PostgreSQL. */
  #next(): Segment | null {
    const emptiest = this.#emptiest();
    const oldest = this.#options.journal.segments.slice(0, -1).find((segment) => this.#isKept(segment) && !this.#unreadable.has(segment) && !this.#emptied.has(segment));
    if (oldest === undefined || (emptiest !== null && emptiest.liveBytes / emptiest.bytes < fullShare)) return emptiest;
    if (!this.#gaveUp) this.#options.log.error({ file: oldest.path }, "data directory: it is full of what is not archived yet, and the journal deletes the oldest of that; the archive gets a gap; check PostgreSQL, or raise dataBytesMax");
    this.#gaveUp = true;
    return oldest;
  }

  #isKept(segment: Segment): boolean {
    return this.#options.hold?.keeps(segment, Math.min(this.#options.clock(), this.#options.steady())) === true;
  }

  /** Whether nothing in the file counts: no publication, no room's position, no remembered key. */
  #isDone({ liveBytes, anchors, newestAt }: Segment): boolean {
    return liveBytes === 0 && anchors === 0 && newestAt + this.#options.keyWindowMs < Math.min(this.#options.clock(), this.#options.steady());
  }

  /** Neither the archive needs the file, nor is it on its way out. */
  #mayGo(segment: Segment): boolean {
    return !this.#emptied.has(segment) && !this.#isKept(segment);
  }

  /** A file that something was copied out of goes when the disk has that. Cleaning goes on meanwhile. */
  async #remove(segment: Segment): Promise<void> {
    if (!this.#copied.has(segment) || this.#isPressed) return this.#delete(segment);
    this.#emptied.add(segment);
    this.#syncing ??= this.#deleteSynced()
      .catch((error: unknown) => this.#options.log.error({ err: error }, "data directory: a file could not be synced; those it was copied from stay, and the node retries"))
      .finally(() => (this.#syncing = null));
  }

  async #deleteSynced(): Promise<void> {
    while (this.#emptied.size > 0 && !this.#stopped) {
      const emptied = [...this.#emptied];
      await this.#options.journal.synced(Math.min(...emptied.map((segment) => this.#copied.get(segment)!)));
      for (const segment of emptied) if (this.#emptied.has(segment)) await this.#delete(segment);
    }
  }

  /** Where little space is left, nobody waits for the disk: all of them count as gone at once. */
  async #makeRoom(): Promise<void> {
    if (this.#isPressed) await Promise.all([...this.#emptied].map((segment) => this.#delete(segment)));
  }

  async #delete(segment: Segment): Promise<void> {
    this.#emptied.delete(segment); // before it waits: nobody else deletes it
    await this.#options.journal.remove(segment);
    this.#options.stock.segments.delete(segment.id);
  }

  #emptiest(): Segment | null {
    let found: Segment | null = null;
    const share = ({ liveBytes, bytes }: Segment) => liveBytes / bytes;
    for (const segment of this.#options.journal.segments.slice(0, -1)) {
      if (this.#unreadable.has(segment) || !this.#mayGo(segment)) continue;
      if (found === null || share(segment) < share(found)) found = segment;
    }
    return found;
  }

  /** False: not possible now. */
  async #clean(segment: Segment): Promise<boolean> {
    const { journal, log } = this.#options;
    const rooms = new Set<LogRoom>();
    try {
      for await (const [records, at] of framesOf(segment)) {
        for (let next = 0; next < records.length; ) {
          const length = records.readUInt32LE(next);
          if (!(await this.#consider(segment, records.subarray(next, next + length), at + next, rooms))) return false;
          next += length;
        }
      }
    } catch (error) {
      this.#unreadable.add(segment);
      log.error({ err: error, file: segment.path }, "data directory: a file cannot be read and is skipped; check the disk");
      return false;
    }
    for (const room of rooms) if (room.anchor === segment && !(await this.#copyHead(segment, room))) return false;
    // Publishers go first: copies take space before a file goes. But not for ever.
    for (let commits = 0; commits < commitsBetween; commits++) await journal.settled();
    if (segment.liveBytes > 0 || segment.anchors > 0) return false;
    await this.#remove(segment);
    return true;
  }

  async #consider(segment: Segment, record: Buffer, at: number, rooms: Set<LogRoom>): Promise<boolean> {
    const found = readRecord(record);
    const room = this.#options.stock.rooms.get(found.room);
    if (room === undefined || room.epoch !== found.epoch) return true;
    if (room.anchor === segment) rooms.add(room);
    if (this.#indexOf(room, found, segment, at) >= 0) return this.#copy(segment, room, found, at);
    if (this.#isPressed) return true;
    const remembered = found.key !== "" && this.#options.stock.findKey(room, found.key) === found.seq;
    if (!remembered) return true;
    return this.#append(segment, room, { ...found, kind: recordKinds.key, payload: nothing }, (to) => this.#copiedTo(to, room, found.time));
  }

  /** Index of the record on its room's shelf. -1: deleted, or stored elsewhere. */
  #indexOf(room: LogRoom, { kind, seq }: Found, segment: Segment, at: number): number {
    const i = seq - (room.seq - room.shelf.count + 1);
    if (kind !== recordKinds.publication || i < 0 || i >= room.shelf.count) return -1;
    return room.shelf.segment(i) === segment && room.shelf.at(i) === at ? i : -1;
  }

  #copy(from: Segment, room: LogRoom, found: Found, at: number): Promise<boolean> {
    return this.#append(from, room, found, (to, there) => {
      this.#copiedTo(to, room, found.time);
      this.#options.stock.segments.set(to.id, to);
      const i = this.#indexOf(room, found, from, at);
      if (i >= 0) room.shelf.move(i, to, there);
    });
  }

  #copyHead(from: Segment, room: LogRoom): Promise<boolean> {
    const { stock } = this.#options;
    return this.#append(from, room, { ...headOf(room, room.seq), payload: firstKept(room) }, (to) => {
      if (room.anchor === from) stock.anchor(room, to);
      else stock.named(room, to);
    });
  }

  #copiedTo(segment: Segment, room: LogRoom, time: number): void {
    if (segment.newestAt < time) segment.newestAt = time;
    this.#options.stock.named(room, segment);
  }

  /** False: not possible now. */
  async #append(from: Segment, room: LogRoom, fields: Omit<Found, "payload"> & { payload: Uint8Array }, committed: Waiting["committed"]): Promise<boolean> {
    const { journal, stock } = this.#options;
    const length = recordLength(fields, fields.payload.length);
    while (journal.refusal(length) === "overloaded" && journal.uncommittedBytes > 0 && !this.#stopped) await journal.settled();
    if (this.#stopped || journal.refusal(length) !== null) return false;
    // Forgotten while this waited: no later file may name its epoch.
    if (stock.rooms.get(room.name) !== room) return true;
    if (!this.#copied.has(from)) this.#copied.set(from, journal.head.id);
    room.pending++; // it is not forgotten before the commit
    const waiting: Waiting = {
      committed(segment, at) {
        room.pending--;
        committed(segment, at);
      },
      failed: () => void room.pending--,
    };
    writeRecord(journal.append(length, waiting), fields, fields.payload);
    return true;
  }
}

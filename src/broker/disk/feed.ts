/**
 * Reads the journal from a place on, for the archive. A sequence of this stream is a place: the file's number and the
 * byte behind a record. Records of all rooms are in it, in the order of their commits.
 */
import { createHash } from "node:crypto";
import type { Feed, FeedPiece, FeedPublication, FeedState } from "../../archive/feed.ts";
import { fileHeadBytes } from "../../disk/frames.ts";
import type { Journal } from "../../disk/journal.ts";
import { frameAt } from "../../disk/reading.ts";
import type { Segment } from "../../disk/segment.ts";
import { nameOfRoom, tenantOfRoom } from "../../protocol/roomkeys.ts";
import { byteOf, placeOf, segmentOf, type Hold } from "./hold.ts";
import { readRecord, recordKinds, type Found } from "./records.ts";

export interface JournalFeedOptions {
  /** Names the data directory, in the archive. */
  readonly name: string;
  readonly journal: Journal;
  readonly hold: Hold;
  /** Bytes of files at which the journal deletes what waits. */
  readonly bytesMax: number;
  readonly isArchived: (room: string) => boolean;
}

/** Payloads of one piece. */
const bytesMax = 4 * 1024 * 1024;
/** Publications wait so long for others, and new ones are looked for at this interval. */
const lingerMs = 200;
/** A read without any publication ends after this time. */
const idleMs = 2_000;
/** Before any was written. */
const recordBytes = 200;

/** Name of a room's stream in the archive. Names of rooms are long, and stand in each row's key. */
export function roomStream(journal: string, room: string): string {
  return `${journal}/${createHash("sha256").update(room).digest("base64url").slice(0, 16)}`;
}

/** The frame that is being read. */
interface Frame {
  readonly segment: Segment;
  readonly records: Buffer;
  /** Of the records in the file. */
  readonly at: number;
  next: number;
}

export class JournalFeed implements Feed {
  readonly isJournal = true;
  readonly #options: JournalFeedOptions;
  /** Everything up to here was given to the caller, and the time of the last record there. */
  #place = -1;
  #time = 0;
  #frame: Frame | null = null;
  #dropped: { readonly from: number; readonly to: number }[] = [];
  /** A place of another journal, which the archive has; -1: none is known. */
  #foreign = -1;
  #paused = false;
  #wake: () => void = () => undefined;

  constructor(options: JournalFeedOptions) {
    this.#options = options;
  }

  get stream(): string {
    return this.#options.name;
  }

  async state(): Promise<FeedState> {
    const { journal, name } = this.#options;
    const { head, segments } = journal;
    return { epoch: name, first: placeOf(segments[0]!.id, fileHeadBytes) + 1, last: placeOf(head.id, head.bytes) };
  }

  /** No other journal has its epoch. */
  async timeAt(): Promise<null> {
    return null;
  }

  async read(after: number, at: number, limit: number): Promise<FeedPiece> {
    this.#paused = false;
    const publications: FeedPublication[] = [];
    const began = performance.now();
    try {
      if (this.#place !== after) await this.#seek(after, at);
      for (let bytes = 0; ; ) {
        // Rooms that are not archived may fill files: even so a read ends, and what it has passed is known.
        const isGoing = () => !this.#paused && publications.length < limit && bytes < bytesMax && performance.now() - began < idleMs;
        while (isGoing() && (await this.#fill())) bytes += this.#take(publications, limit, bytes);
        const waitedMs = performance.now() - began;
        if (this.#paused || publications.length >= limit || bytes >= bytesMax || waitedMs >= (publications.length > 0 ? lingerMs : idleMs)) break;
        await this.#pauseFor(lingerMs);
      }
      // The archive must not have more than the disk: after a power loss it could not go on.
      if (this.#place !== after) await this.#options.journal.synced(segmentOf(after), segmentOf(this.#place));
    } catch (error) {
      this.#place = -1;
      throw error;
    }
    const isMoved = this.#place !== after;
    const dropped = this.#dropped.splice(0);
    return { publications, pending: this.pendingAfter(this.#place), ...(isMoved && { upTo: { seq: this.#place, at: this.#time } }), ...(dropped.length > 0 && { dropped }) };
  }

  pause(): void {
    this.#paused = true;
    this.#wake();
  }

  archived(place: number): void {
    if (place !== this.#foreign) this.#options.hold.archived(place);
  }

  pendingAfter(place: number): number {
    const { journal: { segments, counts } } = this.#options;
    let bytes = 0;
    for (const { id, bytes: size } of segments) if (id >= segmentOf(place)) bytes += size - (id === segmentOf(place) ? byteOf(place) : fileHeadBytes);
    const each = counts.records > 0 ? counts.bytes / counts.records : recordBytes;
    return Math.max(0, Math.ceil(bytes / each));
  }

  filled(): number {
    const { journal, hold, bytesMax: most } = this.#options;
    return journal.segments.reduce((sum, segment) => sum + (hold.waits(segment) ? segment.bytes : 0), 0) / most;
  }

  /** False: nothing more is in the journal now. */
  async #fill(): Promise<boolean> {
    if (this.#frame !== null && this.#frame.next < this.#frame.records.length) return true;
    const { segments } = this.#options.journal;
    let segment = segments.find(({ id }) => id === segmentOf(this.#place));
    if (segment === undefined) throw new Error("the file was deleted meanwhile");
    let at = byteOf(this.#place);
    if (at >= segment.bytes) {
      segment = segments.find(({ id }) => id > segmentOf(this.#place));
      at = fileHeadBytes;
      if (segment === undefined || at >= segment.bytes) return false;
      if (segment.id !== segmentOf(this.#place) + 1) this.#skip(segment);
    }
    const [records, from] = await frameAt(segment, at);
    this.#frame = { segment, records, at: from, next: 0 };
    return true;
  }

  /** Takes records of the frame. @returns the bytes of their payloads */
  #take(publications: FeedPublication[], limit: number, before: number): number {
    const frame = this.#frame!;
    let bytes = 0;
    while (frame.next < frame.records.length && publications.length < limit && before + bytes < bytesMax) {
      const length = frame.records.readUInt32LE(frame.next);
      const record = readRecord(frame.records.subarray(frame.next, frame.next + length));
      frame.next += length;
      this.#place = placeOf(frame.segment.id, frame.at + frame.next);
      this.#time = microseconds(record);
      const one = this.#publicationOf(record);
      if (one === null) continue;
      publications.push(one);
      bytes += record.payload.length;
    }
    return bytes;
  }

  #publicationOf(record: Found): FeedPublication | null {
    const { kind, room, epoch, seq, sender, time, format, key, payload } = record;
    if (kind === recordKinds.key || !this.#options.isArchived(room)) return null;
    const isHead = kind === recordKinds.head;
    // A copy: a view would keep the whole frame in memory, with all that others published.
    const content = isHead ? null : { tenant: tenantOfRoom(room), room: nameOfRoom(room), sender, time, format, key, payload: Buffer.from(payload) };
    return { seq: this.#place, at: this.#time, content, own: { stream: roomStream(this.stream, room), epoch, seq, isHead } };
  }

  /** @throws where the journal has no record that ends there: it is an older copy, or another one */
  async #seek(after: number, at: number): Promise<void> {
    const { segments, head } = this.#options.journal;
    this.#frame = null;
    this.#dropped = [];
    [this.#place, this.#time] = [after, at];
    const segment = segments.find(({ id }) => id >= segmentOf(after));
    // The file was deleted. Older ones may be there: rooms keep what is in them.
    if (segment !== undefined && segment.id > segmentOf(after)) return this.#skip(segment);
    const isThere = segment !== undefined && (byteOf(after) === fileHeadBytes || (await this.#endsAt(segment, byteOf(after), at)));
    if (isThere) return;
    // The archive has nothing of these files.
    this.#foreign = after;
    this.#options.hold.archived(0);
    throw new Error(`the archive has more of this data directory than is there (up to file ${segmentOf(after)}, and the newest is ${head.id}): an older copy was restored; give the node another schema for its archive`);
  }

  #skip(to: Segment): void {
    const place = placeOf(to.id, fileHeadBytes);
    this.#dropped.push({ from: this.#place + 1, to: place });
    this.#place = place;
  }

  /** Whether a record ends there, of that time. Leaves the frame behind it to be read. */
  async #endsAt(segment: Segment, end: number, at: number): Promise<boolean> {
    for (let next = fileHeadBytes; next < segment.bytes; ) {
      const [records, from] = await frameAt(segment, next);
      next = from + records.length;
      if (next < end) continue;
      for (let offset = 0; offset < records.length; ) {
        const length = records.readUInt32LE(offset);
        const record = records.subarray(offset, offset + length);
        offset += length;
        if (from + offset < end) continue;
        if (from + offset > end || (at !== 0 && microseconds(readRecord(record)) !== at)) return false;
        if (offset < records.length) this.#frame = { segment, records, at: from, next: offset };
        return true;
      }
    }
    return false;
  }

  #pauseFor(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => (clearTimeout(timer), resolve());
    });
  }
}

function microseconds({ time }: Found): number {
  return time * 1000;
}

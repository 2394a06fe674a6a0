/**
 * The embedded broker on disk: durable rooms of one node in a journal (disk/journal.ts), other rooms in memory.
 *
 * Memory holds the offsets of publications, the disk the publications. A publication gets its position at once. It is
 * delivered only once it is on disk. If it were shown earlier and the node crashed, another publication could get its
 * position.
 */
import { openJournal } from "../../disk/opening.ts";
import type { DiskUsage, Journal, JournalLog, Waiting } from "../../disk/journal.ts";
import type { Segment } from "../../disk/segment.ts";
import type { ArchivedBroker } from "../../archive/feed.ts";
import type { Answer, Broker, Deliver, Draft, Origin, Published, Query, Retention } from "../broker.ts";
import { Cleaner, fillingShare } from "./cleaner.ts";
import { JournalFeed, roomStream } from "./feed.ts";
import { Hold } from "./hold.ts";
import { Loading } from "./loading.ts";
import { createMemoryBroker, type MemoryBrokerOptions } from "../memory.ts";
import { steadyClock } from "../../platform/steadyclock.ts";
import { readPage } from "../pages.ts";
import { recordKinds, recordLength, writeRecord, type Fields } from "./records.ts";
import { Stock, firstKept, headOf, type LogRoom } from "./stock.ts";

export interface LogBrokerOptions extends MemoryBrokerOptions {
  readonly folder: string;
  /** Size limit of the folder. Histories get `liveShare` of it. */
  readonly dataBytesMax: number;
  /** Whether publish is acknowledged once the disk has it, or once the operating system has it. */
  readonly sync: boolean;
  readonly uncommittedBytesMax: number;
  /** Retention of a room found in the files that is not open yet. Null: no namespace is durable for it now. */
  retentionOf(room: string): Retention | null;
  /** Null: nothing is archived. The journal keeps what waits for the archive, at most for `lagMaxMs`. */
  readonly archive?: { readonly name: string; readonly lagMaxMs: number } | null;
  /** Replaced in tests. */
  readonly sweepMs?: number;
  readonly log: JournalLog;
}

export interface LogBroker extends Broker, ArchivedBroker {
  readonly disk: () => DiskUsage & { readonly liveBytes: number };
}

const sweepEveryMs = 10_000;
/** The rest is for obsolete records, until their file is cleaned. */
const liveShare = 0.6;
const segmentBytesMin = 4 * 1024;
const segmentBytesMost = 2 ** 30;
const segmentShare = 1 / 64;
const nothing = new Uint8Array(0);

export async function createLogBroker(options: LogBrokerOptions, deliver: Deliver): Promise<LogBroker> {
  const { dataBytesMax, roomsMax, keyWindowMs, keysPerRoomMax, clock = Date.now, sweepMs = sweepEveryMs, log } = options;
  const steady = options.clock ?? steadyClock();
  const memory = createMemoryBroker(options, deliver);
  const stock = new Stock({ roomsMax, liveBytesMax: dataBytesMax * liveShare, keyWindowMs, keysPerRoomMax, clock, steady });
  const loading = new Loading(stock, options.retentionOf);
  const segmentBytes = Math.min(segmentBytesMost, Math.max(segmentBytesMin, dataBytesMax * segmentShare));
  const journal = await openJournal({ ...options, segmentBytes }, (record, segment, at) => loading.add(record, segment, at));
  loading.finish(steady());
  const { archive = null } = options;
  const hold = archive && new Hold(archive.lagMaxMs);
  const cleaner = new Cleaner({ journal, stock, dataBytesMax, spareBytes: segmentBytes, keyWindowMs, clock, steady, hold, log });
  const sweeper = setInterval(() => {
    stock.sweep(new Set(journal.segments.map(({ id }) => id)));
    writeRobbed(parts);
    cleaner.tidy();
  }, sweepMs).unref();
  const parts: Parts = { journal, stock, cleaner, deliver };

  return {
    open(name, retention, done) {
      if (!retention.durable) return memory.open(name, retention, done);
      const room = stock.roomOf(name, retention);
      if (room === null) return done({ error: "overloaded" });
      stock.opened(room);
      const position = () => done({ value: { epoch: room.epoch, seq: room.seq } });
      // The epoch of a new room must survive a crash: its members reconnect with it.
      if (room.anchor !== null || room.pending > 0 || !writeHead(parts, room, position)) position();
    },

    close(name) {
      memory.close(name);
      const room = stock.rooms.get(name);
      if (room === undefined) return;
      room.open = false;
      stock.use(room);
    },

    publish(name, retention, draft, done) {
      if (!retention.durable) return memory.publish(name, retention, draft, done);
      const room = stock.roomOf(name, retention);
      if (room === null) return done({ error: "overloaded" });
      const time = stock.use(room);
      if (draft.key === "") return publish(parts, room, time, draft, done);
      const first = stock.findKey(room, draft.key);
      if (first === undefined) publish(parts, room, time, draft, done);
      else repeat(parts, room, first, done);
    },

    history(name, retention, query, done) {
      if (!retention.durable) return memory.history(name, retention, query, done);
      const room = stock.roomOf(name, retention);
      if (room === null) return done({ error: "overloaded" });
      stock.expire(room);
      stock.use(room);
      const page = readPage(room, inEpochOf(room, query));
      if (page === null) return done({ error: "unrecoverable_position" });
      page.then(
        (value) => done({ value }),
        (error: unknown) => {
          log.error({ err: error, room: name }, "disk read failed: the history of a room could not be read");
          done({ error: "unavailable" });
        },
      );
    },

    usage() {
      const { rooms, publications, bytes } = memory.usage();
      return { rooms: rooms + stock.rooms.size, publications: publications + stock.publications, bytes: bytes + stock.liveBytes };
    },

    disk() {
      const { bytes, uncommittedBytes, failing, counts } = journal;
      return { bytes, liveBytes: stock.liveBytes, uncommittedBytes, failing, counts };
    },

    feeds() {
      const isArchived = (room: string) => options.retentionOf(room)?.archive === true;
      return archive === null ? [] : [new JournalFeed({ name: archive.name, journal, hold: hold!, bytesMax: dataBytesMax * fillingShare, isArchived })];
    },

    streamOf: (room) => roomStream(archive?.name ?? "", room),

    async stop() {
      clearInterval(sweeper);
      await memory.stop();
      await cleaner.stop();
      writeRobbed(parts);
      await journal.close();
      stock.clear();
    },
  };
}

/** An archived room that was evicted has another epoch now: all of that follows what is archived. */
function inEpochOf({ epoch }: LogRoom, query: Query): Query {
  const isOther = query.archived === true && query.orOldest === true && query.position.epoch !== epoch;
  return isOther ? { ...query, position: { epoch, seq: 0 } } : query;
}

interface Parts {
  readonly journal: Journal;
  readonly stock: Stock;
  readonly cleaner: Cleaner;
  readonly deliver: Deliver;
}

type Done = (answer: Answer<Published>) => void;

function publish(parts: Parts, room: LogRoom, time: number, draft: Draft, done: Done): void {
  const { journal, stock, cleaner } = parts;
  const { sender, key, format } = draft;
  const seq = room.given + 1;
  const fields: Fields = { kind: recordKinds.publication, room: room.name, epoch: room.epoch, seq, time, sender, key, format };
  const length = recordLength(fields, draft.payload.length);
  const refusal = cleaner.isFull(length) ? "overloaded" : journal.refusal(length);
  if (refusal !== null) return done({ error: refusal });
  room.given = seq;
  room.pending++;
  if (key !== "") stock.addKey(room, key, seq);
  const entry = new Entry(parts, room, fields, draft.origin, length, done);
  entry.payload = writeRecord(journal.append(length, entry), fields, draft.payload);
}

/** A repeated key: answered once its first publication is durable. */
function repeat(parts: Parts, room: LogRoom, seq: number, done: Done): void {
  const answer = () => done({ value: { epoch: room.epoch, seq, duplicate: true } });
  if (seq <= room.seq) return answer();
  if (!writeHead(parts, room, answer, () => done({ error: "unavailable" }))) done({ error: "unavailable" });
}

/** Appends the room's position after its pending records. False: the disk accepts nothing now. */
function writeHead({ journal, stock, cleaner }: Parts, room: LogRoom, done: () => void, failed: () => void = done): boolean {
  const fields = headOf(room, room.given);
  const payload = firstKept(room);
  const length = recordLength(fields, payload.length);
  if (cleaner.isFull(length) || journal.refusal(length) !== null) return false;
  room.pending++;
  const waiting: Waiting = {
    committed(segment) {
      room.pending--;
      stock.anchor(room, segment);
      done();
    },
    failed() {
      room.pending--;
      failed();
    },
  };
  writeRecord(journal.append(length, waiting), fields, payload);
  return true;
}

/**
 * Records the new start of rooms that lost publications. Otherwise the next start would restore them and evict others.
 */
function writeRobbed(parts: Parts): void {
  const { robbed } = parts.stock;
  for (const room of robbed) if (writeHead(parts, room, () => undefined)) robbed.delete(room);
}

/** A publication that waits for its commit. */
class Entry implements Waiting {
  payload: Uint8Array = nothing;
  readonly #parts: Parts;
  readonly #room: LogRoom;
  readonly #fields: Fields;
  readonly #origin: Origin;
  readonly #length: number;
  readonly #done: Done;

  constructor(parts: Parts, room: LogRoom, fields: Fields, origin: Origin, length: number, done: Done) {
    this.#parts = parts;
    this.#room = room;
    this.#fields = fields;
    this.#origin = origin;
    this.#length = length;
    this.#done = done;
  }

  committed(segment: Segment, at: number): void {
    const { stock, deliver, cleaner } = this.#parts;
    const room = this.#room;
    const { seq, time, sender, format } = this.#fields;
    const { epoch } = room;
    room.pending--;
    room.seq = seq;
    stock.keep(room, segment, at, this.#length, this.payload.length);
    stock.trim(room);
    if (room.anchor !== segment) stock.anchor(room, segment);
    if (segment.newestAt < time) segment.newestAt = time;
    if (room.open) deliver(room.name, { epoch, seq, prev: seq - 1, sender, time, payload: this.payload, format, origin: this.#origin });
    this.#done({ value: { epoch, seq, duplicate: false, prev: seq - 1 } });
    cleaner.tidyIfFilling();
  }

  /** All later ones have failed too, so the next publication gets this position. */
  failed(): void {
    const room = this.#room;
    room.pending--;
    room.given = room.seq;
    if (this.#fields.key !== "") room.keys?.delete(this.#fields.key);
    this.#done({ error: "unavailable" });
  }
}


/**
 * Rebuilds the rooms from a journal's records, in the order of writing. Records of a room may be out of order, since
 * cleaning copies old ones to the end. They may also occur twice, after a crash between copy and removal.
 */
import type { Segment } from "../../disk/segment.ts";
import type { Retention } from "../broker.ts";
import { readRecord, recordKinds } from "./records.ts";
import type { Stock } from "./stock.ts";

interface Place {
  readonly seq: number;
  readonly segment: Segment;
  readonly at: number;
  readonly length: number;
  readonly payloadBytes: number;
  readonly time: number;
}

interface FoundRoom {
  readonly epoch: string;
  /** Highest seq in any record of the room, and the file with that record. */
  head: number;
  /** First seq that the room keeps. */
  first: number;
  anchor: Segment;
  /** Numbers of the files with a record of the epoch. */
  readonly files: number[];
  time: number;
  places: Place[];
  keys: { key: string; seq: number; time: number }[];
}

/** For a room of a namespace that is durable no longer: it stays until its bytes are needed. */
const unbounded: Retention = { durable: true, historySize: Infinity, historyTtlMs: Infinity, historyBytesMax: Infinity };

export class Loading {
  readonly #stock: Stock;
  readonly #retentionOf: (room: string) => Retention | null;
  readonly #rooms = new Map<string, FoundRoom>();

  constructor(stock: Stock, retentionOf: (room: string) => Retention | null) {
    this.#stock = stock;
    this.#retentionOf = retentionOf;
  }

  add(record: Buffer, segment: Segment, at: number): void {
    const { kind, room: name, epoch, seq, time, key, payload } = readRecord(record);
    this.#stock.segments.set(segment.id, segment);
    if (segment.newestAt < time) segment.newestAt = time;
    let room = this.#rooms.get(name);
    if (room?.epoch !== epoch) {
      // Records of an old epoch are never copied, so they cannot come after those of the next epoch.
      room = { epoch, head: seq, first: 0, anchor: segment, files: [segment.id], time, places: [], keys: [] };
      this.#rooms.set(name, room);
    }
    if (room.files.at(-1) !== segment.id) room.files.push(segment.id);
    if (seq >= room.head) [room.head, room.anchor] = [seq, segment];
    if (kind === recordKinds.head) room.first = Math.max(room.first, payload.readDoubleLE(0));
    if (time > room.time) room.time = time;
    if (key !== "") room.keys.push({ key, seq, time });
    if (kind === recordKinds.publication) room.places.push({ seq, segment, at, length: record.length, payloadBytes: payload.length, time });
  }

  /** The rooms at this time, the quietest first. */
  finish(now: number): void {
    const quietestFirst = [...this.#rooms].sort(([, a], [, b]) => a.time - b.time);
    for (const [name, found] of quietestFirst) {
      const given = this.#retentionOf(name);
      const retention = given?.durable === true ? given : unbounded;
      if (this.#stock.roomOf(name, retention, found) === null) continue;
      this.#fill(name, found, now);
    }
    this.#rooms.clear();
  }

  #fill(name: string, found: FoundRoom, now: number): void {
    const room = this.#stock.rooms.get(name)!;
    room.usedAt = Math.min(found.time, now);
    room.files = found.files;
    this.#stock.anchor(room, found.anchor);
    for (const { segment, at, length, payloadBytes, time } of unbroken(found)) {
      this.#stock.keep(room, segment, at, length, payloadBytes, Math.min(time, now));
    }
    this.#stock.trim(room);
    this.#stock.expire(room);
    const keys = found.keys.sort((a, b) => a.time - b.time || a.seq - b.seq);
    for (const { key, seq, time } of keys) this.#stock.keysOf(room).add(key, seq, Math.min(time, now));
    room.keys?.expire(now);
  }
}

/** The publications with consecutive seqs up to the head, each once; the record written last wins. */
function unbroken({ head, first, places }: FoundRoom): Place[] {
  const bySeq = new Map<number, Place>();
  for (const place of places) bySeq.set(place.seq, place);
  const kept: Place[] = [];
  for (let seq = head, place = bySeq.get(seq); place !== undefined && seq >= first; place = bySeq.get(--seq)) kept.push(place);
  return kept.reverse();
}

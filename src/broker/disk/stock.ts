/** The durable rooms of the disk broker: their positions, their stored publications, and the eviction of too many. */
import type { Segment } from "../../disk/segment.ts";
import { randomId } from "../../platform/ids.ts";
import type { Retention } from "../broker.ts";
import { KeyWindow } from "../keys.ts";
import { recordKinds, type Fields } from "./records.ts";
import { Shelf } from "./shelf.ts";

export interface LogRoom {
  readonly name: string;
  readonly epoch: string;
  retention: Retention;
  open: boolean;
  /** Newest durable seq, and newest seq given out. */
  seq: number;
  given: number;
  /** Records that wait for their commit. */
  pending: number;
  readonly shelf: Shelf;
  payloadBytes: number;
  keys: KeyWindow | null;
  usedAt: number;
  /** File with the newest record that names the room's position. */
  anchor: Segment | null;
  /** Numbers of the files with a record of the epoch, the oldest first. Some may be gone. */
  files: number[];
}

export interface StockOptions {
  readonly roomsMax: number;
  /** Bytes of records of all rooms. Beyond it the quietest room loses its oldest publications. */
  readonly liveBytesMax: number;
  readonly keyWindowMs: number;
  readonly keysPerRoomMax: number;
  /** The system's, for the times of publications. */
  readonly clock: () => number;
  /** For how long something is kept (steadyclock.ts). */
  readonly steady: () => number;
}

/** A room that is not open and keeps nothing expires after this time, with its epoch. */
const idleRoomMs = 60_000;
/** Rooms that are looked at for one to evict. */
const passedMax = 100;

export class Stock {
  readonly rooms = new Map<string, LogRoom>();
  readonly segments = new Map<number, Segment>();
  /** Rooms that need a head record: they lost publications to others since the last, or a later file names them. */
  readonly robbed = new Set<LogRoom>();
  liveBytes = 0;
  publications = 0;
  readonly #options: StockOptions;
  /** Rooms with stored publications; the one published to last is at the end. */
  readonly #kept = new Set<LogRoom>();
  /** Rooms that are not open; the one used last is at the end. */
  readonly #unopened = new Set<LogRoom>();

  constructor(options: StockOptions) {
    this.#options = options;
  }

  /** Null: the limit of rooms is reached and all are in use. */
  roomOf(name: string, retention: Retention, found: { epoch: string; head: number } = { epoch: randomId(6), head: 0 }): LogRoom | null {
    const known = this.rooms.get(name);
    if (known !== undefined) {
      known.retention = retention;
      return known;
    }
    if (this.rooms.size >= this.#options.roomsMax && !this.#forgetQuietest()) return null;
    const { epoch, head: seq } = found;
    const room: LogRoom = {
      name,
      epoch,
      retention,
      open: false,
      seq,
      given: seq,
      pending: 0,
      shelf: new Shelf(this.segments),
      payloadBytes: 0,
      keys: null,
      usedAt: this.#options.steady(),
      anchor: null,
      files: [],
    };
    this.rooms.set(name, room);
    this.#unopened.add(room);
    return room;
  }

  opened(room: LogRoom): void {
    room.open = true;
    this.#unopened.delete(room);
  }

  /** @returns the time by the system's clock. */
  use(room: LogRoom): number {
    if (!room.open) {
      this.#unopened.delete(room);
      this.#unopened.add(room);
    }
    room.usedAt = this.#options.steady();
    return this.#options.clock();
  }

  /** Its first publication with this key, while that is remembered. */
  findKey(room: LogRoom, key: string): number | undefined {
    return room.keys?.find(key, this.#options.steady());
  }

  addKey(room: LogRoom, key: string, seq: number): void {
    this.keysOf(room).add(key, seq, this.#options.steady());
  }

  keysOf(room: LogRoom): KeyWindow {
    return (room.keys ??= new KeyWindow(this.#options.keyWindowMs, this.#options.keysPerRoomMax));
  }

  /** Adds publication `room.seq`, which is on disk. */
  keep(room: LogRoom, segment: Segment, at: number, length: number, payloadBytes: number, keptAt = this.#options.steady()): void {
    this.segments.set(segment.id, segment);
    room.shelf.push(segment, at, length, payloadBytes, keptAt);
    room.payloadBytes += payloadBytes;
    this.liveBytes += length;
    this.publications++;
    this.#kept.delete(room);
    this.#kept.add(room);
  }

  /** Drops publications beyond the room's limits. */
  trim(room: LogRoom): void {
    const { historySize, historyBytesMax } = room.retention;
    while (room.shelf.count > historySize || room.payloadBytes > historyBytesMax) this.#dropFirst(room);
    while (this.liveBytes > this.#options.liveBytesMax) {
      const quietest = this.#quietest();
      this.#dropFirst(quietest);
      this.robbed.add(quietest);
    }
  }

  expire(room: LogRoom): void {
    const before = this.#options.steady() - room.retention.historyTtlMs;
    while (room.shelf.count > 0 && room.shelf.time(0) < before) this.#dropFirst(room);
  }

  /** A record of its epoch is in this file. */
  named({ files }: LogRoom, { id }: Segment): void {
    if (id > (files.at(-1) ?? -1)) files.push(id);
  }

  anchor(room: LogRoom, segment: Segment | null): void {
    if (room.anchor !== null) room.anchor.anchors--;
    if (segment !== null) {
      segment.anchors++;
      this.named(room, segment);
    }
    room.anchor = segment;
  }

  /** @param there numbers of the files that are there */
  sweep(there: ReadonlySet<number>): void {
    const now = this.#options.steady();
    for (const room of this.rooms.values()) {
      this.expire(room);
      room.keys?.expire(now);
      if (room.files.length > 1) room.files = room.files.filter((id) => there.has(id));
      // The archive goes on with the epoch of its room.
      const idle = room.retention.archive !== true && !room.open && room.pending === 0 && room.usedAt < now - idleRoomMs;
      if (!idle || room.shelf.count > 0 || room.keys?.size) continue;
      // While another file names the room, the next start would take an old position for its newest, and give it again.
      if (room.anchor !== null && room.files.at(-1)! > room.anchor.id) this.robbed.add(room);
      else if (room.files.length <= 1) this.#forget(room);
    }
  }

  clear(): void {
    this.robbed.clear();
    this.rooms.clear();
    this.#kept.clear();
    this.#unopened.clear();
  }

  #forgetQuietest(): boolean {
    let found: LogRoom | null = null;
    let passed = 0;
    for (const room of this.#unopened) {
      if (room.pending > 0) continue;
      found ??= room;
      // Better one that no other file names, as in sweep().
      if (room.files.length > 1 && ++passed < passedMax) continue;
      if (room.files.length <= 1) found = room;
      break;
    }
    if (found !== null) this.#forget(found);
    return found !== null;
  }

  #forget(room: LogRoom): void {
    while (room.shelf.count > 0) this.#dropFirst(room);
    this.anchor(room, null);
    this.#unopened.delete(room);
    this.robbed.delete(room);
    this.rooms.delete(room.name);
  }

  /** Exists whenever something is kept: a Set iterates in order of insertion. */
  #quietest(): LogRoom {
    return this.#kept.values().next().value!;
  }

  #dropFirst(room: LogRoom): void {
    this.liveBytes -= room.shelf.length(0);
    room.payloadBytes -= room.shelf.payloadBytes(0);
    this.publications--;
    room.shelf.dropFirst();
    if (room.shelf.count === 0) this.#kept.delete(room);
  }
}

/** The first seq that a room keeps, or the one after its head; as the payload of a head record. */
export function firstKept({ seq, shelf }: LogRoom): Buffer {
  const payload = Buffer.allocUnsafe(8);
  payload.writeDoubleLE(seq - shelf.count + 1);
  return payload;
}

/** The record with a room's position. */
export function headOf({ name, epoch, usedAt }: LogRoom, seq: number): Fields {
  return { kind: recordKinds.head, room: name, epoch, seq, time: usedAt, sender: "", key: "", format: 0 };
}

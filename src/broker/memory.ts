/** The embedded broker: all rooms of one node in memory. Rooms and their epochs end with the process. */
import { randomId } from "../platform/ids.ts";
import type { Broker, Deliver, Page, Position, Query, Retention, Stored } from "./broker.ts";
import { KeyWindow } from "./keys.ts";

export interface MemoryBrokerOptions {
  /**
   * Rooms in memory. Beyond it the broker evicts the room that is not open and was quiet longest; if all are open,
   * `overloaded`.
   */
  readonly roomsMax: number;
  /** Bytes of history of all rooms. Beyond it the room that was quiet longest loses its oldest publications. */
  readonly historyTotalBytesMax: number;
  /** Time a room remembers an idempotency key, and keys per room. */
  readonly keyWindowMs: number;
  readonly keysPerRoomMax: number;
  /** Replaced in tests. */
  readonly clock?: () => number;
}

/** A room that is not open and keeps nothing expires after this time, with its epoch. */
const idleRoomMs = 60_000;
const sweepMs = 10_000;
/** Approximate memory of a stored publication besides its payload. */
const recordBytes = 256;

interface Room {
  readonly name: string;
  readonly epoch: string;
  readonly retention: Retention;
  open: boolean;
  seq: number;
  /** Oldest first, from index `first` on. Earlier entries are removed now and then. */
  log: Stored[];
  /** When each of them was published, on the steady clock: setting the system's makes nothing old. */
  times: number[];
  first: number;
  bytes: number;
  keys: KeyWindow | null;
  usedAt: number;
}

export function createMemoryBroker(options: MemoryBrokerOptions, deliver: Deliver): Broker {
  const clock = options.clock ?? Date.now;
  /** Monotonic, for state that ends with the process and times that nobody sees. */
  const steady = options.clock ?? (() => performance.now());
  const rooms = new Map<string, Room>();
  /** Rooms with a history; the one published to last is at the end. */
  const kept = new Set<Room>();
  let keptBytes = 0;
  /** Rooms that are not open; the one used last is at the end. */
  const unopened = new Set<Room>();
  const sweeper = setInterval(sweep, sweepMs).unref();

  function roomOf(name: string, retention: Retention): Room | null {
    const known = rooms.get(name);
    if (known !== undefined) return known;
    if (rooms.size >= options.roomsMax && !forgetQuietest()) return null;
    const room: Room = {
      name,
      epoch: randomId(6),
      retention,
      open: false,
      seq: 0,
      log: [],
      times: [],
      first: 0,
      bytes: 0,
      keys: null,
      usedAt: steady(),
    };
    rooms.set(name, room);
    unopened.add(room);
    return room;
  }

  function forgetQuietest(): boolean {
    for (const room of unopened) {
      forget(room);
      return true;
    }
    return false;
  }

  function forget(room: Room): void {
    while (room.first < room.log.length) dropFirst(room);
    unopened.delete(room);
    rooms.delete(room.name);
  }

  function use(room: Room): number {
    if (!room.open) {
      unopened.delete(room);
      unopened.add(room);
    }
    return (room.usedAt = steady());
  }

  function append(room: Room, publication: Stored): void {
    room.log.push(publication);
    room.times.push(room.usedAt);
    room.bytes += publication.payload.length;
    keptBytes += publication.payload.length + recordBytes;
    kept.delete(room);
    kept.add(room);
    const { historySize, historyBytesMax } = room.retention;
    while (room.log.length - room.first > historySize || room.bytes > historyBytesMax) dropFirst(room);
    while (keptBytes > options.historyTotalBytesMax) dropFirst(quietest());
    cutOff(room);
  }

  /** Exists whenever something is kept: a Set iterates in order of insertion. */
  function quietest(): Room {
    return kept.values().next().value!;
  }

  function expire(room: Room): void {
    const before = steady() - room.retention.historyTtlMs;
    while (room.first < room.log.length && room.times[room.first]! < before) dropFirst(room);
  }

  function dropFirst(room: Room): void {
    const publication = room.log[room.first]!;
    room.bytes -= publication.payload.length;
    keptBytes -= publication.payload.length + recordBytes;
    // Frees the payload now; the slot goes when the log is cut.
    room.log[room.first++] = { ...publication, payload: nothing };
    if (room.first === room.log.length) kept.delete(room);
  }

  function sweep(): void {
    const now = steady();
    const before = now - idleRoomMs;
    for (const room of rooms.values()) {
      expire(room);
      cutOff(room);
      room.keys?.expire(now);
      if (!room.open && room.usedAt < before && room.first === room.log.length && !room.keys?.size) forget(room);
    }
  }

  return {
    open(name, retention, done) {
      const room = roomOf(name, retention);
      if (room === null) return done({ error: "overloaded" });
      room.open = true;
      unopened.delete(room);
      done({ value: { epoch: room.epoch, seq: room.seq } });
    },

    close(name) {
      const room = rooms.get(name);
      if (room === undefined) return;
      room.open = false;
      use(room);
    },

    publish(name, retention, draft, done) {
      const room = roomOf(name, retention);
      if (room === null) return done({ error: "overloaded" });
      const now = use(room);
      if (draft.key !== "") {
        room.keys ??= new KeyWindow(options.keyWindowMs, options.keysPerRoomMax);
        const first = room.keys.find(draft.key, now);
        if (first !== undefined) return done({ value: { epoch: room.epoch, seq: first, duplicate: true } });
        room.keys.add(draft.key, room.seq + 1, now);
      }
      const prev = room.seq++;
      const { sender, format, origin } = draft;
      const payload = retention.durable ? Uint8Array.prototype.slice.call(draft.payload) : draft.payload;
      const publication = { epoch: room.epoch, seq: room.seq, prev, sender, time: clock(), payload, format, origin };
      if (retention.durable) append(room, publication);
      if (room.open) deliver(name, publication);
      done({ value: { epoch: room.epoch, seq: publication.seq, duplicate: false, prev } });
    },

    history(name, retention, query, done) {
      const room = roomOf(name, retention);
      if (room === null) return done({ error: "overloaded" });
      expire(room);
      use(room);
      const page = read(room, query);
      done(page === null ? { error: "unrecoverable_position" } : { value: page });
    },

    usage() {
      let publications = 0;
      for (const room of kept) publications += room.log.length - room.first;
      return { rooms: rooms.size, publications, bytes: keptBytes };
    },

    async stop() {
      clearInterval(sweeper);
      rooms.clear();
      kept.clear();
      unopened.clear();
    },
  };
}

/** Removing dropped entries copies the rest, so it waits until the rest is at most half. */
function cutOff(room: Room): void {
  if (room.first <= 32 || room.first * 2 <= room.log.length) return;
  room.log = room.log.slice(room.first);
  room.times = room.times.slice(room.first);
  room.first = 0;
}

const nothing = new Uint8Array(0);

/** Null: the history does not cover the position. */
function read(room: Room, query: Query): Page | null {
  const position: Position = { epoch: room.epoch, seq: room.seq };
  const kept = room.log.length - room.first;
  const oldest = room.seq - kept + 1; // seq of the oldest kept publication: here seqs are consecutive
  if (query.direction !== "newest" && !reachable(room, query.position)) return null;
  if (query.direction === "since") {
    const trimmed = query.position.seq + 1 < oldest;
    if (trimmed && query.orOldest !== true) return null;
    const from = trimmed ? oldest : query.position.seq + 1;
    const publications = take(room, from - oldest, 1, query);
    return { publications, position, more: from + publications.length <= room.seq, ...(trimmed && { trimmed }) };
  }
  const below = query.direction === "before" ? Math.min(query.position.seq, room.seq + 1) : room.seq + 1;
  const publications = take(room, below - 1 - oldest, -1, query).reverse();
  return { publications, position, more: below - publications.length > oldest };
}

function reachable(room: Room, position: Position): boolean {
  return position.epoch === room.epoch && position.seq <= room.seq;
}

function take(room: Room, from: number, step: 1 | -1, { limit, bytesMax, bytesEach = 0 }: Query): Stored[] {
  const taken: Stored[] = [];
  let bytes = 0;
  for (let i = room.first + from; i >= room.first && i < room.log.length && taken.length < limit; i += step) {
    const publication = room.log[i]!;
    bytes += publication.payload.length + bytesEach;
    if (taken.length > 0 && bytes > bytesMax) break;
    taken.push(publication);
  }
  return taken;
}

/** The embedded broker: every room of this one node in memory. Gone with the process, and the epochs with it. */
import { randomId } from "../platform/ids.ts";
import type { Broker, Deliver, Page, Position, Query, Retention, Stored } from "./broker.ts";
import { KeyWindow } from "./keys.ts";

export interface MemoryBrokerOptions {
  /** Rooms it keeps at most. Beyond it the quietest that is not open is forgotten, its history with it; `overloaded` where all are open. */
  readonly roomsMax: number;
  /** Bytes of history all rooms keep together; past it the room that was quiet longest loses its oldest first. */
  readonly historyTotalBytesMax: number;
  /** How long an idempotency key is remembered, and how many a room. */
  readonly keyWindowMs: number;
  readonly keysPerRoomMax: number;
  /** Replaced in tests. */
  readonly clock?: () => number;
}

/** A room that is neither open nor keeps anything is forgotten after this long, its epoch with it. */
const idleRoomMs = 60_000;
const sweepMs = 10_000;
/** What a kept publication takes besides its payload, about. */
const recordBytes = 256;

interface Room {
  readonly name: string;
  readonly epoch: string;
  readonly retention: Retention;
  open: boolean;
  seq: number;
  /** Oldest first, from `first` on; what lies before is cut off now and then. */
  log: Stored[];
  first: number;
  bytes: number;
  keys: KeyWindow | null;
  usedAt: number;
}

export function createMemoryBroker(options: MemoryBrokerOptions, deliver: Deliver): Broker {
  const clock = options.clock ?? Date.now;
  /** For what ends with the process anyway and nobody sees the time of: it is not set, as the other may be. */
  const steady = options.clock ?? (() => performance.now());
  const rooms = new Map<string, Room>();
  /** Rooms with a history, the one that was published to last at the end. */
  const kept = new Set<Room>();
  let keptBytes = 0;
  /** Rooms nobody on this node is in, the one that was used last at the end. */
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
    room.bytes += publication.payload.length;
    keptBytes += publication.payload.length + recordBytes;
    kept.delete(room);
    kept.add(room);
    const { historySize, historyBytesMax } = room.retention;
    while (room.log.length - room.first > historySize || room.bytes > historyBytesMax) dropFirst(room);
    while (keptBytes > options.historyTotalBytesMax) dropFirst(quietest());
    cutOff(room);
  }

  /** There is one as long as anything is kept: a Set gives back its first member first. */
  function quietest(): Room {
    return kept.values().next().value!;
  }

  function expire(room: Room): void {
    const before = clock() - room.retention.historyTtlMs;
    while (room.first < room.log.length && room.log[room.first]!.time < before) dropFirst(room);
  }

  function dropFirst(room: Room): void {
    const publication = room.log[room.first]!;
    room.bytes -= publication.payload.length;
    keptBytes -= publication.payload.length + recordBytes;
    // Free the payload now; the slot goes when the log is cut.
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

/** Cutting off what was dropped costs a copy of the rest: done when that is at most half. */
function cutOff(room: Room): void {
  if (room.first <= 32 || room.first * 2 <= room.log.length) return;
  room.log = room.log.slice(room.first);
  room.first = 0;
}

const nothing = new Uint8Array(0);

/** Null: the position is not covered. */
function read(room: Room, query: Query): Page | null {
  const position: Position = { epoch: room.epoch, seq: room.seq };
  const kept = room.log.length - room.first;
  const oldest = room.seq - kept + 1; // seq of the first that is kept: they are consecutive here
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

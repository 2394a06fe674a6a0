/** The rooms of one node: who is interested in them, and where they stand. */
import type { RoomKind } from "../roomnames.ts";
import type { Position } from "../broker/broker.ts";
import type { Link } from "../link/link.ts";
import type { JoinRecord } from "../link/records.ts";
import { Tail, type TailBudget, type TailLimits } from "./tail.ts";

/** A reactor as the hub sees it. A replaced one is another record with the same index. */
export interface Reactor {
  readonly index: number;
  readonly link: Link;
  live: boolean;
}

export interface Room {
  readonly name: string;
  /** The number reactors know it by; never used again. */
  readonly handle: number;
  readonly kind: RoomKind;
  /** Opening until the broker delivers for it; joins wait until then. */
  open: boolean;
  epoch: string;
  /** The head: seq of the newest publication. */
  seq: number;
  tail: Tail;
  members: number;
  /** Members by reactor and format: entry `2 × reactor + json`. */
  readonly interest: Uint32Array;
  readonly waiting: { reactor: Reactor; join: JoinRecord }[];
  /** When the last member left, by Date.now(); 0 while there are any. */
  emptySince: number;
}

export interface RoomsOptions {
  readonly roomsMax: number;
  readonly reactors: number;
  readonly tailLimits: TailLimits;
  readonly tailBudget: TailBudget;
}

/** How long a room without members keeps its place and its tail: long enough for a page to be reloaded. */
const emptyRoomMs = 60_000;

export class Rooms {
  readonly #options: RoomsOptions;
  readonly #byName = new Map<string, Room>();
  readonly #byHandle = new Map<number, Room>();
  #lastHandle = 0;

  constructor(options: RoomsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#byName.size;
  }

  named(name: string): Room | undefined {
    return this.#byName.get(name);
  }

  numbered(handle: number): Room | undefined {
    return this.#byHandle.get(handle);
  }

  values(): IterableIterator<Room> {
    return this.#byName.values();
  }

  /** A new room, not open yet; null where the node has as many as it may. */
  create(name: string, kind: RoomKind): Room | null {
    if (this.#byName.size >= this.#options.roomsMax) return null;
    const { tailLimits, tailBudget, reactors } = this.#options;
    const room: Room = {
      name,
      handle: ++this.#lastHandle,
      kind,
      open: false,
      epoch: "",
      seq: 0,
      tail: new Tail(tailLimits, tailBudget, 0),
      members: 0,
      interest: new Uint32Array(2 * reactors),
      waiting: [],
      emptySince: Date.now(),
    };
    this.#byName.set(name, room);
    this.#byHandle.set(room.handle, room);
    return room;
  }

  remove(room: Room): void {
    room.tail.release();
    this.#byName.delete(room.name);
    this.#byHandle.delete(room.handle);
  }

  /** The broker delivers from `position` on. */
  opened(room: Room, epoch: string, seq: number): void {
    room.open = true;
    room.epoch = epoch;
    room.seq = seq;
    room.tail.clear(seq);
  }

  /** Rooms that have been empty long enough to be forgotten. */
  expired(now: number): Room[] {
    const before = now - emptyRoomMs;
    return [...this.#byName.values()].filter((room) => room.members === 0 && room.open && room.emptySince < before);
  }
}

/** The room's head as the protocol has it. */
export function headOf(room: Room): Position {
  return { epoch: room.epoch, seq: room.seq };
}

/** Counts a member in (`by` 1) or out (-1). */
export function countMember(room: Room, reactor: number, json: boolean, by: 1 | -1): void {
  room.interest[2 * reactor + (json ? 1 : 0)]! += by;
  room.members += by;
  if (room.members === 0) room.emptySince = Date.now();
}

/** Forgets every member a reactor had. */
export function forgetReactor(room: Room, reactor: number): void {
  room.members -= room.interest[2 * reactor]! + room.interest[2 * reactor + 1]!;
  room.interest.fill(0, 2 * reactor, 2 * reactor + 2);
  if (room.members === 0) room.emptySince = Date.now();
}

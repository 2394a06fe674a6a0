/** The rooms of one node: their members by reactor, and their positions. */
import type { RoomKind } from "../config/roomnames.ts";
import type { Position, Stored } from "../broker/broker.ts";
import type { ErrorCode } from "../errors.ts";
import { now } from "../link/clock.ts";
import type { Link } from "../link/link.ts";
import type { JoinRecord } from "../link/records.ts";
import { formatCount } from "../protocol/formats/formats.ts";
import { nameOfRoom } from "../protocol/roomkeys.ts";
import { RoomSizes } from "./roomsizes.ts";
import { Tail, type TailBudget, type TailLimits } from "./recovery/tail.ts";

/** A reactor as the hub sees it. A reactor that replaces another gets a new record with the same index. */
export interface AttachedReactor {
  readonly index: number;
  readonly link: Link;
  live: boolean;
}

/** Follows a room for the node itself. The room stays open meanwhile. It must not throw. */
export interface RoomListener {
  /** Publications after this position will be delivered. Called once, unless `refused` is. */
  opened(position: Position): void;
  refused(code: ErrorCode): void;
  /** The payload is valid until it returns. */
  delivered(publication: Stored): void;
  /** The room goes on from this position: publications before it may be missing. */
  moved(position: Position): void;
}

export interface HubRoom {
  /** The name in the node and its stores (roomkeys.ts), and the name that members use. */
  readonly key: string;
  readonly name: string;
  /** The number that reactors know it by; never used again. */
  readonly handle: number;
  readonly kind: RoomKind;
  /** False until the broker delivers for it; joins wait until then. */
  open: boolean;
  epoch: string;
  /** The number of its epoch, counted here. Reactors know epochs by it. */
  era: number;
  /** The head: seq of the newest publication. */
  seq: number;
  tail: Tail;
  members: number;
  /** Members by reactor and wire format: read with `countIn`. */
  readonly interest: Uint32Array;
  /** Null: none. */
  listeners: Set<RoomListener> | null;
  readonly waiting: { reactor: AttachedReactor; join: JoinRecord }[];
  /** The room's members get presence events. */
  followed: boolean;
  /** When the last member left, and when the last publication came, by the monotonic clock (link/clock.ts). */
  emptySince: number;
  publishedAt: number;
}

export interface HubRoomsOptions {
  readonly roomsMax: number;
  readonly reactors: number;
  readonly tailLimits: TailLimits;
  readonly tailBudget: TailBudget;
}

/** How long a room without members stays open and keeps its tail: long enough to reload a page. */
const emptyRoomMs = 60_000;
/** Share of the tails' bytes in use from which quiet rooms give up theirs. */
const tailsPressed = 0.9;

export class HubRooms {
  readonly #options: HubRoomsOptions;
  readonly #byKey = new Map<string, HubRoom>();
  readonly #byHandle = new Map<number, HubRoom>();
  /** Rooms without members, the longest empty first. */
  readonly #empty = new Set<HubRoom>();
  readonly #sizes = new RoomSizes();
  #lastHandle = 0;

  constructor(options: HubRoomsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Rooms by number of members (roomsizes.ts). */
  get sizes(): RoomSizes {
    return this.#sizes;
  }

  named(key: string): HubRoom | undefined {
    return this.#byKey.get(key);
  }

  numbered(handle: number): HubRoom | undefined {
    return this.#byHandle.get(handle);
  }

  all(): Iterable<HubRoom> {
    return this.#byKey.values();
  }

  get full(): boolean {
    return this.#byKey.size >= this.#options.roomsMax;
  }

  /** A new room, not open yet; null where the node has `roomsMax` rooms. */
  create(key: string, kind: RoomKind): HubRoom | null {
    if (this.full) return null;
    const { tailLimits, tailBudget, reactors } = this.#options;
    const room: HubRoom = {
      key,
      name: nameOfRoom(key),
      handle: ++this.#lastHandle,
      kind,
      open: false,
      epoch: "",
      era: 0,
      seq: 0,
      tail: new Tail(tailLimits, tailBudget, 0, kind.retention.durable ? kind.retention.historyTtlMs : 0),
      members: 0,
      interest: new Uint32Array(formatCount * reactors),
      listeners: null,
      waiting: [],
      followed: false,
      emptySince: now(),
      publishedAt: -Infinity,
    };
    this.#byKey.set(key, room);
    this.#byHandle.set(room.handle, room);
    this.#empty.add(room);
    this.#sizes.added();
    return room;
  }

  remove(room: HubRoom): void {
    room.tail.release();
    if (this.#byKey.delete(room.key)) this.#sizes.removed(room.members);
    this.#byHandle.delete(room.handle);
    this.#empty.delete(room);
  }

  /** The broker delivers from `position` on. */
  opened(room: HubRoom, epoch: string, seq: number): void {
    room.open = true;
    room.epoch = epoch;
    room.seq = seq;
    room.tail.clear(seq);
  }

  /** Counts a member in (`by` 1) or out (-1). */
  count(room: HubRoom, reactor: number, wire: number, by: 1 | -1): void {
    room.interest[place(reactor, wire)]! += by;
    this.#recount(room, by);
  }

  listen(room: HubRoom, listener: RoomListener): void {
    (room.listeners ??= new Set()).add(listener);
    this.#empty.delete(room);
  }

  unlisten(room: HubRoom, listener: RoomListener): void {
    if (room.listeners?.delete(listener) !== true || room.listeners.size > 0) return;
    room.listeners = null;
    this.#recount(room, 0);
  }

  /** Counts out all members of a reactor. */
  forgetReactor(reactor: number): void {
    for (const room of this.#byKey.values()) {
      let had = 0;
      for (let wire = 0; wire < formatCount; wire++) had += countIn(room, reactor, wire);
      room.interest.fill(0, place(reactor, 0), place(reactor + 1, 0));
      if (had > 0) this.#recount(room, -had);
    }
  }

  /** The room that has been without members longest. */
  emptiest(): HubRoom | null {
    for (const room of this.#empty) if (room.open) return room;
    return null;
  }

  /** Rooms that have been empty long enough to be evicted. */
  expired(): HubRoom[] {
    const before = now() - emptyRoomMs;
    return [...this.#empty].filter((room) => room.open && room.emptySince < before);
  }

  /** Releases the tails of quiet rooms when the tails' bytes run out: busy rooms need them more. */
  releaseQuietTails(): void {
    const { used, bytesMax } = this.#options.tailBudget;
    if (used < bytesMax * tailsPressed) return;
    const before = now() - emptyRoomMs;
    for (const room of this.#byKey.values()) if (room.publishedAt < before) room.tail.release();
  }

  #recount(room: HubRoom, by: number): void {
    if (this.#byKey.get(room.key) === room) this.#sizes.changed(room.members, room.members + by);
    room.members += by;
    if (room.members > 0 || room.listeners !== null) this.#empty.delete(room);
    else {
      room.emptySince = now();
      this.#empty.add(room);
    }
  }
}

/** Members of the room on a reactor in one wire format. */
export function countIn(room: HubRoom, reactor: number, wire: number): number {
  return room.interest[place(reactor, wire)]!;
}

function place(reactor: number, wire: number): number {
  return formatCount * reactor + wire;
}

/** The room's head in the form of the protocol. */
export function headOf(room: HubRoom): Position {
  return { epoch: room.epoch, seq: room.seq };
}

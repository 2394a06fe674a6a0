/** All rooms of a client: those it has joined, and those into which the application has joined its user. */
import type { ClientFrame, Ready, ServerFrame } from "../../protocol/messages.ts";
import { fluxError } from "../flux-error.ts";
import type { FluxError } from "../flux-error.ts";
import type { JoinOptions } from "../options.ts";
import { problemOf } from "../values.ts";
import { Membership } from "./membership.ts";
import type { MembershipOwner } from "./membership.ts";
import type { Position } from "./publication.ts";
import { Room } from "./room.ts";

export type RoomsOwner = Pick<MembershipOwner, "send" | "sendNow" | "outbox"> & {
  /** Sends a command without waiting for its reply. */
  tell(command: ClientFrame): void;
  isReady(): boolean;
  isClosed(): boolean;
  /** Position of an earlier page in a room; returned once. */
  takePlace(room: string): Position | null;
  /** The position in some room has changed. */
  onMoved(): void;
  /** The application has joined this client into a room. */
  onAssigned(room: Room): void;
};

type Entry = {
  readonly membership: Membership;
  /** One for each join(), and one for the application's. */
  readonly rooms: Set<Room>;
  /** The client is here by the application's will alone: it has not called join(). */
  isAssigned: boolean;
};

const utf8 = new TextEncoder();
/** Of a position in hello, beside the room's name and the epoch: tags, lengths and the seq. */
const positionBytes = 24;

export class Rooms {
  readonly #owner: RoomsOwner;
  readonly #heldMax: number;
  readonly #entries = new Map<string, Entry>();
  /** Memberships whose position the last hello included. */
  readonly #asked = new Map<string, Membership>();

  constructor(heldMax: number, owner: RoomsOwner) {
    this.#heldMax = heldMax;
    this.#owner = owner;
  }

  /** Rooms that the client is in, or is joining. */
  get size(): number {
    return this.#entries.size;
  }

  find(name: string): Room | undefined {
    return this.#entries.get(name)?.rooms.values().next().value;
  }

  join<Data>(name: string, options: JoinOptions<Data>): Room<Data> {
    const known = this.#entries.get(name);
    if (known !== undefined) {
      known.isAssigned = false;
      return this.#addRoom(known, name, options, true);
    }
    const entry = this.#enter(name, options, false);
    const { membership } = entry;
    const room = this.#addRoom(entry, name, options, false);
    const problem = problemOf({ room: name, recover: options.recover, history: options.history });
    if (this.#owner.isClosed()) membership.end(fluxError("closed"));
    // Later, so that the caller can add listeners first.
    else queueMicrotask(() => {
      if (problem !== null) membership.end(fluxError("bad_request", problem));
      else if (this.#owner.isReady()) membership.join();
    });
    return room;
  }

  #enter(name: string, { recover, history = 0 }: Pick<JoinOptions, "recover" | "history">, isAssigned: boolean): Entry {
    const { send, sendNow, outbox, takePlace, onMoved } = this.#owner;
    const place = takePlace(name);
    const membership = new Membership(
      { room: name, recover: recover ?? place, goesOn: !recover && place !== null, history, heldMax: this.#heldMax },
      { send, sendNow, outbox, onLeft: () => this.#entries.delete(name) },
    );
    const entry = { membership, rooms: new Set<Room>(), isAssigned };
    this.#entries.set(name, entry);
    membership.emitter.on("publication", onMoved);
    return entry;
  }

  #addRoom<Data>(entry: Entry, name: string, options: JoinOptions<Data>, isLate: boolean): Room<Data> {
    const { send: paced, sendNow: send, outbox: { clock, random } } = this.#owner;
    const { membership, rooms } = entry;
    const leave = async (one: Room) => {
      rooms.delete(one);
      if (rooms.size === 0) return membership.leave();
      one.end();
    };
    const room = new Room<Data>(name, membership, { send, paced, leave, clock, random, heldMax: this.#heldMax }, { ...options, isLate });
    rooms.add(room as Room);
    return room;
  }

  /** The node joins the client by itself. From the position of an earlier page, only the client can ask. */
  #enterAssigned(name: string): void {
    const entry = this.#enter(name, {}, true);
    const { membership } = entry;
    const room = this.#addRoom(entry, name, {}, false);
    if (membership.position === null) membership.restore();
    this.#owner.onAssigned(room);
    membership.join();
  }

  // ------------------------------------------------------------ the session

  /** Positions for hello, of so many bytes. Rooms that do not fit are joined again after it. */
  positions(bytesMax: number): { room: string; position: Position }[] {
    this.#asked.clear();
    const positions: { room: string; position: Position }[] = [];
    let bytesLeft = bytesMax;
    for (const [room, { membership }] of this.#entries) {
      const { position } = membership;
      if (position === null) continue;
      bytesLeft -= utf8.encode(room + position.epoch).length + positionBytes;
      if (bytesLeft < 0) break;
      this.#asked.set(room, membership);
      positions.push({ room, position });
    }
    return positions;
  }

  /** There is a session. In the rooms of a resumed one the node rejoins by itself, from the positions in hello. */
  onReady({ resumed, rooms, assigned: named, assignedUnread }: Ready, isThere: () => boolean): void {
    const restored = new Set(resumed ? rooms : null);
    const assigned = new Set(named);
    for (const [name, { membership, isAssigned }] of [...this.#entries]) {
      if (!isThere()) return;
      if (isAssigned && assignedUnread) membership.restore();
      else if (isAssigned && !assigned.has(name)) membership.end(fluxError("removed"));
      else if (restored.has(name) && this.#asked.get(name) === membership) membership.restore();
      else {
        // A new membership, or hello had no room for it. Within the node's rate, since there may be many.
        if (restored.has(name)) this.#owner.send({ leave: { room: name } }, () => {});
        membership.join();
      }
    }
    for (const name of assigned) {
      if (!this.#entries.has(name)) this.#enterAssigned(name);
      if (!isThere()) return;
    }
    for (const room of restored) if (!this.#entries.has(room)) this.#owner.send({ leave: { room } }, () => {});
  }

  onEvent(event: ServerFrame): void {
    const { joined, publication, replay, sync, published, presenceChanged, left } = event;
    const { room } = publication ?? joined ?? replay ?? sync ?? published ?? presenceChanged ?? left ?? {};
    if (!room) return;
    if (joined?.assigned && !this.#entries.has(room)) this.#enterAssigned(room);
    const entry = this.#entries.get(room);
    // The node cannot bring the session back now, and joins it again when it can.
    if (left && left.reason !== "removed" && entry?.isAssigned) return;
    entry?.membership.onEvent(event);
  }

  /** Positions to keep outside of the page. */
  *places(): Generator<[room: string, position: Position]> {
    for (const [name, { membership }] of this.#entries) if (membership.position !== null) yield [name, membership.position];
  }

  interrupt(): void {
    for (const { membership } of this.#entries.values()) membership.interrupt();
  }

  end(error: FluxError): void {
    for (const { membership } of [...this.#entries.values()]) membership.end(error);
  }
}

/**
 * Deliveries from the hub to the members of rooms. A delivery waits in the room's flush window, is packed with its
 * neighbours, or is published at once. Deliveries that follow each other in one batch to the same topic become one
 * message, in formats whose messages hold several frames. uWS then does its work per message and socket only once.
 */
import { now } from "../../link/clock.ts";
import { slots } from "../../link/counters.ts";
import type { RecordReader } from "../../link/link.ts";
import { excludes } from "../../link/publications.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { Context } from "../context.ts";
import type { Fanout } from "./fanout.ts";
import { tooSlow } from "../outgoing.ts";
import { isLive, membersOf, type Member, type ReactorRoom, type Session } from "../session/session.ts";
import { dropped } from "../transport/socket.ts";
import { sendOff } from "../session/directions.ts";
import { noPartition } from "../session/holdings.ts";
import { Windows } from "./windows.ts";

/** uWS stops coalescing the writes of a turn at messages of 16 kB, so a pack stays below. */
const packBytesMax = 15 * 1024;

export class Deliveries {
  readonly #context: Context;
  readonly #fanout: Fanout;
  /** By handle. */
  readonly #rooms: ReadonlyMap<number, ReactorRoom>;
  readonly #windows: Windows;
  readonly #pack = Buffer.allocUnsafeSlow(packBytesMax);
  #packed = 0;
  #packRoom: ReactorRoom | null = null;
  #packWire = 0;
  /** Whom the pack is not for: the publisher of all that is in it. */
  #packOut: Session | null = null;
  /** The first publication in the pack, and the one before it. */
  #packSeq = 0;
  #packPrev = 0;

  constructor(context: Context, fanout: Fanout, rooms: ReadonlyMap<number, ReactorRoom>) {
    this.#context = context;
    this.#fanout = fanout;
    this.#rooms = rooms;
    this.#windows = new Windows(fanout, (ms) => context.counters.fanout(ms));
  }

  /** Delivers one publication to the members of a room in one format. False: not in this turn of the loop. */
  onRecord(record: RecordReader): boolean | void {
    const room = this.#rooms.get(record.u32());
    const flags = record.u8();
    const wire = flags & ~excludes;
    const publisher = flags === wire ? null : this.#context.sessions.find(record.u32(), record.u32());
    const at = record.f64();
    const seq = record.whole();
    const prev = record.whole();
    const frame = record.blob();
    if (room === undefined || room.live[wire]! === 0) return;
    if (room.partition !== noPartition && !this.#context.holdings.allows(room.partition)) return this.#refuse(room, wire);
    const excluded = publisher !== null && isLive(publisher, room, wire) ? publisher : null;
    const members = room.live[wire]! - (excluded === null ? 0 : 1);
    if (room.flushMs > 0) {
      if (excluded === null && this.#windows.add(room, wire, frame, seq, prev, at)) return this.#count(members, frame.length);
      // The publication cannot wait, so the waiting ones have to leave before it.
      if (!this.#fanout.mayPublish(0, this.#waiting(room, wire))) return false;
      this.#windows.flush(room, wire);
      if (excluded === null && this.#windows.add(room, wire, frame, seq, prev, at)) return this.#count(members, frame.length);
    }
    if (!this.#fanout.mayPublish(frame.length, this.#waiting(room, wire))) return false;
    this.#count(members, frame.length);
    this.#context.counters.fanout(now() - at);
    // In a room with windows, a pack and a window could change places.
    if (formats[wire]!.append !== null && room.flushMs === 0) return this.#packIn(room, wire, frame, seq, prev, excluded);
    this.flush();
    this.#publish(room, wire, frame, seq, prev, excluded);
  }

  /** uWS publishes nothing on a socket without topics. */
  #publish(room: ReactorRoom, wire: number, message: Uint8Array, seq: number, prev: number, out: Session | null): void {
    const excluded = out?.socket?.isSubscribed(room.topics[wire]!) === true ? out : null;
    this.#fanout.publish(room, wire, message, seq, prev, excluded);
  }

  /**
   * Another node may deliver to these users by now. Their clients reconnect, and get it from whichever node does: a
   * publication that is left out here would be missing between two others.
   */
  #refuse(room: ReactorRoom, wire: number): void {
    this.#context.counters.add("heldBack", 1);
    for (let member = room.firsts[wire] ?? null, next; member !== null; member = next) {
      next = member.after;
      sendOff(this.#context, member.session);
    }
  }

  /** Sends the members of a room in one format a frame with their new position. False: not in this turn of the loop. */
  onMoved(record: RecordReader): boolean | void {
    const room = this.#rooms.get(record.u32());
    const wire = record.u8();
    const prev = record.f64();
    const eraBefore = record.u32();
    const era = record.u32();
    const frame = record.blob();
    if (room === undefined) return;
    if (!this.#fanout.mayPublish(frame.length, this.#waiting(room, wire))) return false;
    this.flush();
    this.#windows.flush(room, wire);
    this.#count(room.live[wire]!, frame.length);
    this.#fanout.moved(room, wire, frame, prev, eraBefore, era);
  }

  /** Publishes that come before the next one of this room. */
  #waiting(room: ReactorRoom, wire: number): number {
    return this.#windows.waiting(room, wire) + (this.#packRoom === null ? 0 : 1);
  }

  #count(members: number, bytes: number): void {
    const { counters } = this.#context;
    counters.addAt(slots.deliveries, members);
    counters.addAt(slots.framesOut, members);
    counters.addAt(slots.bytesOut, members * bytes);
  }

  #packIn(room: ReactorRoom, wire: number, frame: Uint8Array, seq: number, prev: number, out: Session | null): void {
    if (room !== this.#packRoom || wire !== this.#packWire || out !== this.#packOut || this.#packed + frame.length > packBytesMax) {
      this.flush();
      if (frame.length > packBytesMax) return this.#publish(room, wire, frame, seq, prev, out);
      this.#packRoom = room;
      this.#packWire = wire;
      this.#packOut = out;
      this.#packSeq = seq;
      this.#packPrev = prev;
    }
    this.#packed = formats[wire]!.append!(this.#pack, this.#packed, frame);
  }

  /** Publishes the pack. */
  flush(): void {
    const room = this.#packRoom;
    if (room === null) return;
    const pack = this.#pack.subarray(0, this.#packed);
    const out = this.#packOut;
    this.#packRoom = this.#packOut = null;
    this.#packed = 0;
    this.#publish(room, this.#packWire, pack, this.#packSeq, this.#packPrev, out);
  }

  /**
   * Call this before a frame goes to one session. The pack leaves first where the session gets it. The answers to a
   * publisher that excludes itself lie between its publications, and must not part them.
   */
  flushBefore(session: Session): void {
    const room = this.#packRoom;
    if (room !== null && session !== this.#packOut && isLive(session, room, this.#packWire)) this.flush();
  }

  /** Publishes what waits for this session, within the limit of this turn of the loop. The rest goes on waiting. */
  flushFor(session: Session): void {
    this.flush();
    const { wire } = session;
    for (const { state, room } of membersOf(session)) if (state === "live" && this.mayFlush(room!, wire)) this.#windows.flush(room!, wire);
  }

  /**
   * Sends a leaving member what waits for it, to this member alone. Publishing it to the room could exceed the limit of
   * this turn: a session may leave many rooms at once. A leave does not come through the ring, so it cannot be put off
   * to a later turn.
   */
  handOver({ state, room, session }: Member): void {
    if (state !== "live") return;
    this.#windows.each(room!, session.wire, (message) => {
      const { socket, wire } = session;
      if (socket === null || session.state === "closing") return;
      // The message was counted when it was delivered.
      if (socket.send(message, formats[wire]!.isBinary, message.length >= this.#context.compressFrom) === dropped) tooSlow(this.#context, session);
    });
  }

  /** Hands over the waiting publications of all rooms of a session that is about to be closed. */
  handOverAll(session: Session): void {
    this.flush();
    for (const member of membersOf(session)) this.handOver(member);
  }

  /** Whether this turn of the loop may still publish what waits for the room's members in this format. */
  mayFlush(room: ReactorRoom, wire: number): boolean {
    const waiting = this.#windows.waiting(room, wire);
    return waiting === 0 || this.#fanout.mayPublish(0, waiting - 1);
  }

  /** Publishes what waits for the room's members in this format. */
  flushRoom(room: ReactorRoom, wire: number): void {
    this.#windows.flush(room, wire);
  }

  /** Call this after a live member left. When it was the last, what waits has no receiver and is discarded. */
  left(room: ReactorRoom, wire: number): void {
    if (room.live[wire]! === 0) this.#windows.discard(room, wire);
  }

  /** Publishes everything that waits. */
  flushAll(): void {
    this.flush();
    this.#windows.flushAll();
  }
}

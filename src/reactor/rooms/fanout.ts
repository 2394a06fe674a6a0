/**
 * What leaves for the members of rooms: one publish for all live members of one format, and a short memory of what was
 * published, so that it can be said what a socket missed.
 *
 * uWS does not write what is published at once. It notes up to 32 messages for every subscriber and hands them to its
 * socket before and after the loop waits for events, or when there is a 33rd. A socket that is full by then loses the
 * first message that does not fit (`dropped` is called with it) and the rest of what was noted. Where that happens
 * between two turns of the loop, nothing can follow before slow.ts has dealt with it. Inside a publish something would:
 * the 33rd message, or one of 16 kB and more, which is sent at once whatever was noted. So no more is published in a
 * turn than is noted, and large messages go first in theirs; the ring waits meanwhile (`mayPublish`).
 */
import { formatCount, formats } from "../../protocol/formats/formats.ts";
import type { ReactorRoom, Session } from "../session/session.ts";
import { largeBytes } from "../transport/large.ts";
import type { Audiences } from "../transport/socket.ts";

/** What uWS notes for a subscriber, less the one whose publish would hand them over. */
const publishesPerTurn = 31;
/** Publishes that are remembered: those of more turns than a socket can be behind in what it is told. */
const remembered = 256;
/** The seq of a frame that tells members where they are now: no publication has it. */
const move = -1;
/** Added to the wire format of a change of presence, so that no publication has the same. */
export const presenceOffset = formatCount;

/** Up to where a member has everything, and in which era of the room's stream. */
export interface Place {
  readonly seq: number;
  readonly era: number;
}

/** What may wait in the queues of all sockets (queuebudget.ts). */
export interface SharedQueues {
  /** Whether so much may wait besides what does. */
  takes(bytes: number): boolean;
  /** Cuts the longest queues. */
  relieve(): void;
  /** To each live member by itself, as long as its queue may grow; the others have missed it. */
  sendEach(room: ReactorRoom, wire: number, message: Uint8Array, compress: boolean, excluded: Session | null): void;
  turn(): void;
}

const unbounded: SharedQueues = { takes: () => true, relieve: () => {}, sendEach: () => {}, turn: () => {} };

export class Fanout {
  /** Publishes so far: the order of the next one. */
  order = 0;
  readonly #audiences: Audiences;
  /** Bytes from which a message is compressed, where that is on. */
  readonly #compressFrom: number;
  /** Called before something is published. */
  readonly #settle: () => void;
  /** Inside a publish: its order. */
  #publishing = -1;
  readonly #queues: SharedQueues;
  #inTurn = 0;
  #turn = 0;
  #turnSeen = 0;
  #watching = false;
  // Publish n lies in place n % remembered: which room and format, and the first publication in it; of a change, which is
  // no publication, its version, and a wire format that no publication has.
  readonly #handles = new Uint32Array(remembered);
  readonly #wires = new Uint8Array(remembered);
  readonly #seqs = new Float64Array(remembered);
  readonly #prevs = new Float64Array(remembered);
  readonly #eras = new Uint32Array(remembered);

  constructor(audiences: Audiences, compressFrom: number, settle: () => void, queues: SharedQueues = unbounded) {
    this.#queues = queues;
    this.#audiences = audiences;
    this.#compressFrom = compressFrom;
    this.#settle = settle;
  }

  /** Whether a message of this size may be published in this turn, besides `waiting` others that will be before it. */
  mayPublish(bytes: number, waiting: number): boolean {
    const before = this.#inTurn + waiting;
    return bytes < largeBytes ? before < publishesPerTurn : before === 0;
  }

  /** To the live members of one format, but `excluded`: `message` begins with publication `seq`, which follows `prev`. */
  publish(room: ReactorRoom, wire: number, message: Uint8Array, seq: number, prev: number, excluded: Session | null): void {
    this.#settle();
    const at = this.order % remembered;
    this.#handles[at] = room.handle;
    this.#wires[at] = wire;
    this.#seqs[at] = seq;
    this.#prevs[at] = prev;
    this.#eras[at] = room.eras[wire]!;
    this.#publishing = this.order;
    const topic = room.topics[wire]!;
    // uWS leaves out the socket that a publish is called on.
    const compress = message.length >= this.#compressFrom;
    const goesWhole = message.length < largeBytes || compress;
    if (!goesWhole || !this.#queues.takes(message.length * room.live[wire]!)) this.#queues.sendEach(room, wire, message, compress, excluded);
    else if (excluded === null) this.#audiences.publish(topic, message, formats[wire]!.isBinary, compress);
    else this.#audiences.publishExcept(excluded.socket!, excluded.audience, topic, message, formats[wire]!.isBinary, compress);
    this.#publishing = -1;
    this.order++;
    if (message.length < largeBytes) this.#count();
  }

  /**
   * To the members of one format that are told who comes and goes. It has a place in the order, for who misses it misses
   * what comes behind it too; but by itself it is nothing that could be caught up with.
   */
  tell(room: ReactorRoom, wire: number, message: Uint8Array, version: number): void {
    this.#settle();
    const at = this.order % remembered;
    this.#handles[at] = room.handle;
    this.#wires[at] = presenceOffset + wire;
    this.#seqs[at] = version;
    this.#publishing = this.order;
    if (!this.#queues.takes(message.length * room.presence[wire]!)) this.#queues.relieve();
    this.#audiences.publish(room.presenceTopics[wire]!, message, formats[wire]!.isBinary, message.length >= this.#compressFrom);
    this.#publishing = -1;
    this.order++;
    if (message.length < largeBytes) this.#count();
  }

  /** Order of the publish that began with this publication, or was this change; -1 where it is not remembered. */
  find(handle: number, wire: number, seq: number): number {
    for (let order = this.#newest; order >= this.#oldest; order--) {
      const at = order % remembered;
      if (this.#handles[at] === handle && this.#wires[at] === wire && this.#seqs[at] === seq) return order;
    }
    return -1;
  }

  /** Tells the live members of one format that they are in `era` from here on. They were complete up to `prev` of `eraBefore`. */
  moved(room: ReactorRoom, wire: number, message: Uint8Array, prev: number, eraBefore: number, era: number): void {
    room.eras[wire] = eraBefore;
    this.publish(room, wire, message, move, prev, null);
    room.eras[wire] = era;
  }

  /** Where a member of the room was complete before the publish `from` and all after it; null: the room had none of them. */
  placeBefore(handle: number, wire: number, from: number): Place | null {
    for (let order = Math.max(from, this.#oldest); order <= this.#newest; order++) {
      const at = order % remembered;
      if (this.#handles[at] === handle && this.#wires[at] === wire) return { seq: this.#prevs[at]!, era: this.#eras[at]! };
    }
    return null;
  }

  /** Handles of the rooms that had a publish for members of one format, `from` or a later one. */
  roomsSince(wire: number, from: number): Set<number> {
    const handles = new Set<number>();
    for (let order = Math.max(from, this.#oldest); order <= this.#newest; order++) {
      const at = order % remembered;
      if (this.#wires[at] === wire) handles.add(this.#handles[at]!);
    }
    return handles;
  }

  /** Whether a socket that missed this publish has got nothing later and will not: all from it on is remembered. */
  isExact(order: number): boolean {
    return order >= this.#oldest && (this.#publishing < 0 || this.#publishing === order);
  }

  /** Order of the publish under way, for a socket that reports at once that it is full. */
  get current(): number {
    return this.#publishing;
  }

  /** A turn of the loop begins: what was noted in the one before has been handed over. */
  turn = (): void => {
    this.#turn++;
    this.#inTurn = 0;
    this.#queues.turn();
  };

  get #newest(): number {
    return this.#publishing < 0 ? this.order - 1 : this.#publishing;
  }

  get #oldest(): number {
    return Math.max(0, this.#newest - remembered + 1);
  }

  #count(): void {
    this.#inTurn++;
    if (this.#watching) return;
    this.#watching = true;
    this.#turnSeen = this.#turn;
    setImmediate(this.#watch);
  }

  /** Immediates run behind uWS's own look at the end of a turn; but one of them may have published before this one. */
  #watch = (): void => {
    this.#watching = false;
    if (this.#turn === this.#turnSeen) this.turn();
    else if (this.#inTurn > 0) {
      this.#watching = true;
      this.#turnSeen = this.#turn;
      setImmediate(this.#watch);
    }
  };
}

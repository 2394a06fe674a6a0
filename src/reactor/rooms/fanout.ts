/**
 * Publishes to the members of rooms: one publish for all live members in one format. It remembers the latest publishes,
 * so that a later look finds what a socket missed.
 *
 * uWS does not write a publish at once. It notes up to 32 messages per subscriber. It hands them to the socket before
 * and after the loop waits for events, or when a 33rd message comes. A socket that is full by then loses the first
 * message that does not fit (uWS calls `dropped` with it) and all noted ones behind it. Between two turns of the loop,
 * nothing can follow before slow.ts has dealt with the loss. Inside a publish something could follow: the 33rd message,
 * or one of at least 16 kB, which uWS sends at once. So one turn publishes no more than uWS notes, and a large message
 * goes first in its turn. Meanwhile the ring waits (`mayPublish`).
 */
import { formatCount, formats } from "../../protocol/formats/formats.ts";
import type { ReactorRoom, Session } from "../session/session.ts";
import { largeBytes } from "../transport/fragments.ts";
import type { Audiences } from "../transport/socket.ts";

/** The number that uWS notes for a subscriber, less the one whose publish would hand them over. */
const publishesPerTurn = 31;
/** Remembered publishes. They span more turns than uWS takes to report a loss. */
const remembered = 256;
/** The seq of a frame that tells members their new position: no publication has it. */
const move = -1;
/** Added to the wire format of a presence change, so that no publication has the same. */
export const presenceOffset = formatCount;

/** Up to where a member has everything, and in which era of the room's stream. */
export interface UpTo {
  readonly seq: number;
  readonly era: number;
}

/** The bytes queued for all sockets together (queuebudget.ts). */
export interface SharedQueues {
  /** Whether so many bytes may wait besides those that already do. */
  takes(bytes: number): boolean;
  /** Cuts the longest queues. */
  relieve(): void;
  /** Sends to each live member by itself, as long as its queue may grow. The others have missed the message. */
  sendEach(room: ReactorRoom, wire: number, message: Uint8Array, compress: boolean, excluded: Session | null): void;
  turn(): void;
}

const unbounded: SharedQueues = { takes: () => true, relieve: () => {}, sendEach: () => {}, turn: () => {} };

export class Fanout {
  /** Publishes so far: the order of the next one. */
  order = 0;
  readonly #audiences: Audiences;
  /** Bytes from which a message is compressed, where compression is on. */
  readonly #compressFrom: number;
  /** Called before each publish. */
  readonly #settle: () => void;
  /** The order of the publish under way, else -1. */
  #publishing = -1;
  readonly #queues: SharedQueues;
  #inTurn = 0;
  #turn = 0;
  #turnSeen = 0;
  #watching = false;
  // Publish n is in slot n % remembered: its room, its format, and its first publication. A presence change has its
  // version there instead, and a wire format that no publication has.
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

  /** Whether this turn may publish a message of this size after `waiting` others. */
  mayPublish(bytes: number, waiting: number): boolean {
    const before = this.#inTurn + waiting;
    return bytes < largeBytes ? before < publishesPerTurn : before === 0;
  }

  /**
   * To the live members in one format except `excluded`. `message` begins with publication `seq`, which follows `prev`.
   */
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
   * Sends a presence change to the members in one format that see presence. It is remembered like a publish, since a
   * socket that misses it also misses the publications after it. Recovery brings these back, but not the change.
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

  /**
   * Order of the publish that began with this publication, or of this presence change. -1 where it is not remembered.
   */
  find(handle: number, wire: number, seq: number): number {
    for (let order = this.#newest; order >= this.#oldest; order--) {
      const at = order % remembered;
      if (this.#handles[at] === handle && this.#wires[at] === wire && this.#seqs[at] === seq) return order;
    }
    return -1;
  }

  /**
   * Tells the live members in one format that they are in `era` from here on. They were complete up to `prev` of
   * `eraBefore`.
   */
  moved(room: ReactorRoom, wire: number, message: Uint8Array, prev: number, eraBefore: number, era: number): void {
    room.eras[wire] = eraBefore;
    this.publish(room, wire, message, move, prev, null);
    room.eras[wire] = era;
  }

  /**
   * Up to where a member of the room was complete before the publish `from` and all later ones. Null: the room had none
   * of them.
   */
  upToBefore(handle: number, wire: number, from: number): UpTo | null {
    for (let order = Math.max(from, this.#oldest); order <= this.#newest; order++) {
      const at = order % remembered;
      if (this.#handles[at] === handle && this.#wires[at] === wire) return { seq: this.#prevs[at]!, era: this.#eras[at]! };
    }
    return null;
  }

  /** Handles of the rooms that had a publish in one format, `from` or a later one. */
  roomsSince(wire: number, from: number): Set<number> {
    const handles = new Set<number>();
    for (let order = Math.max(from, this.#oldest); order <= this.#newest; order++) {
      const at = order % remembered;
      if (this.#wires[at] === wire) handles.add(this.#handles[at]!);
    }
    return handles;
  }

  /** Whether a socket that missed this publish has received nothing later: all publishes since are remembered. */
  isExact(order: number): boolean {
    return order >= this.#oldest && (this.#publishing < 0 || this.#publishing === order);
  }

  /** Order of the publish under way, for a socket that reports at once that it is full. */
  get current(): number {
    return this.#publishing;
  }

  /** Call this when a turn of the loop begins: uWS has handed over what it noted in the turn before. */
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

  /**
   * Immediates run after uWS's own work at the end of a turn. But another immediate may have published before this one.
   */
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

/**
 * The order of one room as this client sees it: every publication once, in order, or a gap that is told. Knows
 * positions only; sockets and commands are its owner's.
 */
import { FluxError } from "../flux-error.ts";
import type { Arrival, Position } from "./publication.ts";

/** Publications after `from`, up to and including `to`, were or may have been lost to this client. */
export type Gap = { readonly from: Position; readonly to: Position; readonly text: string };
/** Publications after `from`, up to `to`, had been missed and have been delivered. */
export type Recovered = { readonly from: Position; readonly to: Position; readonly publications: number };

export type StreamOwner = {
  deliver(arrival: Arrival, replayed: boolean): void;
  onGap(gap: Gap): void;
  onRecovered(recovered: Recovered): void;
  /** The replay is over: what comes now is live. */
  onLive(): void;
  /** For a while nothing of the room was sent, as the socket was full: changes that nobody gives later are missed. */
  onMissed(): void;
  /** MUST call back exactly once, unless the session ends before; the owner repeats what may be repeated. */
  readHistory(since: Position, onAnswer: (answer: Arrival[] | FluxError) => void): void;
};

/** Something that says where the room is; `prev` is the position we should have been at before it. */
type Item = Position & { readonly prev: number; readonly arrival: Arrival | null };

type Replay = { head: Position; recovering: boolean; from: Position | null; publications: number };
type Repair = { from: Position; publications: number };

/** Own publications that will be remembered until the room's stream has passed them. */
const ownMax = 1000;

export class Stream {
  /** Of the last publication delivered; null before the first joined. */
  position: Position | null;
  readonly #owner: StreamOwner;
  readonly #heldMax: number;
  /** What came while something before it was still being fetched. */
  #held: Item[] = [];
  #replay: Replay | null = null;
  #repair: Repair | null = null;
  /** Our publications which we asked not to be given, each with the one before it: part of the stream, but no event. */
  readonly #own = new Map<number, number>();

  constructor(position: Position | null, heldMax: number, owner: StreamOwner) {
    this.position = position;
    this.#heldMax = heldMax;
    this.#owner = owner;
  }

  /** Nothing that was missed is on its way. */
  get isLive(): boolean {
    return this.#replay === null;
  }

  // ------------------------------------------------------------ joining

  /** `asked`: the position recovery was asked for, null if it was not. Pages follow by way of replay. */
  begin(head: Position, asked: Position | null, recovered: boolean): void {
    this.#replay = { head, recovering: asked !== null, from: asked, publications: 0 };
    if (asked !== null && !recovered) this.#skipTo(head, gone);
  }

  replay(page: Arrival[], more: boolean): void {
    const replay = this.#replay;
    if (replay === null) return this.#catchUp(page, more);
    for (const arrival of page) {
      const position = this.position;
      if (position !== null && position.epoch === arrival.epoch) {
        if (arrival.seq <= position.seq) continue;
        if (replay.recovering) this.#checkPrev(position, arrival);
      }
      if (this.#accept(arrival, arrival, true)) replay.publications++;
    }
    if (!more) this.#endReplay(replay);
  }

  /** Unasked: what a socket that was full has missed. Each has its place as if it had come in time. */
  #catchUp(page: Arrival[], more: boolean): void {
    for (const arrival of page) this.publication(arrival);
    if (!more) this.#owner.onMissed();
  }

  /** The socket is gone. The next joined says what was missed. */
  interrupt(): void {
    this.#replay = null;
    this.#repair = null;
    this.#held = [];
  }

  #endReplay({ head, recovering, from, publications }: Replay): void {
    this.#replay = null;
    const position = this.position;
    if (from !== null && position !== null && publications > 0) this.#owner.onRecovered({ from, to: position, publications });
    if (recovering && isElsewhere(position, head)) this.#skipTo(head, "the replay ended before the head");
    else if (position === null || position.epoch !== head.epoch || position.seq < head.seq) this.position = head;
    this.#owner.onLive();
    this.#drain(false);
  }

  // ------------------------------------------------------------ live

  publication(arrival: Arrival): void {
    const { epoch, seq, prev } = arrival;
    this.#take({ epoch, seq, prev, arrival });
  }

  /**
   * The node says where the room is: what we do not have by now was not sent to us, and what comes from here on is
   * live. In the middle of a replay it is the end of it: no page will follow, so nothing must wait for one.
   */
  sync(head: Position): void {
    if (this.#replay !== null) return this.#endReplay({ ...this.#replay, head, recovering: this.position !== null });
    this.#take({ ...head, prev: head.seq, arrival: null });
    this.#owner.onMissed();
  }

  /**
   * A publication of ours that we will not be given. It moves our position only if it is the next one: there may be
   * others before it, and what tells us of those is the `prev` of the one behind it.
   * @param prev of ours; without it only the seq before ours can be the one
   */
  own({ epoch, seq }: Position, prev = seq - 1): void {
    const position = this.position;
    if (position !== null && (position.epoch !== epoch || seq <= position.seq)) return;
    const isNext = position !== null && prev <= position.seq && this.#replay === null && this.#repair === null;
    if (isNext) this.position = { epoch, seq };
    else if (this.#own.size < ownMax) this.#own.set(seq, prev);
  }

  #take(item: Item): void {
    if (this.position !== null && this.#replay === null && this.#repair === null && this.#advance(item)) return;
    this.#held.push(item);
    if (this.#held.length > this.#heldMax) this.#overflow(item);
    else if (this.#replay === null && this.#repair === null) this.#startRepair();
  }

  /** False: something before the item is missing. */
  #advance(item: Item): boolean {
    const position = this.position;
    if (position !== null && item.epoch !== position.epoch) {
      this.#skipTo(before(item), "the room's stream has begun anew");
    } else if (position !== null) {
      if (item.seq <= position.seq) return true;
      if (item.prev > position.seq && !this.#isOwn(item.prev, position)) return false;
    }
    this.#accept(item, item.arrival, false);
    return true;
  }

  /** Whether nothing but publications of ours lies between the position and `last`, the first of which follows it. */
  #isOwn(last: number, { seq: from }: Position): boolean {
    const between: number[] = [];
    let seq: number | undefined = last;
    for (; seq !== undefined && seq > from; seq = this.#own.get(seq)) between.push(seq);
    if (seq === undefined) return false;
    for (const one of between) this.#own.delete(one);
    return true;
  }

  /** Whether it was delivered. */
  #accept({ epoch, seq }: Position, arrival: Arrival | null, replayed: boolean): boolean {
    this.position = { epoch, seq };
    const isOwn = this.#own.delete(seq);
    if (arrival === null || isOwn) return false;
    this.#owner.deliver(arrival, replayed);
    return true;
  }

  // ------------------------------------------------------------ gaps

  #startRepair(): void {
    if (this.position === null) return;
    this.#repair = { from: this.position, publications: 0 };
    this.#readOn(this.#repair);
  }

  #readOn(repair: Repair): void {
    const since = this.position ?? repair.from;
    this.#owner.readHistory(since, (answer) => {
      if (this.#repair !== repair) return; // given up since: interrupted, or too much was held
      if (answer instanceof FluxError) return this.#endRepair(repair, true);
      const progress = this.#repairWith(answer, repair);
      const next = this.#held[0];
      const isMissing = next !== undefined && isBehind(this.position, before(next));
      if (isMissing && progress) this.#readOn(repair);
      else this.#endRepair(repair, isMissing);
    });
  }

  #repairWith(page: Arrival[], repair: Repair): boolean {
    let progress = false;
    for (const arrival of page) {
      const position = this.position;
      if (position === null || arrival.epoch !== position.epoch) break;
      if (arrival.seq <= position.seq) continue;
      this.#checkPrev(position, arrival);
      if (this.#accept(arrival, arrival, true)) repair.publications++;
      progress = true;
    }
    return progress;
  }

  #endRepair({ from, publications }: Repair, isStuck: boolean): void {
    this.#repair = null;
    if (publications > 0 && this.position !== null) this.#owner.onRecovered({ from, to: this.position, publications });
    this.#drain(isStuck);
  }

  /** Delivers what was held. `isStuck`: what is missing before the first of it cannot be had. */
  #drain(isStuck: boolean): void {
    let skip = isStuck;
    while (this.#repair === null && this.#replay === null) {
      const item = this.#held[0];
      if (item === undefined) return;
      if (skip && isBehind(this.position, before(item))) this.#skipTo(before(item), gone);
      skip = false;
      if (this.#advance(item)) this.#held.shift();
      else this.#startRepair(); // another gap, behind the first
    }
  }

  #overflow(last: Item): void {
    this.interrupt();
    this.#skipTo(last, `more than ${this.#heldMax} publications came while a gap was being closed`);
  }

  #checkPrev(position: Position, arrival: Arrival): void {
    if (arrival.prev > position.seq) this.#skipTo(before(arrival), gone);
  }

  #skipTo({ epoch, seq }: Position, text: string): void {
    const from = this.position;
    const to = { epoch, seq };
    this.position = to;
    if (from === null) return;
    if (from.epoch !== to.epoch) this.#own.clear();
    this.#owner.onGap({ from, to, text });
  }
}

const gone = "the node no longer has what was missed";

function isBehind(position: Position | null, other: Position): boolean {
  return position !== null && position.epoch === other.epoch && position.seq < other.seq;
}

/** Behind it, or in a stream that the room no longer has. */
function isElsewhere(position: Position | null, head: Position): boolean {
  return position !== null && (position.epoch !== head.epoch || position.seq < head.seq);
}

/** Where one should be before the item. */
function before({ epoch, prev }: Item | Arrival): Position {
  return { epoch, seq: prev };
}

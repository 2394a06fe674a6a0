/**
 * The order of one room for this client: every publication once, in order, or a reported gap. Knows only positions; its
 * owner has the sockets and commands.
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
  /** The replay is complete: from here on publications are live. */
  onLive(): void;
  /** The node skipped this room for a while because the socket was full. Presence changes in that time are lost. */
  onMissed(): void;
  /**
   * Reads the publications after a position; where they are not all kept, from the oldest that is. MUST call back exactly
   * once, unless the session ends first. The owner repeats retryable errors.
   */
  readHistory(since: Position, onAnswer: (answer: Arrival[] | FluxError) => void): void;
};

/** Anything that tells the room's position; `prev` is the position that must precede it. */
type Item = Position & { readonly prev: number; readonly arrival: Arrival | null };

/** `isLost`: not everything follows, and nothing has followed yet. */
type Replay = { head: Position; recovering: boolean; isLost: boolean; from: Position | null; publications: number };
type Repair = { from: Position; publications: number };

/** Own publications remembered until the stream passes them. */
const ownMax = 1000;

export class Stream {
  /** Position of the last publication delivered; null before the first `joined`. */
  position: Position | null;
  readonly #owner: StreamOwner;
  readonly #heldMax: number;
  /** Items that arrived while publications before them are being fetched. */
  #held: Item[] = [];
  #replay: Replay | null = null;
  #repair: Repair | null = null;
  /** The replay is over: the room is live when what it lacked is read. */
  #goesLive = false;
  /** Grows with every loss of the session, which a listener may cause in the middle of a page. */
  #losses = 0;
  /** Own publications with excludeSelf, each with its `prev`: part of the stream, but not delivered. */
  readonly #own = new Map<number, number>();

  constructor(position: Position | null, heldMax: number, owner: StreamOwner) {
    this.position = position;
    this.#heldMax = heldMax;
    this.#owner = owner;
  }

  /** Whether no missed publication is on its way. */
  get isLive(): boolean {
    return this.#replay === null && !this.#goesLive;
  }

  // ------------------------------------------------------------ joining

  /** Joined without a position: everything after this one is still to come. */
  enter(position: Position): void {
    this.position ??= position;
  }

  /** `asked`: position to recover from, or null. Pages follow as replay. */
  begin(head: Position, asked: Position | null, recovered: boolean): void {
    this.position ??= asked;
    const isLost = asked !== null && !recovered;
    const isBeyond = isLost && asked.epoch === head.epoch && asked.seq > head.seq;
    this.#replay = { head, recovering: asked !== null, isLost: isLost && !isBeyond, from: asked, publications: 0 };
    if (isBeyond) this.#skipTo(head);
  }

  replay(page: Arrival[], more: boolean): void {
    const replay = this.#replay;
    if (replay === null) return this.#catchUp(page, more);
    for (const arrival of page) {
      if (this.#isKnown(arrival)) continue;
      if (replay.recovering) this.#checkPrev(arrival);
      replay.isLost = false;
      if (this.#accept(arrival, arrival, true)) replay.publications++;
      if (this.#replay !== replay) return; // the rest will be recovered
    }
    if (!more) this.#endReplay(replay);
  }

  /** Publications that a full socket missed, unasked. Each takes its place as if it had arrived in time. */
  #catchUp(page: Arrival[], more: boolean): void {
    const losses = this.#losses;
    for (const arrival of page) {
      this.publication(arrival);
      if (this.#losses !== losses) return;
    }
    if (!more) this.#owner.onMissed();
  }

  /** The socket is lost. The next `joined` tells what was missed. */
  interrupt(): void {
    this.#losses++;
    this.#replay = null;
    this.#repair = null;
    this.#goesLive = false;
    this.#held = [];
  }

  #endReplay({ head, recovering, isLost, from, publications }: Replay): void {
    this.#replay = null;
    this.#goesLive = true;
    const { position } = this;
    const losses = this.#losses;
    if (from !== null && position !== null && publications > 0) this.#owner.onRecovered({ from, to: position, publications });
    if (this.#losses !== losses) return;
    if (position === null) this.position = head;
    else if (isElsewhere(position, head)) {
      if (isLost) this.#skipTo(head); // nothing is kept
      else if (recovering) this.#held.unshift(headItem(head)); // the rest may be kept
      else this.position = head;
    }
    this.#drain(false);
  }

  // ------------------------------------------------------------ live

  publication(arrival: Arrival): void {
    const { epoch, seq, prev } = arrival;
    this.#take({ epoch, seq, prev, arrival });
  }

  /**
   * The node reports the room's head: publications up to it that did not arrive were not sent, and later ones are live.
   * During a replay it ends the replay: no further page will follow.
   */
  sync(head: Position): void {
    if (this.#replay !== null) return this.#endReplay({ ...this.#replay, head, isLost: false, recovering: this.position !== null });
    this.#take(headItem(head));
    this.#owner.onMissed();
  }

  /**
   * A publication of ours that the node does not deliver to us. It moves the position only if it is next: the `prev` of
   * a later one shows whether others are missing.
   * @param prev `prev` of ours; without it, only the seq before ours counts
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
    if (this.#held.length > this.#heldMax) this.#overflow();
    else if (this.#replay === null && this.#repair === null) this.#startRepair();
  }

  /** False if something before the item is missing. */
  #advance(item: Item): boolean {
    const { position } = this;
    if (position !== null) {
      if (this.#isKnown(item)) return true;
      if (this.#lacks(item) && (position.epoch !== item.epoch || !this.#isOwn(item.prev, position))) return false;
      if (position.epoch !== item.epoch) this.#skipTo(before(item));
    }
    this.#accept(item, item.arrival, false);
    return true;
  }

  #isKnown({ epoch, seq }: Position): boolean {
    return this.position?.epoch === epoch && seq <= this.position.seq;
  }

  /** Whether something precedes the item that the client does not have. */
  #lacks({ epoch, prev }: Item): boolean {
    return this.position !== null && prev > (this.position.epoch === epoch ? this.position.seq : 0);
  }

  /** Whether only publications of ours lie between the position and `last`; the first of them follows the position. */
  #isOwn(last: number, { seq: from }: Position): boolean {
    const between: number[] = [];
    let seq: number | undefined = last;
    for (; seq !== undefined && seq > from; seq = this.#own.get(seq)) between.push(seq);
    if (seq === undefined) return false;
    for (const one of between) this.#own.delete(one);
    return true;
  }

  /** Returns whether the publication was delivered. */
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
    const { position = repair.from } = this;
    const [next] = this.#held;
    const since = next === undefined || position?.epoch === next.epoch ? position : { epoch: next.epoch, seq: 0 };
    this.#owner.readHistory(since ?? repair.from, (answer) => {
      if (this.#repair !== repair) return; // abandoned meanwhile: interrupted, or too much was held
      if (answer instanceof FluxError) return this.#endRepair(repair, true);
      const progress = this.#repairWith(answer, repair);
      const [first] = this.#held;
      const isMissing = first !== undefined && this.#lacks(first);
      if (isMissing && progress) this.#readOn(repair);
      else this.#endRepair(repair, isMissing);
    });
  }

  #repairWith(page: Arrival[], repair: Repair): boolean {
    let progress = false;
    for (const arrival of page) {
      if (arrival.epoch !== this.#held[0]?.epoch) break; // another epoch began meanwhile
      if (this.#isKnown(arrival)) continue;
      this.#checkPrev(arrival);
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

  /** Delivers the held items. `isStuck`: the publications missing before the first one cannot be read. */
  #drain(isStuck: boolean): void {
    let skip = isStuck;
    while (this.#repair === null && this.#replay === null) {
      const item = this.#held[0];
      if (item === undefined) return this.#settle();
      if (skip && this.#lacks(item)) this.#skipTo(before(item));
      skip = false;
      if (this.#advance(item)) this.#held.shift();
      else this.#startRepair(); // another gap after the first
    }
  }

  #settle(): void {
    if (!this.#goesLive) return;
    this.#goesLive = false;
    this.#owner.onLive();
  }

  /** What is held is delivered; what is missing before it is given up. */
  #overflow(): void {
    const [first] = this.#held;
    this.#goesLive ||= this.#replay !== null;
    this.#replay = this.#repair = null;
    if (first !== undefined && this.#lacks(first)) this.#skipTo(before(first), `more than ${this.#heldMax} publications arrived during the repair of a gap`);
    this.#drain(false);
  }

  /** A gap in front of the arrival ends where it begins. */
  #checkPrev(arrival: Arrival): void {
    const { position } = this;
    if (position !== null && (arrival.epoch !== position.epoch || arrival.prev > position.seq)) this.#skipTo(before(arrival));
  }

  #skipTo({ epoch, seq }: Position, text = "the node no longer has the missed publications"): void {
    const from = this.position;
    const to = { epoch, seq };
    this.position = to;
    if (from === null) return;
    const isNew = from.epoch !== epoch;
    if (isNew) this.#own.clear();
    for (const recovery of [this.#replay, this.#repair]) if (recovery?.publications === 0) recovery.from = to;
    this.#owner.onGap({ from, to, text: isNew ? "the room's stream began a new epoch" : text });
  }
}

function headItem(head: Position): Item {
  return { ...head, prev: head.seq, arrival: null };
}

/** After the head, or in another epoch. */
function isElsewhere(position: Position, head: Position): boolean {
  return position.epoch !== head.epoch || position.seq < head.seq;
}

/** The position that must precede the item. */
function before({ epoch, prev }: Item | Arrival): Position {
  return { epoch, seq: prev };
}

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
  /** MUST call back exactly once, unless the session ends first. The owner repeats retryable errors. */
  readHistory(since: Position, onAnswer: (answer: Arrival[] | FluxError) => void): void;
};

/** Anything that tells the room's position; `prev` is the position that must precede it. */
type Item = Position & { readonly prev: number; readonly arrival: Arrival | null };

type Replay = { head: Position; recovering: boolean; from: Position | null; publications: number };
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
  /** Own publications with excludeSelf, each with its `prev`: part of the stream, but not delivered. */
  readonly #own = new Map<number, number>();

  constructor(position: Position | null, heldMax: number, owner: StreamOwner) {
    this.position = position;
    this.#heldMax = heldMax;
    this.#owner = owner;
  }

  /** Whether no missed publication is on its way. */
  get isLive(): boolean {
    return this.#replay === null;
  }

  // ------------------------------------------------------------ joining

  /** `asked`: position to recover from, or null. Pages follow as replay. */
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

  /** Publications that a full socket missed, unasked. Each takes its place as if it had arrived in time. */
  #catchUp(page: Arrival[], more: boolean): void {
    for (const arrival of page) this.publication(arrival);
    if (!more) this.#owner.onMissed();
  }

  /** The socket is lost. The next `joined` tells what was missed. */
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
   * The node reports the room's head: publications up to it that did not arrive were not sent, and later ones are live.
   * During a replay it ends the replay: no further page will follow.
   */
  sync(head: Position): void {
    if (this.#replay !== null) return this.#endReplay({ ...this.#replay, head, recovering: this.position !== null });
    this.#take({ ...head, prev: head.seq, arrival: null });
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
    if (this.#held.length > this.#heldMax) this.#overflow(item);
    else if (this.#replay === null && this.#repair === null) this.#startRepair();
  }

  /** False if something before the item is missing. */
  #advance(item: Item): boolean {
    const position = this.position;
    if (position !== null && item.epoch !== position.epoch) {
      this.#skipTo(before(item), "the room's stream began a new epoch");
    } else if (position !== null) {
      if (item.seq <= position.seq) return true;
      if (item.prev > position.seq && !this.#isOwn(item.prev, position)) return false;
    }
    this.#accept(item, item.arrival, false);
    return true;
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
    const since = this.position ?? repair.from;
    this.#owner.readHistory(since, (answer) => {
      if (this.#repair !== repair) return; // abandoned meanwhile: interrupted, or too much was held
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

  /** Delivers the held items. `isStuck`: the publications missing before the first one cannot be read. */
  #drain(isStuck: boolean): void {
    let skip = isStuck;
    while (this.#repair === null && this.#replay === null) {
      const item = this.#held[0];
      if (item === undefined) return;
      if (skip && isBehind(this.position, before(item))) this.#skipTo(before(item), gone);
      skip = false;
      if (this.#advance(item)) this.#held.shift();
      else this.#startRepair(); // another gap after the first
    }
  }

  #overflow(last: Item): void {
    this.interrupt();
    this.#skipTo(last, `more than ${this.#heldMax} publications arrived during the repair of a gap`);
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

const gone = "the node no longer has the missed publications";

function isBehind(position: Position | null, other: Position): boolean {
  return position !== null && position.epoch === other.epoch && position.seq < other.seq;
}

/** After the head, or in another epoch. */
function isElsewhere(position: Position | null, head: Position): boolean {
  return position !== null && (position.epoch !== head.epoch || position.seq < head.seq);
}

/** The position that must precede the item. */
function before({ epoch, prev }: Item | Arrival): Position {
  return { epoch, seq: prev };
}

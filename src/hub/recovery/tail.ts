/**
 * The newest publications of one active room, as encoded bodies. Most recoveries and history requests are answered from
 * here, without the broker.
 *
 * The bodies lie one behind the other in a ring buffer. A body that does not fit before the end starts again at 0.
 * Buffer and index double while the room is busy, up to their limits and as far as the budget of all rooms allows.
 * After that every new body pushes out the oldest, and nothing is allocated.
 */
import { now } from "../../link/clock.ts";

export interface TailLimits {
  readonly publicationsMax: number;
  readonly bytesMax: number;
}

/** Bytes that all tails together may hold. */
export class TailBudget {
  readonly bytesMax: number;
  used = 0;
  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** `anyway`: takes the bytes even where none are left. */
  take(bytes: number, anyway: boolean): boolean {
    if (!anyway && this.used + bytes > this.bytesMax) return false;
    this.used += bytes;
    return true;
  }
}

/** Every busy room gets this much, whatever the budget: a new room must not be worse off than the old ones. */
const firstBytes = 1024;
const firstEntries = 8;

export class Tail {
  readonly #limits: TailLimits;
  readonly #budget: TailBudget;
  readonly #ttlMs: number;
  readonly #clock: () => number;
  #bytes = Buffer.alloc(0);
  // Entry i of the room's count lies in index slot i % capacity.
  #capacity = 0;
  #seqs = new Float64Array(0);
  #starts = new Uint32Array(0);
  #ends = new Uint32Array(0);
  /** When each came; empty where nothing expires. */
  #times = new Float64Array(0);
  #oldest = 0; // count of the oldest entry
  #next = 0; // count of the entry to come
  #end = 0; // where the next body goes
  #base = 0; // seq before the oldest entry: everything after it is here

  /** @param ttlMs how long an entry may be delivered, by `clock`; 0: as long as it is here */
  constructor(limits: TailLimits, budget: TailBudget, headSeq: number, ttlMs = 0, clock = now) {
    this.#ttlMs = ttlMs;
    this.#clock = clock;
    this.#limits = limits;
    this.#budget = budget;
    this.#base = headSeq;
  }

  /**
   * Appends publication `seq`. The caller writes its body of `length` bytes into `bytes`, from where this says. -1: the
   * tail cannot hold it.
   */
  append(seq: number, length: number): number {
    if (length > this.#limits.bytesMax || !this.#makeRoom(length)) {
      this.clear(seq);
      return -1;
    }
    const slot = this.#next % this.#capacity;
    const start = this.#end;
    this.#seqs[slot] = seq;
    if (this.#ttlMs > 0) this.#times[slot] = this.#clock();
    this.#starts[slot] = start;
    this.#ends[slot] = this.#end = start + length;
    this.#next++;
    return start;
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Whether every publication after `seq` is here. */
  covers(seq: number): boolean {
    this.#expire();
    return seq >= this.#base;
  }

  /** Bodies after `seq`, oldest first, up to about `bytesMax` but at least one. Views: use them at once. */
  after(seq: number, bytesMax: number): { seq: number; bodies: Uint8Array[] } {
    const bodies: Uint8Array[] = [];
    let last = seq;
    let bytes = 0;
    for (let i = this.#firstAfter(seq); i < this.#next; i++) {
      const body = this.#body(i);
      bytes += body.length;
      if (bodies.length > 0 && bytes > bytesMax) break;
      bodies.push(body);
      last = this.#seqs[i % this.#capacity]!;
    }
    return { seq: last, bodies };
  }

  /** The first publication after `seq`. A view: use it at once. */
  next(seq: number): { seq: number; body: Uint8Array } | null {
    const i = this.#firstAfter(seq);
    return i === this.#next ? null : { seq: this.#seqs[i % this.#capacity]!, body: this.#body(i) };
  }

  /** Whether the newest `count` publications of the room are here. */
  holds(count: number): boolean {
    this.#expire();
    return this.#next - this.#oldest >= count || this.#base === 0;
  }

  /** Up to `count` of the newest bodies, oldest first, up to about `bytesMax`. */
  newest(count: number, bytesMax: number): Uint8Array[] {
    this.#expire();
    const bodies: Uint8Array[] = [];
    let bytes = 0;
    for (let i = this.#next - 1; i >= this.#oldest && bodies.length < count; i--) {
      const body = this.#body(i);
      bytes += body.length;
      if (bodies.length > 0 && bytes > bytesMax) break;
      bodies.push(body);
    }
    return bodies.reverse();
  }

  /** Drops everything up to `headSeq`. */
  clear(headSeq: number): void {
    this.#oldest = this.#next;
    this.#base = headSeq;
    this.#end = 0;
  }

  /** Drops everything and gives its bytes back to the budget. */
  release(): void {
    if (this.#bytes.length === 0) return;
    this.clear(this.#next > this.#oldest ? this.#seqs[(this.#next - 1) % this.#capacity]! : this.#base);
    this.#budget.used -= this.#bytes.length;
    this.#bytes = Buffer.alloc(0);
  }

  /** Drops what the broker no longer keeps: it must not be delivered from here either. */
  #expire(): void {
    if (this.#ttlMs === 0) return;
    const before = this.#clock() - this.#ttlMs;
    while (this.#oldest < this.#next && this.#times[this.#oldest % this.#capacity]! < before) this.#dropOldest();
  }

  #body(i: number): Uint8Array {
    const slot = i % this.#capacity;
    return this.#bytes.subarray(this.#starts[slot], this.#ends[slot]);
  }

  /** The first entry after `seq`, by binary search: seqs increase. */
  #firstAfter(seq: number): number {
    let low = this.#oldest;
    let high = this.#next;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#seqs[middle % this.#capacity]! > seq) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Makes room for `length` bytes at `#end`, and for one index entry. */
  #makeRoom(length: number): boolean {
    while (!this.#placed(length)) {
      if (this.#grow(length)) continue;
      if (this.#oldest === this.#next) return false;
      this.#dropOldest();
    }
    while (this.#next - this.#oldest >= this.#capacity) {
      if (!this.#growIndex()) this.#dropOldest();
    }
    return true;
  }

  /**
   * Whether a body of `length` fits at `#end` without touching the oldest. Moves `#end` to 0 where it fits only there.
   */
  #placed(length: number): boolean {
    if (this.#oldest === this.#next) {
      this.#end = 0;
      return length <= this.#bytes.length;
    }
    const first = this.#starts[this.#oldest % this.#capacity]!;
    if (this.#end <= first) return this.#end + length <= first && this.#end !== first;
    if (this.#end + length <= this.#bytes.length) return true;
    if (length > first) return false;
    this.#end = 0;
    return length < first;
  }

  #dropOldest(): void {
    this.#base = this.#seqs[this.#oldest % this.#capacity]!;
    this.#oldest++;
  }

  #grow(length: number): boolean {
    const have = this.#bytes.length;
    let want = Math.max(firstBytes, have * 2);
    while (want < length) want *= 2;
    want = Math.min(want, this.#limits.bytesMax);
    if (want <= have || !this.#budget.take(want - have, want <= firstBytes)) return false;
    const bytes = Buffer.allocUnsafeSlow(want);
    let end = 0;
    for (let i = this.#oldest; i < this.#next; i++) {
      const body = this.#body(i);
      bytes.set(body, end);
      const slot = i % this.#capacity;
      this.#starts[slot] = end;
      this.#ends[slot] = end += body.length;
    }
    this.#bytes = bytes;
    this.#end = end;
    return true;
  }

  #growIndex(): boolean {
    const want = Math.min(Math.max(firstEntries, this.#capacity * 2), this.#limits.publicationsMax);
    if (want <= this.#capacity) return false;
    const seqs = new Float64Array(want);
    const starts = new Uint32Array(want);
    const ends = new Uint32Array(want);
    const times = new Float64Array(this.#ttlMs > 0 ? want : 0);
    for (let i = this.#oldest; i < this.#next; i++) {
      seqs[i % want] = this.#seqs[i % this.#capacity]!;
      starts[i % want] = this.#starts[i % this.#capacity]!;
      ends[i % want] = this.#ends[i % this.#capacity]!;
      if (this.#ttlMs > 0) times[i % want] = this.#times[i % this.#capacity]!;
    }
    this.#capacity = want;
    this.#seqs = seqs;
    this.#starts = starts;
    this.#ends = ends;
    this.#times = times;
    return true;
  }
}

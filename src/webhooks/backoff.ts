/** Items that wait for their next attempt, and how long they wait. One timer serves all. */

export interface Timers {
  set(callback: () => void, ms: number): unknown;
  clear(timer: unknown): void;
}

export interface BackoffOptions<T> {
  readonly clock: () => number;
  onDue(item: T): void;
  /** Replaced in tests. */
  readonly timers?: Timers;
}

const roundMs = 100;
const firstMs = 1_000;
const lastMs = 600_000;
/** Of each delay so much is random: rooms that failed together do not come back together. */
const jitter = 0.5;

const real: Timers = { set: (callback, ms) => setTimeout(callback, ms).unref(), clear: (timer) => clearTimeout(timer as NodeJS.Timeout) };

export class Backoff<T> {
  readonly #options: BackoffOptions<T>;
  readonly #timers: Timers;
  /** When each is due. */
  readonly #waiting = new Map<T, number>();
  #timer: unknown = null;
  #at = Infinity;
  #wake: (() => void) | null = null;

  constructor(options: BackoffOptions<T>) {
    this.#options = options;
    this.#timers = options.timers ?? real;
  }

  /** After so many attempts that failed: 1 s, doubled up to 10 minutes, less a random part. */
  delayOf(attempts: number): number {
    const ms = Math.min(lastMs, firstMs * 2 ** Math.min(attempts - 1, 20));
    return Math.ceil(ms * (1 - jitter * Math.random()));
  }

  put(item: T, ms: number): void {
    const at = this.#options.clock() + ms;
    this.#waiting.set(item, at);
    this.#arm(at);
  }

  take(item: T): void {
    this.#waiting.delete(item);
  }

  /** Calls back once after this time. */
  wake(ms: number, callback: () => void): void {
    this.#wake = callback;
    this.#arm(this.#options.clock() + ms);
  }

  clear(): void {
    if (this.#timer !== null) this.#timers.clear(this.#timer);
    this.#timer = null;
    this.#waiting.clear();
    this.#wake = null;
  }

  #arm(exact: number): void {
    // All that are due at about the same time are one turn: each turn looks through all.
    const at = Math.ceil(exact / roundMs) * roundMs;
    if (this.#timer !== null && this.#at <= at) return;
    if (this.#timer !== null) this.#timers.clear(this.#timer);
    this.#at = at;
    this.#timer = this.#timers.set(() => this.#turn(), Math.max(0, Math.ceil(at - this.#options.clock())));
  }

  #turn(): void {
    this.#timer = null;
    this.#at = Infinity;
    const now = this.#options.clock();
    const wake = this.#wake;
    this.#wake = null;
    let next = Infinity;
    const due: T[] = [];
    for (const [item, at] of this.#waiting) {
      if (at <= now) due.push(item);
      else next = Math.min(next, at);
    }
    for (const item of due) this.#waiting.delete(item);
    if (next < Infinity) this.#arm(next);
    for (const item of due) this.#options.onDue(item);
    wake?.();
  }
}

/**
 * Calls back for each item once, a fixed time after it was put here, in that order. One timer serves all items. Each
 * turn handles a bounded number, so that a thousand at once do not delay everything else.
 */
const turnMax = 512;
/** Asynchronous callbacks under way at once. */
const underWayMax = 100;

export class Due<T> {
  readonly #afterMs: number;
  readonly #onDue: (item: T) => Promise<void> | void;
  /** When each is due, by the clock of `performance.now()`. In order, since all wait equally long. */
  readonly #waiting = new Map<T, number>();
  #timer: NodeJS.Timeout | null = null;
  #underWay = 0;

  /** @param onDue MUST NOT reject */
  constructor(afterMs: number, onDue: (item: T) => Promise<void> | void) {
    this.#afterMs = afterMs;
    this.#onDue = onDue;
  }

  /** An item that waits already keeps its time. */
  put(item: T): void {
    if (this.#waiting.has(item)) return;
    this.#waiting.set(item, performance.now() + this.#afterMs);
    this.#arm();
  }

  has(item: T): boolean {
    return this.#waiting.has(item);
  }

  take(item: T): void {
    this.#waiting.delete(item);
  }

  clear(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#waiting.clear();
  }

  #turn(): void {
    this.#timer = null;
    const now = performance.now();
    let left = turnMax;
    for (const [item, at] of this.#waiting) {
      if (at > now || left-- <= 0 || this.#underWay >= underWayMax) break;
      this.#waiting.delete(item);
      const doing = this.#onDue(item);
      if (doing === undefined) continue;
      this.#underWay++;
      void doing.then(() => {
        this.#underWay--;
        this.#arm();
      });
    }
    this.#arm();
  }

  /** Sets the timer for the first item. */
  #arm(): void {
    if (this.#timer !== null || this.#underWay >= underWayMax) return;
    for (const at of this.#waiting.values()) {
      this.#timer = setTimeout(() => this.#turn(), Math.max(0, Math.ceil(at - performance.now()))).unref();
      return;
    }
  }
}

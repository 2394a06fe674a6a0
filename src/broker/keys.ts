/**
 * Idempotency keys of one room: key → seq, for a time and up to a number. The oldest expire first. `lru-cache` was
 * rejected: every room has a window, and the cache allocates for its maximum at once (28 bytes per possible entry).
 */
export class KeyWindow {
  // A Map keeps the order of insertion, so the first entry expires next.
  readonly #seen = new Map<string, { seq: number; at: number }>();
  readonly #windowMs: number;
  readonly #max: number;

  constructor(windowMs: number, max: number) {
    this.#windowMs = windowMs;
    this.#max = max;
  }

  get size(): number {
    return this.#seen.size;
  }

  find(key: string, time: number): number | undefined {
    const entry = this.#seen.get(key);
    return entry !== undefined && entry.at + this.#windowMs > time ? entry.seq : undefined;
  }

  add(key: string, seq: number, time: number): void {
    this.#seen.delete(key);
    this.#seen.set(key, { seq, at: time });
    if (this.#seen.size > this.#max) this.#dropOldest();
    this.expire(time);
  }

  /** Removes a key whose publication failed. */
  delete(key: string): void {
    this.#seen.delete(key);
  }

  expire(time: number): void {
    for (const { at } of this.#seen.values()) {
      if (at + this.#windowMs > time) return;
      this.#dropOldest();
    }
  }

  #dropOldest(): void {
    for (const key of this.#seen.keys()) {
      this.#seen.delete(key);
      return;
    }
  }
}

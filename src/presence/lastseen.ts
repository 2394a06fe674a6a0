/**
 * When users were last seen, with a TTL and a bound: at the bound the users longest gone are evicted first. Why not
 * `lru-cache`: it takes 81 bytes an entry where this takes 53 (100,000 entries, Node 20), and allocates 28 of them for
 * its maximum at once.
 */

/**
 * At the bound this share is evicted at once: finding the front of a Map steps over everything that was deleted there.
 */
const batchShare = 1 / 64;

export class LastSeen {
  readonly #max: number;
  readonly #ttlMs: number;
  // In the order in which they went offline, almost: the clock may be set back.
  readonly #times = new Map<string, number>();

  constructor(max: number, ttlMs: number) {
    this.#max = max;
    this.#ttlMs = ttlMs;
  }

  /** Milliseconds since 1970, 0 where it is not known any more. */
  get(user: string, now: number): number {
    const time = this.#times.get(user) ?? 0;
    return time + this.#ttlMs > now ? time : 0;
  }

  set(user: string, time: number): void {
    this.#times.delete(user);
    this.#times.set(user, time);
    if (this.#times.size > this.#max) this.#forget(Math.ceil(this.#max * batchShare), Infinity);
  }

  expire(now: number): void {
    this.#forget(Infinity, now - this.#ttlMs);
  }

  clear(): void {
    this.#times.clear();
  }

  /** Drops up to `count` users from the front, as far as they went at `until` or before. */
  #forget(count: number, until: number): void {
    for (const [user, time] of this.#times) {
      if (count-- <= 0 || time > until) return;
      this.#times.delete(user);
    }
  }
}

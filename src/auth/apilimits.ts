/**
 * Requests and publications per second of each API key, on this node. A bucket holds two seconds' worth. A batch may
 * take more than is left, so that a batch larger than the bucket is possible; the key then waits until it is paid for.
 */

/** Buckets at most. Those used longest ago are evicted first: they are full again. */
const bucketsMax = 20_000;
const burstMs = 2_000;

export class ApiBuckets {
  /** Until when each bucket's takes are paid for. */
  readonly #paidUntil = new Map<string, number>();
  readonly #clock: () => number;

  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#paidUntil.size;
  }

  /** Takes so many. @returns 0, or, where nothing is left and nothing was taken, the milliseconds to wait. */
  take(bucket: string, perSecond: number, count: number): number {
    const now = this.#clock();
    const paidUntil = Math.max(now, this.#paidUntil.get(bucket) ?? 0);
    const costMs = 1_000 / perSecond;
    // A limit below one a second still lets one pass.
    const waitMs = paidUntil + costMs - now - Math.max(burstMs, costMs);
    if (waitMs > tolerance) return Math.ceil(waitMs);
    // Deleted first, so that the map is in the order of use.
    this.#paidUntil.delete(bucket);
    this.#paidUntil.set(bucket, paidUntil + count * costMs);
    if (this.#paidUntil.size > bucketsMax) this.#evictFirst();
    return 0;
  }

  #evictFirst(): void {
    for (const bucket of this.#paidUntil.keys()) {
      this.#paidUntil.delete(bucket);
      return;
    }
  }
}

/** Sums of fractions are a little wrong. */
const tolerance = 1e-6;

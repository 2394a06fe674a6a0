/**
 * A limit per user and period, which a user may also spend at once. It uses the generic cell rate algorithm, as
 * reactor/session/rate.ts does: one number for each user who has spent any of it lately.
 */

/** Users remembered at most. Those who began longest ago are evicted first: they have most of their allowance back. */
const usersMax = 100_000;

export class Allowance {
  readonly #periodMs: number;
  readonly #costMs: number;
  /** Until when each user's takes are paid for. */
  readonly #paidUntil = new Map<string, number>();
  readonly #clock: () => number;

  /** @param count in every period; 0 is no limit. */
  constructor(count: number, periodMs: number, clock: () => number = () => performance.now()) {
    this.#periodMs = periodMs;
    this.#costMs = count === 0 ? 0 : periodMs / count;
    this.#clock = clock;
  }

  get size(): number {
    return this.#paidUntil.size;
  }

  isSpent(user: string): boolean {
    const paidUntil = this.#paidUntil.get(user);
    return paidUntil !== undefined && paidUntil - this.#clock() > this.#periodMs - this.#costMs;
  }

  /** False: there is nothing left. */
  take(user: string): boolean {
    if (this.#costMs === 0) return true;
    if (this.isSpent(user)) return false;
    const time = this.#clock();
    this.#paidUntil.set(user, Math.max(time, this.#paidUntil.get(user) ?? 0) + this.#costMs);
    if (this.#paidUntil.size > usersMax) this.#forgetFirst();
    return true;
  }

  /** Drops users who have their whole allowance back. */
  sweep(): void {
    const time = this.#clock();
    for (const [user, paidUntil] of this.#paidUntil) if (paidUntil <= time) this.#paidUntil.delete(user);
  }

  #forgetFirst(): void {
    for (const user of this.#paidUntil.keys()) {
      this.#paidUntil.delete(user);
      return;
    }
  }
}

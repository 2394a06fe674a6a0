import type { Clock } from "../clock.ts";

/**
 * Spreads publishes over time as the node wants them: at most one second's worth at once. The node allows twice
 * that, so what is kept within this pace is never refused for its rate, and never loses its order to a retry.
 */
export class Pace {
  readonly #clock: Clock;
  #perSecond = 0;
  #allowed = 0;
  #countedAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** 0: not limited. */
  set(perSecond: number): void {
    this.#perSecond = perSecond;
    this.#allowed = perSecond;
    this.#countedAt = this.#clock.now();
  }

  /** 0: go ahead. Otherwise the milliseconds after which to ask again. */
  take(): number {
    if (this.#perSecond === 0) return 0;
    const now = this.#clock.now();
    this.#allowed = Math.min(this.#perSecond, this.#allowed + ((now - this.#countedAt) * this.#perSecond) / 1000);
    this.#countedAt = now;
    if (this.#allowed < 1) return Math.ceil(((1 - this.#allowed) * 1000) / this.#perSecond);
    this.#allowed -= 1;
    return 0;
  }
}

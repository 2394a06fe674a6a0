/**
 * Spreads publishes over time, at the node's rate: at most one second's worth at once. The node allows twice that. So
 * it never rejects a publish within this pace with rate_limited, and a retry never breaks the order.
 */
import type { Clock } from "../clock.ts";

export class Pace {
  readonly #clock: Clock;
  #perSecond = 0;
  #allowed = 0;
  #countedAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** 0: no limit. */
  set(perSecond: number): void {
    this.#perSecond = perSecond;
    this.#allowed = perSecond;
    this.#countedAt = this.#clock.now();
  }

  /** 0: send now. Otherwise: milliseconds to wait before asking again. */
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

/** How long the broker takes to answer a publish. Reading the clock for each would cost more than it says, so one in 16 is timed. */
import { now } from "../link/clock.ts";

/** Upper bounds in milliseconds. One more slot holds the values above the last. */
const boundsMs = [0.05, 0.25, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000, 5000] as const;

const timedEach = 16;

export class AnswerTimes {
  readonly boundsMs = boundsMs;
  readonly buckets: number[] = Array.from({ length: boundsMs.length + 1 }, () => 0);
  sumMs = 0;
  #count = 0;

  /** The time, where this publish is to be timed; else null. */
  begin(): number | null {
    return this.#count++ % timedEach === 0 ? now() : null;
  }

  end(began: number): void {
    const ms = now() - began;
    let slot = 0;
    while (slot < boundsMs.length && ms > boundsMs[slot]!) slot++;
    this.buckets[slot]!++;
    this.sumMs += ms;
  }
}

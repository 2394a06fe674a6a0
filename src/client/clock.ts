/** The client's time: a clock that tests replace, and the waits between attempts. */

export type Cancel = () => void;

/** Source of time for the client; tests supply their own. */
export type Clock = {
  /** Milliseconds since any fixed moment. */
  now(): number;
  /** Runs `run` after a delay. Returns a function that cancels it. */
  after(delayMs: number, run: () => void): Cancel;
};

/** A longer timer fires at once. */
const timerMsMax = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(), // monotonic, unlike Date
  after: (delayMs, run) => {
    let timer: ReturnType<typeof setTimeout>;
    const wait = (restMs: number) => {
      timer = setTimeout(() => (restMs > timerMsMax ? wait(restMs - timerMsMax) : run()), Math.min(restMs, timerMsMax));
    };
    wait(delayMs);
    return () => clearTimeout(timer);
  },
};

/** Bounds of the waits between attempts, in milliseconds. */
export type Backoff = { baseMs: number; capMs: number };

/**
 * Exponential backoff with full jitter: a random wait between zero and a bound that doubles with each attempt (the
 * first is 0), up to the cap. It spreads clients that lost the same node at the same moment.
 * @param random from 0 to 1
 * @param windowMs least bound, below the cap
 */
export function backoffMs(attempt: number, { baseMs, capMs }: Backoff, random: () => number, windowMs = 0): number {
  return random() * Math.min(capMs, Math.max(windowMs, baseMs * 2 ** Math.min(attempt, 40)));
}

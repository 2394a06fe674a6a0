export type Cancel = () => void;

/** Time as the client sees it; tests bring their own. */
export type Clock = {
  /** Milliseconds since any fixed moment. */
  now(): number;
  /** Runs `run` after a delay. Returns a function that cancels it. */
  after(delayMs: number, run: () => void): Cancel;
};

export const systemClock: Clock = {
  now: () => performance.now(), // never set back, unlike Date
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Bounds of the waits between attempts, in milliseconds. */
export type Backoff = { baseMs: number; capMs: number };

/**
 * Exponential backoff with full jitter: anything between nothing and a bound that doubles with each attempt
 * (the first is 0) up to the cap. Clients that lost the same node at the same moment come back spread out.
 * @param random from 0 to 1
 * @param windowMs what the bound is at least, below the cap
 */
export function backoffMs(attempt: number, { baseMs, capMs }: Backoff, random: () => number, windowMs = 0): number {
  return random() * Math.min(capMs, Math.max(windowMs, baseMs * 2 ** attempt));
}

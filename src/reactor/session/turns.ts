/**
 * In which order and when sessions are sent away. A pure function of chance, so that what it promises can be checked
 * without waiting: no part of the window has more turns than its share.
 */
export interface Turn<T> {
  readonly of: T;
  /** From the beginning of the drain. */
  readonly atMs: number;
  /** What the client is asked to wait before it comes back. */
  readonly delayMs: number;
}

/** Sessions are sent away in steps of a timer. */
export const stepMs = 100;
/** The clients of one step come back over the time to the next; where all go in one, over a second. */
const spreadMsMin = 1000;

/**
 * Evenly over the window, in an order that chance decides: the same clients must not always be the first.
 * @param phase from 0 to 1: reactors whose phases lie apart do not take their turns at the same moments
 */
export function turns<T>(all: readonly T[], windowMs: number, phase: number, random: () => number): Turn<T>[] {
  const spreadMs = Math.max(stepMs, spreadMsMin - windowMs);
  return shuffled(all, random).map((of, i) => ({
    of,
    atMs: ((i + phase) / all.length) * windowMs,
    delayMs: Math.floor(random() * spreadMs),
  }));
}

/** Turns that one step may take: a loop that was held up makes up for it at twice the pace, not all at once. */
export function turnsPerStep(count: number, windowMs: number): number {
  return windowMs < stepMs ? Infinity : Math.ceil((2 * count * stepMs) / windowMs);
}

/** Fisher and Yates. */
function shuffled<T>(all: readonly T[], random: () => number): T[] {
  const result = [...all];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}

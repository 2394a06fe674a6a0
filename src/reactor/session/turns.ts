/**
 * In which order and when sessions are sent away. A function without state or clock, so that a test can check its
 * guarantee without waiting: no part of the window has more turns than its share.
 */
export interface Turn<T> {
  readonly of: T;
  /** From the beginning of the drain. */
  readonly atMs: number;
  /** How long the client is asked to wait before it reconnects. */
  readonly delayMs: number;
}

/** Sessions are sent away in steps of a timer. */
export const stepMs = 100;
/**
 * The clients of one step return within the time to the next step. When one step sends all, they return within a
 * second.
 */
const spreadMsMin = 1000;

/**
 * Spreads turns evenly over the window, in random order: the same clients must not always be first.
 * @param phase from 0 to 1: reactors with different phases do not take their turns at the same moments
 */
export function turns<T>(all: readonly T[], windowMs: number, phase: number, random: () => number): Turn<T>[] {
  const spreadMs = Math.max(stepMs, spreadMsMin - windowMs);
  return shuffled(all, random).map((of, i) => ({
    of,
    atMs: ((i + phase) / all.length) * windowMs,
    delayMs: Math.floor(random() * spreadMs),
  }));
}

/** Turns that one step may take. A loop that was held up catches up at twice the pace, not all at once. */
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

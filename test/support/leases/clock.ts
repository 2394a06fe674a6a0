/** Events in an order of time that the test makes: a schedule of minutes runs in a millisecond. */

export interface Random {
  /** Whole, from 0 and below the bound. */
  below(bound: number): number;
  chance(probability: number): boolean;
  between(low: number, high: number): number;
}

export function randomOf(seed: number): Random {
  let state = (seed * 0x9e3779b1) | 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    below: (bound) => Math.floor(next() * bound),
    chance: (probability) => probability > 0 && next() < probability,
    between: (low, high) => low + next() * (high - low),
  };
}

/** What the longest chain of promises takes from an answer to the next question. */
export const answerTurns = 10;

export interface SimulatedEvent {
  readonly time: number;
  readonly order: number;
  /** Null: it was cancelled. */
  run: (() => void) | null;
  readonly thread: { takes(event: SimulatedEvent): boolean } | null;
}

export class SimulatedClock {
  now = 0;
  /** An event sets it where it settles a promise: so many turns are then given to what waits for that. */
  turns = 0;
  #order = 0;
  readonly #heap: SimulatedEvent[] = [];

  /** @param thread runs it, or keeps it until it can */
  at(time: number, run: () => void, thread: SimulatedEvent["thread"] = null): SimulatedEvent {
    const event: SimulatedEvent = { time: Math.max(time, this.now), order: this.#order++, run, thread };
    this.#push(event);
    return event;
  }

  /** Runs everything up to a time. What an event settles is followed before the next event. */
  async runUntil(end: number): Promise<void> {
    for (;;) {
      const event = this.#heap[0];
      if (event === undefined || event.time > end) break;
      this.#pop();
      if (event.run === null) continue;
      this.now = event.time;
      if (event.thread !== null && !event.thread.takes(event)) continue;
      event.run();
      // Cheaper than a turn of the loop.
      for (; this.turns > 0; this.turns--) await null;
    }
    this.now = end;
  }

  #push(event: SimulatedEvent): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(event, heap[above]!)) break;
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) below++;
      if (!isBefore(heap[below]!, last)) break;
      heap[at] = heap[below]!;
      at = below;
    }
    heap[at] = last;
  }
}

function isBefore(a: SimulatedEvent, b: SimulatedEvent): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}

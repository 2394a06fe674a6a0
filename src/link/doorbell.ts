/**
 * Wakes the other thread. A wake costs both threads together 20 to 40 µs, more than the small records it is for. So the
 * first after a pause is at once, and under load there is one in `restMs` at most: what comes meanwhile waits for it.
 *
 * A ring that is put off is never lost. The ring's reader said that it sleeps, and the writer took that mark from it
 * (ring.ts), so nobody else rings for these records. The timer does, also where the reader woke meanwhile by itself.
 */
export class Doorbell {
  readonly #ring: () => void;
  readonly #restMs: number;
  readonly #clock: DoorbellClock;
  #rangAt = -Infinity;
  #timer: NodeJS.Timeout | null = null;

  /** @param restMs least time between two rings; 0 puts nothing off */
  constructor(ring: () => void, restMs: number, clock: DoorbellClock = realClock) {
    this.#ring = ring;
    this.#restMs = restMs;
    this.#clock = clock;
  }

  ring(): void {
    if (this.#timer !== null) return;
    if (this.#restMs === 0) return this.#ring();
    const now = this.#clock.now();
    if (now - this.#rangAt < this.#restMs) {
      this.#timer = this.#clock.after(this.#restMs, this.#late);
      return;
    }
    this.#rangAt = now;
    this.#ring();
  }

  /** Rings now if a ring was put off: nobody else would for those records. */
  hurry(): void {
    if (this.#timer === null) return;
    this.#clock.cancel(this.#timer);
    this.#late();
  }

  readonly #late = (): void => {
    this.#timer = null;
    this.#rangAt = this.#clock.now();
    this.#ring();
  };
}

/** Tests hold one. */
export interface DoorbellClock {
  /** Milliseconds. */
  now(): number;
  after(ms: number, call: () => void): NodeJS.Timeout;
  cancel(timer: NodeJS.Timeout): void;
}

const realClock: DoorbellClock = { now: () => performance.now(), after: (ms, call) => setTimeout(call, ms), cancel: clearTimeout };

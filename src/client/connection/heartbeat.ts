import type { Cancel, Clock } from "../clock.ts";

export type HeartbeatDuties = {
  ping(): void;
  /** Nothing came, not even an answer to our ping: nobody is there. */
  onSilence(): void;
};

/**
 * Notices a socket whose other end is gone without a word (a laptop that slept, a network that changed). The node
 * pings us too, but a WebSocket does not show pings, so silence is probed with a ping of our own.
 */
export class Heartbeat {
  readonly #clock: Clock;
  readonly #quietMs: number;
  readonly #graceMs: number;
  readonly #duties: HeartbeatDuties;
  #heardAt: number;
  #cancel: Cancel;

  constructor(clock: Clock, quietMs: number, graceMs: number, duties: HeartbeatDuties) {
    this.#clock = clock;
    this.#quietMs = quietMs;
    this.#graceMs = graceMs;
    this.#duties = duties;
    this.#heardAt = clock.now();
    this.#cancel = this.#watch(quietMs);
  }

  heard(): void {
    this.#heardAt = this.#clock.now();
  }

  /** Asks at once, however lately something was heard. */
  check(): void {
    this.#cancel();
    this.#cancel = this.#probe();
  }

  stop(): void {
    this.#cancel();
  }

  /** One timer looks back, rather than one being set anew by everything that arrives. */
  #watch(delayMs: number): Cancel {
    return this.#clock.after(delayMs, () => {
      const silentMs = this.#clock.now() - this.#heardAt;
      this.#cancel = silentMs < this.#quietMs ? this.#watch(this.#quietMs - silentMs) : this.#probe();
    });
  }

  #probe(): Cancel {
    const probedAt = this.#clock.now();
    this.#duties.ping();
    return this.#clock.after(this.#graceMs, () => {
      if (this.#heardAt < probedAt) this.#duties.onSilence();
      else this.#cancel = this.#watch(this.#quietMs);
    });
  }
}

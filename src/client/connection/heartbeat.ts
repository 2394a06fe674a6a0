import type { Cancel, Clock } from "../clock.ts";

export type HeartbeatDuties = {
  ping(): void;
  /** Nothing arrived, not even an answer to our ping: the connection is dead. */
  onSilence(): void;
};

/**
 * Detects a dead connection that was never closed (a laptop that slept, a network that changed). The node pings too,
 * but a WebSocket does not show pings. So this sends a ping of its own after a silence.
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

  /** Sends a ping at once. */
  check(): void {
    this.#cancel();
    this.#cancel = this.#probe();
  }

  stop(): void {
    this.#cancel();
  }

  /** One timer that looks back costs less than a new timer for every message. */
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

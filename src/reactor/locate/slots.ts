/**
 * Slots for clients that are sent to a node: each gets a delay, so that they arrive at the rate of handshakes that the
 * node takes. Clients that come back to a session are served first: they wait for one another only, and those that come
 * for the first time wait for all of them.
 */

/** Clients that may come at once after a pause. */
const burstMs = 250;
/** Beyond this delay the node answers that it is overloaded. */
export const slotDelayMsMax = 30_000;
export const noSlot = -1;

export class Slots {
  #intervalMs = 0;
  /** Times of the next slots. */
  #returningAt = -Infinity;
  #newAt = -Infinity;

  /** @param perSecond handshakes that this reactor may hand out; 0 for no limit */
  pace(perSecond: number): void {
    this.#intervalMs = perSecond === 0 ? 0 : 1000 / perSecond;
  }

  /** Milliseconds to wait, or `noSlot`. @param now milliseconds, monotonic */
  take(returning: boolean, now: number): number {
    if (this.#intervalMs === 0) return 0;
    const earliest = now - burstMs;
    const at = Math.max(earliest, this.#returningAt, returning ? earliest : this.#newAt);
    if (at - now > slotDelayMsMax) return noSlot;
    if (!returning) this.#newAt = at + this.#intervalMs;
    else {
      this.#returningAt = at + this.#intervalMs;
      // Those that come for the first time, and have no slot yet, get it later.
      if (this.#newAt > now) this.#newAt += this.#intervalMs;
    }
    return Math.max(0, Math.ceil(at - now));
  }

  /** How long a client that comes for the first time would wait. */
  backlogMs(now: number): number {
    return Math.max(0, this.#newAt - now, this.#returningAt - now);
  }
}

/**
 * Admits handshakes by a token bucket for upgrades. A crowd of new clients then leaves the node time for those already
 * connected. Half of the bucket is kept for clients that reconnect, which show a ticket (tickets.ts). They have rooms
 * to recover, and a crowd of new clients must not keep them out. A refusal before the upgrade costs least.
 *
 * The rate of a node is divided among its reactors, as the kernel divides sockets among them.
 */
import type { Tickets } from "../../auth/tickets.ts";

/** Seconds of the rate that may come at once. */
const burstSeconds = 1;
/** Refused clients are asked to retry over this many seconds, not all in the same one. */
const retrySeconds = 5;

export class Admission {
  readonly #tickets: Tickets;
  readonly #now: () => number;
  readonly #perMs: number;
  readonly #capacity: number;
  /** The part that only tickets may take. */
  readonly #kept: number;
  #filled: number;
  #filledAt: number;
  /** Tickets admitted lately. Each counts once a second, or a client could show one of them a thousand times. */
  readonly #shown = new Set<string>();
  #shownSince = 0;

  /** @param perSecond upgrades of this reactor; 0 for no limit @param now milliseconds; replaced in tests */
  constructor(perSecond: number, tickets: Tickets, now = () => performance.now()) {
    this.#tickets = tickets;
    this.#now = now;
    this.#filledAt = now();
    this.#perMs = perSecond / 1000;
    this.#capacity = Math.max(1, perSecond * burstSeconds);
    this.#kept = Math.floor(this.#capacity / 2);
    this.#filled = this.#capacity;
  }

  /** @param ticket "" for none. While the bucket is full enough no ticket is checked. */
  admit(ticket: string): boolean {
    if (this.#perMs === 0) return true;
    const time = this.#now();
    this.#filled = Math.min(this.#capacity, this.#filled + (time - this.#filledAt) * this.#perMs);
    this.#filledAt = time;
    if (this.#filled < 1 + this.#kept && !(this.#filled >= 1 && ticket !== "" && this.#mayPass(ticket, time))) return false;
    this.#filled--;
    return true;
  }

  #mayPass(ticket: string, time: number): boolean {
    if (time - this.#shownSince > 1000) {
      this.#shown.clear();
      this.#shownSince = time;
    }
    if (this.#shown.has(ticket) || !this.#tickets.isGood(ticket)) return false;
    this.#shown.add(ticket);
    return true;
  }
}

/** Seconds for Retry-After. */
export function retryAfter(): string {
  return String(1 + Math.floor(Math.random() * retrySeconds));
}

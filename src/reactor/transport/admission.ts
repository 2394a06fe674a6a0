/**
 * Admits handshakes by a token bucket for upgrades. A crowd of new clients then leaves the node time for those already
 * connected. Half of the bucket is kept for clients that show a ticket: those that reconnect (tickets.ts) may take all
 * of it, since they have rooms to recover, and those that the placement sent here (placetickets.ts), in their slot, half
 * of it. A crowd of new clients must not keep them out. A refusal before the upgrade costs least.
 *
 * The rate of a node is divided among its reactors, as the kernel divides sockets among them.
 */
import type { PlaceTickets } from "../../auth/placetickets.ts";
import type { Tickets } from "../../auth/tickets.ts";

/** Seconds of the rate that may come at once. */
const burstSeconds = 1;
/** Refused clients are asked to retry over this many seconds, not all in the same one. */
const retrySeconds = 5;

export interface TicketReaders {
  readonly tickets: Tickets;
  readonly placeTickets: PlaceTickets;
  /** How tickets of the placement name this node: see `placeTag`. */
  readonly node: number;
}

export class Admission {
  readonly #readers: TicketReaders;
  readonly #now: () => number;
  readonly #perMs: number;
  readonly #capacity: number;
  /** The part that only tickets may take. */
  readonly #kept: number;
  #filled: number;
  #filledAt: number;
  readonly #shown: Shown;

  /** @param perSecond upgrades of this reactor; 0 for no limit @param now milliseconds; replaced in tests */
  constructor(perSecond: number, readers: TicketReaders, now = () => performance.now()) {
    this.#readers = readers;
    this.#now = now;
    this.#shown = new Shown(now);
    this.#filledAt = now();
    this.#perMs = perSecond / 1000;
    this.#capacity = Math.max(1, perSecond * burstSeconds);
    this.#kept = Math.floor(this.#capacity / 2);
    this.#filled = this.#capacity;
  }

  /**
   * While the bucket is full enough no ticket is checked.
   * @param ticket of a session, "" for none @param place ticket of the placement, "" for none
   */
  admit(ticket = "", place = ""): boolean {
    if (this.#perMs === 0) return true;
    const time = this.#now();
    this.#filled = Math.min(this.#capacity, this.#filled + (time - this.#filledAt) * this.#perMs);
    this.#filledAt = time;
    if (this.#filled < 1 + this.#kept && !(this.#filled >= 1 && this.#mayPass(ticket, place))) return false;
    this.#filled--;
    return true;
  }

  #mayPass(ticket: string, place: string): boolean {
    if (ticket !== "" && this.#isFirst(ticket) && this.#readers.tickets.isGood(ticket)) return this.#shown.add(ticket);
    if (place === "" || !this.#isFirst(place)) return false;
    const read = this.#readers.placeTickets.read(place);
    if (read === null || !read.due || read.node !== this.#readers.node) return false;
    if (!read.returning && this.#filled < 1 + Math.floor(this.#kept / 2)) return false;
    return this.#shown.add(place);
  }

  #isFirst(ticket: string): boolean {
    return !this.#shown.has(ticket);
  }
}

/**
 * Tickets that were shown lately. Each counts once a second, or a client could show one of them a thousand times. It
 * holds no more than were accepted within a second.
 */
export class Shown {
  readonly #now: () => number;
  readonly #tickets = new Set<string>();
  #since = 0;

  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  has(ticket: string): boolean {
    const time = this.#now();
    if (time - this.#since > 1000) {
      this.#tickets.clear();
      this.#since = time;
    }
    return this.#tickets.has(ticket);
  }

  add(ticket: string): true {
    this.#tickets.add(ticket);
    return true;
  }
}

/** Seconds for Retry-After. */
export function retryAfter(): string {
  return String(1 + Math.floor(Math.random() * retrySeconds));
}

/**
 * Tickets: a client that had a session shows one with its upgrade (`/ws?resume=TICKET`) and is let in before those that
 * come anew, when a node has to choose. A ticket opens nothing by itself, so it may stand in an address, where proxies
 * log it; the resume token may not.
 *
 *   [u32 minute it was made][6 random bytes][first 10 bytes of HMAC-SHA-256]   in base64url: 27 characters
 */
import { randomBytes } from "node:crypto";
import { Mac } from "./mac.ts";

const minuteMs = 60_000;
const randomAt = 4;
const macAt = 10;
const ticketBytes = 20;
const ticketChars = Math.ceil((ticketBytes * 4) / 3);
/** A socket that lives longer loses its precedence, no more. */
const ageMaxMinutes = 7 * 24 * 60;
/** Random bytes are asked for this many tickets at a time: each call costs more than the bytes. */
const randomTickets = 512;

export class Tickets {
  readonly #mac: Mac;
  #random = Buffer.alloc(0);

  constructor(secret: string) {
    // A key of its own: what is signed as a ticket is good for nothing else.
    this.#mac = new Mac(new Mac(Buffer.from(secret)).sign("tickets"));
  }

  make(): string {
    const size = macAt - randomAt;
    if (this.#random.length < size) this.#random = randomBytes(randomTickets * size);
    const ticket = Buffer.allocUnsafe(ticketBytes);
    ticket.writeUInt32BE(minute(), 0);
    this.#random.copy(ticket, randomAt, 0, size);
    this.#random = this.#random.subarray(size);
    this.#sign(ticket).copy(ticket, macAt, 0, ticketBytes - macAt);
    return ticket.toString("base64url");
  }

  isGood(ticket: string): boolean {
    if (ticket.length !== ticketChars) return false;
    const bytes = Buffer.from(ticket, "base64url");
    if (bytes.length !== ticketBytes) return false;
    const age = minute() - bytes.readUInt32BE(0);
    // Clocks of nodes differ a little. Comparing in constant time would protect a secret that is not one.
    return age >= -1 && age <= ageMaxMinutes && this.#sign(bytes).compare(bytes, macAt, ticketBytes, 0, ticketBytes - macAt) === 0;
  }

  #sign(ticket: Buffer): Buffer {
    return this.#mac.sign(ticket.subarray(0, macAt));
  }
}

function minute(): number {
  return Math.floor(Date.now() / minuteMs);
}

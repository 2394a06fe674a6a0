/**
 * Tickets: a client that had a session sends one with its upgrade (`/ws?resume=TICKET`). An overloaded node admits it
 * before new clients. A ticket grants nothing else, so it may be part of a URL, which proxies log; the resume token may
 * not.
 *
 *     [u32 minute of creation][6 random bytes][first 10 bytes of HMAC-SHA-256]   in base64url: 27 characters
 */
import { randomBytes } from "node:crypto";
import { Mac, type SizedMac } from "./mac.ts";

const minuteMs = 60_000;
const randomAt = 4;
const macAt = 10;
const ticketBytes = 20;
const ticketChars = Math.ceil((ticketBytes * 4) / 3);
/** A ticket of an older socket only loses its precedence. */
const ageMaxMinutes = 7 * 24 * 60;
/** Tickets per call for random bytes: a call costs more than the bytes. */
const randomTickets = 512;

export class Tickets {
  readonly #mac: SizedMac;
  #random = Buffer.alloc(0);

  constructor(secret: string) {
    // A key of its own, so that a ticket's signature is valid for nothing else.
    this.#mac = new Mac(new Mac(Buffer.from(secret)).sign("tickets")).sized(macAt);
  }

  make(): string {
    const size = macAt - randomAt;
    if (this.#random.length < size) this.#random = randomBytes(randomTickets * size);
    const ticket = Buffer.allocUnsafe(ticketBytes);
    ticket.writeUInt32BE(minute(), 0);
    this.#random.copy(ticket, randomAt, 0, size);
    this.#random = this.#random.subarray(size);
    ticket.write(this.#sign(ticket), macAt, ticketBytes - macAt, "latin1");
    return ticket.toString("base64url");
  }

  isGood(ticket: string): boolean {
    if (ticket.length !== ticketChars) return false;
    const bytes = Buffer.from(ticket, "base64url");
    // One of four spellings: a replay is recognized by the text.
    if (bytes.length !== ticketBytes || bytes.toString("base64url") !== ticket) return false;
    const age = minute() - bytes.readUInt32BE(0);
    // Clocks of nodes differ a little. The MAC protects no secret, so constant time is not needed.
    return age >= -1 && age <= ageMaxMinutes && this.#sign(bytes).startsWith(bytes.toString("latin1", macAt));
  }

  /** A character a byte. */
  #sign(ticket: Buffer): string {
    ticket.copy(this.#mac.data, 0, 0, macAt);
    return this.#mac.sign("binary");
  }
}

function minute(): number {
  return Math.floor(Date.now() / minuteMs);
}

/**
 * Tickets of the placement: `GET /api/connection-url` and the event `reconnect` put one into the URL that they name
 * (`/ws?ticket=TICKET`). It names the node, the user and the slot that the bearer was given: how long to wait before
 * connecting. The node lets its bearer in before clients without one. It opens nothing by itself, so it may be part of
 * a URL, which proxies log. Clients treat it as opaque.
 *
 *     [u32 second of creation][u16 slot, in 10 ms][u8 hops][u8 flags][u32 node][u32 user][u32 series][u32 number]
 *     [first 9 bytes of SHA-256 of a key of 31 bytes and all that]      in base64url: 44 characters
 *
 * One hash instead of the two of an HMAC: an HMAC also protects data of different lengths, where a longer text could
 * go on from the hash of a shorter one. All tickets have one length (Bellare, Canetti, Krawczyk 1996: "Pseudorandom
 * functions revisited: the cascade construction", for inputs of which none begins with another). Key, data and the
 * padding of the hash fill one block.
 *
 * Node and user are hashes of 32 bits. Two users with one hash can use each other's ticket, which gains them nothing
 * that they could not ask for. Series and number make each ticket another one.
 */
import { hash, randomBytes } from "node:crypto";
import { xxh32 } from "../placement/hash.ts";
import { roomKey } from "../protocol/roomkeys.ts";
import { Mac } from "./mac.ts";

const keyBytes = 31;
const signedBytes = 24;
const macChars = 12;
const ticketChars = 44;
const slotUnitMs = 10;
const returningFlag = 1;

/** Longest slot that a ticket can name. */
export const slotMsMax = 65_535 * slotUnitMs;
/** A ticket can be used for this long after its slot. */
export const placeTicketMs = 60_000;
/** Differences between the clocks of nodes that are accepted. */
const clockMs = 5_000;

/** What a ticket says. */
export interface Place {
  /** See `placeTag`. */
  readonly node: number;
  /** See `userTag`. 0: any user. */
  readonly user: number;
  /** Times that the bearer has been sent on from one node to another. */
  readonly hops: number;
  /** The bearer comes back to a session: before those that come for the first time. */
  readonly returning: boolean;
}

export interface ReadPlace extends Place {
  /** The slot has come. */
  readonly due: boolean;
}

export class PlaceTickets {
  readonly #keyAndData: Buffer;
  readonly #data: Buffer;
  readonly #series = randomBytes(4).readUInt32BE();
  #number = 0;

  constructor(secret: string) {
    // A key of its own, so that a ticket's signature is valid for nothing else.
    const key = new Mac(Buffer.from(secret)).sign("placement tickets").subarray(0, keyBytes);
    this.#keyAndData = Buffer.concat([key, Buffer.alloc(signedBytes)]);
    this.#data = this.#keyAndData.subarray(keyBytes);
  }

  /** @param slotMs how long the bearer is to wait, at most `slotMsMax` */
  make(node: number, user: number, slotMs: number, hops: number, returning: boolean): string {
    const data = this.#data;
    put(data, 0, Math.floor(Date.now() / 1000));
    data[4] = (slotMs / slotUnitMs) >>> 8;
    data[5] = (slotMs / slotUnitMs) & 0xff;
    data[6] = Math.min(hops, 0xff);
    data[7] = returning ? returningFlag : 0;
    put(data, 8, node);
    put(data, 12, user);
    put(data, 16, this.#series);
    put(data, 20, this.#number++);
    return data.toString("base64url") + this.#signed();
  }

  /**
   * Null: not made with this secret, changed, or expired. One of a node whose clock is ahead is only not due: otherwise
   * its bearer's hops would not count, and two nodes that disagree could send it to and fro.
   */
  read(ticket: string): ReadPlace | null {
    if (ticket.length !== ticketChars) return null;
    const bytes = Buffer.from(ticket.slice(0, ticketChars - macChars), "base64url");
    if (bytes.length !== signedBytes) return null;
    const data = this.#data;
    bytes.copy(data);
    // The MAC protects no secret, so constant time is not needed.
    if (ticket !== data.toString("base64url") + this.#signed()) return null;
    const slotAt = data.readUInt32BE(0) * 1000 + data.readUInt16BE(4) * slotUnitMs;
    const now = Date.now();
    if (now > slotAt + 1000 + placeTicketMs + clockMs) return null;
    return { node: data.readUInt32BE(8), user: data.readUInt32BE(12), hops: data[6]!, returning: (data[7]! & returningFlag) !== 0, due: now >= slotAt - clockMs };
  }

  #signed(): string {
    return hash("sha256", this.#keyAndData, "base64url").slice(0, macChars);
  }
}

/**
 * Node and user of a ticket, unverified: for load balancers, which only choose a node by them. Null: it is no ticket.
 */
export function peekPlace(ticket: string): Pick<Place, "node" | "user"> | null {
  if (ticket.length !== ticketChars) return null;
  const bytes = Buffer.from(ticket.slice(0, ticketChars - macChars), "base64url");
  return bytes.length === signedBytes ? { node: bytes.readUInt32BE(8), user: bytes.readUInt32BE(12) } : null;
}

/** How tickets name a node. */
export function placeTag(node: string): number {
  return xxh32(node);
}

/** How tickets name a user, by the same hash as partitions. Never 0. */
export function userTag(tenant: string, user: string): number {
  return xxh32(roomKey(tenant, user)) || 1;
}

function put(data: Buffer, at: number, value: number): void {
  data[at] = value >>> 24;
  data[at + 1] = value >>> 16;
  data[at + 2] = value >>> 8;
  data[at + 3] = value;
}

/**
 * A page of the rooms here that have members, by name. A node may have 100,000 rooms, and each page looks at all of
 * them. So it does that in slices, between which the loop goes on.
 */
import { matches } from "../auth/grants.ts";
import { inboxName, roomKey } from "../protocol/roomkeys.ts";
import type { HubRoom } from "./rooms.ts";

export interface RoomsAsked {
  readonly tenant: string;
  /** Begin of the names. */
  readonly prefix: string;
  /** Only names behind this one. */
  readonly after: string;
  readonly limit: number;
  /** Only names that one of them matches. Undefined: all. */
  readonly patterns?: readonly string[] | undefined;
}

export interface RoomsListed {
  readonly rooms: readonly (readonly [name: string, sessions: number])[];
  /** There are others behind the last of them. */
  readonly more: boolean;
}

const sliceRooms = 5_000;
/** Bytes of the names in a page; the first is always in. */
const namesBytesMax = 64 * 1024;
/** Pages that are made at once. */
const pagesMax = 16;

export class RoomList {
  readonly #rooms: () => Iterable<HubRoom>;
  #pages = 0;

  constructor(rooms: () => Iterable<HubRoom>) {
    this.#rooms = rooms;
  }

  /** Null: too many pages are under way. */
  async page(asked: RoomsAsked): Promise<RoomsListed | null> {
    if (this.#pages >= pagesMax) return null;
    this.#pages++;
    try {
      return await pageOf(this.#rooms(), asked);
    } finally {
      this.#pages--;
    }
  }
}

async function pageOf(rooms: Iterable<HubRoom>, { tenant, prefix, after, limit, patterns }: RoomsAsked): Promise<RoomsListed> {
  // One more than asked for shows that there are more.
  const max = limit + 1;
  let found: HubRoom[] = [];
  let seen = 0;
  const slice = Math.ceil(sliceRooms / (1 + (patterns?.length ?? 0)));
  for (const room of rooms) {
    if (++seen % slice === 0) await new Promise(setImmediate);
    const { name, key, members } = room;
    if (members === 0 || name === inboxName || name <= after || !name.startsWith(prefix) || key !== roomKey(tenant, name)) continue;
    if (patterns !== undefined && !patterns.some((pattern) => matches(pattern, name))) continue;
    found.push(room);
    if (found.length >= 2 * max) found = firstOf(found, max);
  }
  found = firstOf(found, max);
  let bytesLeft = namesBytesMax;
  let count = 0;
  while (count < Math.min(found.length, limit) && (count === 0 || bytesLeft > 0)) bytesLeft -= Buffer.byteLength(found[count++]!.name);
  return { rooms: found.slice(0, count).map(({ name, members }) => [name, members] as const), more: found.length > count };
}

function firstOf(rooms: readonly HubRoom[], count: number): HubRoom[] {
  return [...rooms].sort((a, b) => (a.name < b.name ? -1 : 1)).slice(0, count);
}

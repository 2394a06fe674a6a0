/** What a session is resumed with: whether it is the client's, and the rooms it is brought back into. */
import type { Answer } from "../../broker/broker.ts";
import type { HelloRecord, PlaceInRoom } from "../../link/sessions.ts";
import { userKey } from "../../protocol/roomkeys.ts";
import type { SessionRecord } from "../../sessions/sessions.ts";
import { listed, type Places } from "./places.ts";

/** What is known of a session that has a socket. */
interface Known {
  readonly userKey: string;
  readonly generation: number;
  readonly rooms: Places;
}

export interface Resuming {
  readonly session: Pick<Known, "userKey">;
  readonly hello: Pick<HelloRecord, "positions">;
  /** The socket on this node that has the session. */
  readonly before: Known | undefined;
  /** The store's answer, and the generation it gave. */
  readonly answer: Answer<SessionRecord | null>;
  readonly taken: number;
  readonly roomNamesBytesMax: number;
}

/** Where the session is to be brought back to; null: there is no such session any more, or it is another user's. */
export function roomsOf({ session, hello: { positions }, before, answer, taken, roomNamesBytesMax }: Resuming): PlaceInRoom[] | null {
  // The store is unavailable: the signed token says that there was such a session, and the client where it was.
  const stored = "value" in answer ? answer.value : { userKey: session.userKey, rooms: [...positions] };
  // A socket that is here knows better, unless the session has been elsewhere since.
  const isBest = before !== undefined && (before.generation >= taken - 1 || stored === null);
  const found = isBest ? before : stored;
  if (found === null) return null;
  const owner = "userKey" in found ? found.userKey : userKey(found.tenant, found.user);
  return owner === session.userKey ? placesFor("userKey" in found ? listed(found.rooms) : found.rooms, positions, roomNamesBytesMax) : null;
}

/**
 * The rooms of a stored session, each from where its client says it is, else from where the store has it. What ready
 * has no room for is not brought back: it does not name them, and the client joins them itself.
 */
function placesFor(rooms: readonly PlaceInRoom[], positions: readonly PlaceInRoom[], bytesMax: number): PlaceInRoom[] {
  const said = new Map(positions.map((place) => [place.name, place]));
  let bytesLeft = bytesMax;
  return rooms.flatMap((room) => {
    bytesLeft -= Buffer.byteLength(room.name);
    return bytesLeft < 0 ? [] : [said.get(room.name) ?? room];
  });
}

/** Resuming: whether the session belongs to the client, and the rooms it is brought back into. */
import type { Answer } from "../../broker/broker.ts";
import type { HelloRecord, PlaceInRoom } from "../../link/sessions.ts";
import { userKey } from "../../protocol/roomkeys.ts";
import type { SessionRecord } from "../../sessions/sessions.ts";
import { unread } from "./assigned.ts";
import { listed, type Places } from "./places.ts";

/** A session with a socket on this node. */
interface Known {
  readonly userKey: string;
  readonly generation: number;
  readonly rooms: Places;
  readonly assigned: ReadonlySet<string>;
}

export interface Resuming {
  readonly session: Pick<Known, "userKey" | "assigned">;
  readonly hello: Pick<HelloRecord, "positions">;
  /** The socket on this node that has the session. */
  readonly before: Known | undefined;
  /** The store's answer, and the generation it assigned. */
  readonly answer: Answer<SessionRecord | null>;
  readonly taken: number;
  readonly roomNamesBytesMax: number;
}

export interface Resumed {
  /** The rooms to bring the session back into. */
  readonly rooms: PlaceInRoom[];
  /** The rooms into which the application has joined the user. Where they cannot be read, those that were known last. */
  readonly assigned: ReadonlySet<string>;
  /** Only the client says that it was in the rooms. */
  readonly isClaimed: boolean;
}

/** Null: the session does not exist any more, or it belongs to another user. */
export function roomsOf({ session, hello: { positions }, before: known, answer, taken, roomNamesBytesMax }: Resuming): Resumed | null {
  // The store is unavailable. The signed token proves that the session existed, and the client says where it was.
  const stored = "value" in answer ? answer.value : { userKey: session.userKey, rooms: [...positions], assigned: undefined };
  // A socket on this node knows the rooms better, unless the session has been on another node since.
  const isBest = known !== undefined && (known.generation >= taken - 1 || stored === null);
  const found = isBest ? known : stored;
  if (found === null) return null;
  const owner = "userKey" in found ? found.userKey : userKey(found.tenant, found.user);
  if (owner !== session.userKey) return null;
  const rooms = "userKey" in found ? listed(found.rooms) : found.rooms;
  // Positions of the client alone say nothing of it.
  const isClaimed = !isBest && !("value" in answer);
  if (found.assigned === undefined && !("value" in answer) && session.assigned === unread) return { rooms: placesFor(rooms, positions, roomNamesBytesMax), assigned: unread, isClaimed };
  const before = new Set(found.assigned);
  const assigned = session.assigned === unread ? before : session.assigned;
  return { rooms: placesFor(withoutRemoved(rooms, before, assigned), positions, roomNamesBytesMax), assigned, isClaimed };
}

/** Without the rooms into which the application had joined the user, and from which it has removed the user since. */
function withoutRemoved(rooms: readonly PlaceInRoom[], before: ReadonlySet<string>, now: ReadonlySet<string>): readonly PlaceInRoom[] {
  return before.size === 0 ? rooms : rooms.filter(({ name }) => !before.has(name) || now.has(name));
}

/**
 * The rooms of a session, each with the position that the client named, or else with the one known here. Rooms whose
 * names do not fit into `ready` are left out. The client sees that `ready` does not name them, and joins them itself.
 */
function placesFor(rooms: readonly PlaceInRoom[], positions: readonly PlaceInRoom[], bytesMax: number): PlaceInRoom[] {
  const said = new Map(positions.map((place) => [place.name, place]));
  let bytesLeft = bytesMax;
  return rooms.flatMap((room) => {
    bytesLeft -= Buffer.byteLength(room.name);
    return bytesLeft < 0 ? [] : [said.get(room.name) ?? room];
  });
}

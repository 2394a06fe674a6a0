/** What a session calls a room, and the room's key. */
import { inboxKey, inboxName, roomKey } from "../protocol/roomkeys.ts";
import type { Session } from "./session/session.ts";

/** Bytes of a user's name, as in a token's sub. */
export const userNameBytesMax = 128;

/** The key of what this session calls by that name. */
export function keyOf({ grant }: Session, room: string): string {
  return room === inboxName ? inboxKey(grant!.tenant, grant!.user) : roomKey(grant!.tenant, room);
}

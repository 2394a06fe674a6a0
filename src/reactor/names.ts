/** A room's name as a session uses it, and the room's key. */
import { inboxKey, inboxName, roomKey } from "../protocol/roomkeys.ts";
import type { Session } from "./session/session.ts";

/** The key of the room that this session calls by that name. */
export function keyOf({ grant }: Session, room: string): string {
  return room === inboxName ? inboxKey(grant!.tenant, grant!.user) : roomKey(grant!.tenant, room);
}

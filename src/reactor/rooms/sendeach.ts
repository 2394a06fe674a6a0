/** What the members of a room get one by one, where one publish for all could be more than their queues may hold together. */
import type { Context } from "../context.ts";
import { formatOf, memberOf, type Room, type Session } from "../session/session.ts";
import type { SlowReaders } from "./slow.ts";
import { dropped, queued } from "../transport/socket.ts";

/**
 * The longest queues are cut first. Members for whose copy there is no room then have missed it, as with a full queue of
 * their own.
 */
export function sendEach(
  { sessions, queueBudget }: Context,
  slow: SlowReaders,
  room: Room,
  format: 0 | 1,
  message: Uint8Array,
  compress: boolean,
  excluded: Session | null,
): void {
  queueBudget.relieve();
  for (const session of sessions.open()) {
    if (session === excluded || session.socket === null || session.state !== "ready" || formatOf(session) !== format) continue;
    const member = memberOf(session, room.name);
    if (member?.state !== "live" || member.room !== room) continue;
    const sent = queueBudget.takesNow(message.length) ? session.socket.send(message, format === 0, compress) : dropped;
    if (sent === queued) queueBudget.addNow(message.length);
    else if (sent === dropped) slow.droppedNow(session);
  }
}

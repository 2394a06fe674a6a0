/** Sends to the members of a room one by one, instead of one publish for all. */
import type { Context } from "../context.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { ReactorRoom, Session } from "../session/session.ts";
import type { SlowReaders } from "./slow.ts";
import { sendAny } from "../transport/fragments.ts";
import { dropped, queued } from "../transport/socket.ts";

/**
 * Used for large messages, and for any message whose copies together exceed the budget of all queues. The longest
 * queues are cut first. A member without room for its copy has missed the message, as with a full queue of its own.
 */
export function sendEach(
  { config, queueBudget }: Context,
  slow: SlowReaders,
  room: ReactorRoom,
  wire: number,
  message: Uint8Array,
  compress: boolean,
  excluded: Session | null,
): void {
  const { isBinary } = formats[wire]!;
  queueBudget.makeRoom(message.length * room.live[wire]!);
  for (let member = room.firsts[wire] ?? null; member !== null; member = member.after) {
    const { session } = member;
    const { socket } = session;
    if (session === excluded || socket === null || session.state !== "ready") continue;
    const sent = queueBudget.takesNow(message.length) ? sendAny(socket, message, isBinary, compress, config.socketQueueBytesMax) : dropped;
    if (sent === queued) queueBudget.addNow(session, message.length);
    else if (sent === dropped) slow.droppedNow(session);
  }
}

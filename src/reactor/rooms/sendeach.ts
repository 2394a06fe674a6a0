/** What the members of a room get one by one, and not by one publish for all. */
import type { Context } from "../context.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { ReactorRoom, Session } from "../session/session.ts";
import type { SlowReaders } from "./slow.ts";
import { sendAny } from "../transport/large.ts";
import { dropped, queued } from "../transport/socket.ts";

/**
 * Large messages, and any where all copies together may be more than there is room for. Then the longest queues are cut
 * first. Members for whose copy there is no room have missed it, as with a full queue of their own.
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

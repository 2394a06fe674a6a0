/** Everything that goes to one session: frames, errors, and the close. */
import { closes, type CloseName, type ErrorCode } from "../errors.ts";
import { slots } from "../link/counters.ts";
import { formats } from "../protocol/formats/formats.ts";
import type { ServerFrame } from "../protocol/messages.ts";
import type { Context } from "./context.ts";
import type { Session } from "./session/session.ts";
import { sendAny } from "./transport/fragments.ts";
import { safeText } from "./transport/safetext.ts";
import { dropped, queued } from "./transport/socket.ts";

/** Sends a frame that is encoded in the session's format. */
export function sendBytes(context: Context, session: Session, frame: Uint8Array): void {
  if (session.socket === null || session.state === "closing") return;
  const format = formats[session.wire]!;
  if (session.unanswered > 0 && format.isAnswer(frame)) session.unanswered--;
  context.counters.addAt(slots.framesOut, 1);
  context.counters.addAt(slots.bytesOut, frame.length);
  if (!context.together.takes(session, frame)) writeBytes(context, session, frame);
}

/** Writes a frame to the session's socket. Call `sendBytes`, which counts it. */
export function writeBytes(context: Context, session: Session, frame: Uint8Array): void {
  if (session.socket === null || session.state === "closing") return;
  const format = formats[session.wire]!;
  const sent = sendAny(session.socket, frame, format.isBinary, frame.length >= context.compressFrom, context.config.socketQueueBytesMax);
  if (sent === queued) context.queueBudget.add(session, frame.length);
  else if (sent === dropped) tooSlow(context, session);
}

export function sendFrame(context: Context, session: Session, frame: ServerFrame): void {
  sendBytes(context, session, context.encoder.frame(session.wire, frame));
}

/** Sends an error reply. The command is refused; the session goes on. */
export function refuse(context: Context, session: Session, id: number, code: ErrorCode, text?: string): void {
  context.counters.add("errorReplies", 1);
  context.trace?.refused(session, id, code, text ?? "");
  sendBytes(context, session, context.encoder.error(session.wire, id, code, text));
}

/**
 * Closes the session's socket. `text` is for the log, `reason` for the client. Queued bytes are sent first; the close
 * handler runs before this returns.
 * @param code another one than the table's, which the application has chosen
 */
export function closeSession(context: Context, session: Session, name: CloseName, text = "", reason: string = name, code: number = closes[name].code): void {
  const { socket } = session;
  if (socket === null) return;
  context.together.leaveIf(session);
  context.counters.closed(name);
  context.trace?.closed(session, name, text);
  context.refusals.tell(name, text, session.waiting?.client ?? "");
  if (session.state !== "closing") context.sessions.setState(session, "closing");
  socket.end(code, safeText(reason));
}

/**
 * Closes a session whose socket missed something. The node stops reading from it and sending to it. uWS may be calling
 * this, so leaving its topics and closing wait until uWS has returned.
 */
export function tooSlow(context: Context, session: Session): void {
  if (session.state === "closing" || session.state === "closed") return;
  context.counters.add("slowConsumers", 1);
  context.refusals.report("slow_consumer", "", session.waiting?.client ?? "");
  context.sessions.setState(session, "closing");
  setImmediate(() => {
    stopDeliveries(session);
    closeSlow(context, session);
  });
}

/** Unsubscribes the session from all rooms: later publications do not reach it. */
export function stopDeliveries({ socket }: Session): void {
  for (const topic of socket?.getTopics() ?? []) socket!.unsubscribe(topic);
}

/**
 * uWS drops a close frame too while the queue is full. So the frame is sent after the queue drains; else heartbeat.ts
 * ends the socket.
 */
export function closeSlow(context: Context, session: Session): void {
  if (session.socket?.getBufferedAmount() === 0) closeSession(context, session, "slow_consumer");
}

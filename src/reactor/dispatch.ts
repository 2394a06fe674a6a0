/** From the bytes of a WebSocket message to commands: the first half of the data path. */
import { slots } from "../link/counters.ts";
import { BadFrame, Batch } from "../protocol/formats/format.ts";
import { formats } from "../protocol/formats/formats.ts";
import { cutFrames, release, tooLarge } from "../protocol/framing.ts";
import type { ClientFrame } from "../protocol/messages.ts";
import * as commands from "./commands.ts";
import { goAhead } from "./session/ahead.ts";
import { hold, holdRest } from "./session/held.ts";
import { hello, refresh } from "./session/hello.ts";
import { closeSession, refuse } from "./outgoing.ts";
import { presence, watch } from "./presence.ts";
import { admitCommand, costOf } from "./session/rate.ts";
import type { Reactor } from "./reactor.ts";
import type { Early, Session, Waiting } from "./session/session.ts";

/**
 * Handles the bytes of one message. A stream format carries any number of frames, split anywhere. Other formats carry
 * one frame or one batch.
 */
export function onMessage(reactor: Reactor, session: Session, message: Uint8Array): void {
  if (formats[session.wire]!.isStream) return onStream(reactor, session, message);
  signOfLife(reactor, session);
  if (message.length > reactor.config.frameBytesMax) return closeSession(reactor, session, "frame_too_large");
  onBytes(reactor, session, message, 0, message.length);
}

function onStream(reactor: Reactor, session: Session, message: Uint8Array): void {
  const { pool, config } = reactor;
  const split = session.split;
  session.split = null;
  const rest = cutFrames(split, message, config.frameBytesMax, pool, (bytes, start, end) => {
    // Frames behind a waiting command wait, so they need bytes of their own.
    if (session.waiting === null) onBytes(reactor, session, bytes, start, end);
    else onBytes(reactor, session, bytes.slice(start, end), 0, end - start);
    return isOpen(session);
  });
  if (rest === tooLarge) return closeSession(reactor, session, "frame_too_large");
  if (!isOpen(session)) return release(rest, pool);
  session.split = rest;
  // The continuation of a split frame is no sign of life. A client that sends one byte now and then would keep the
  // buffer forever.
  if (rest === null || rest !== split) signOfLife(reactor, session);
}

/**
 * Call this for a whole frame or the beginning of one. A frame must be complete within the heartbeat and its grace
 * period.
 */
function signOfLife({ heartbeat }: Reactor, session: Session): void {
  if (session.state === "ready") heartbeat.heard(session);
}

function onBytes(reactor: Reactor, session: Session, bytes: Uint8Array, start: number, end: number): void {
  const read = formats[session.wire]!.decode(bytes, start, end);
  if (read === null) return closeSession(reactor, session, "bad_frame");
  if (!(read instanceof Batch)) return onFrame(reactor, session, read, end - start);
  const bytesEach = (end - start) / read.length;
  for (let i = 0; i < read.length && isOpen(session); i++) onFrame(reactor, session, read.at(i), bytesEach);
}

function onFrame(reactor: Reactor, session: Session, frame: Early, bytes: number): void {
  const { waiting } = session;
  if (waiting !== null) {
    if (!goAhead(reactor, session, waiting, frame, bytes)) hold(reactor, session, waiting, frame, bytes);
  }
  else if (frame instanceof BadFrame) refuseBadFrame(reactor, session, frame);
  else dispatch(reactor, session, frame);
}

function refuseBadFrame(reactor: Reactor, session: Session, { id, kind, message }: BadFrame): void {
  // Before hello there is no session that an error reply could name.
  if (session.state === "handshake") return closeSession(reactor, session, kind === "hello" ? "bad_frame" : "not_hello");
  reactor.counters.addAt(slots.framesIn, 1);
  if (id !== 0) session.unanswered++;
  if (admitCommand(reactor, session, id, 1)) refuse(reactor, session, id, "bad_request", message);
}

/** Dispatches the frames that waited behind a command, up to one that waits itself. */
export function dispatchHeld(reactor: Reactor, session: Session, held: Waiting): void {
  for (let i = 0; i < held.frames.length && isOpen(session); i++) {
    if (session.waiting !== null) return holdRest(reactor, session.waiting, held, i);
    const frame = held.frames[i]!;
    if (frame instanceof BadFrame) refuseBadFrame(reactor, session, frame);
    else dispatch(reactor, session, frame);
  }
}

function dispatch(reactor: Reactor, session: Session, frame: ClientFrame): void {
  reactor.counters.addAt(slots.framesIn, 1);
  const id = frame.id ?? 0;
  if (id !== 0) session.unanswered++;
  if (session.state === "handshake") {
    if (frame.hello == null) return closeSession(reactor, session, "not_hello");
    return hello(reactor, session, id, frame.hello);
  }
  if (session.state !== "ready" || !admitCommand(reactor, session, id, costOf(frame))) return;
  if (reactor.trace?.isFollowing === true) reactor.trace.command(session, frame);
  switch (frame.command) {
    case "publish": return commands.publish(reactor, session, id, frame.publish!);
    case "echo": return commands.echo(reactor, session, id, frame.echo!);
    case "ping": return commands.ping(reactor, session, id, frame.ping!);
    case "join": return commands.join(reactor, session, id, frame.join!);
    case "leave": return commands.leave(reactor, session, id, frame.leave!);
    case "history": return commands.history(reactor, session, id, frame.history!);
    case "send": return commands.send(reactor, session, id, frame.send!);
    case "ack": {
      // One that is taken gets no answer.
      if (commands.ack(reactor, session, id, frame.ack!) && id !== 0) session.unanswered--;
      return;
    }
    case "refresh": return refresh(reactor, session, id, frame.refresh!);
    case "presence": return presence(reactor, session, id, frame.presence!);
    case "watch": return watch(reactor, session, id, frame.watch!, true);
    case "unwatch": return watch(reactor, session, id, frame.unwatch!, false);
    case "bye": return commands.bye(reactor, session);
    case "hello": return refuse(reactor, session, id, "bad_request", "hello: already sent");
    case undefined: return refuse(reactor, session, id, "bad_request", "unknown command: this node supports none in the frame");
  }
}

/** Whether the session's frames are still processed: its socket is not closing. */
export function isOpen(session: Session): boolean {
  return session.state === "handshake" || session.state === "ready";
}

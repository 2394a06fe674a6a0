/** From the bytes of a WebSocket message to commands: the first half of the data path. */
import { decodeClientFrame } from "../protocol/codec.ts";
import { cutFrames, tooLarge } from "../protocol/framing.ts";
import { BadFrame, decodeClientJson, parseMessage } from "../protocol/json.ts";
import type { ClientFrame } from "../protocol/messages.ts";
import * as commands from "./commands.ts";
import type { Context } from "./context.ts";
import { closeSession, refuse } from "./outgoing.ts";
import { admitCommand } from "./rate.ts";
import type { Session } from "./session.ts";

/** A binary message: any number of frames, the first and the last maybe in part. */
export function onBinary(context: Context, session: Session, message: Uint8Array): void {
  const { pool, config } = context;
  const split = session.split;
  session.split = null;
  const rest = cutFrames(split, message, config.frameBytesMax, pool, (bytes, start, end) => {
    let frame: ClientFrame;
    try {
      frame = decodeClientFrame(bytes, start, end);
    } catch {
      // What protobufjs says of the bytes helps nobody who sees a close code: frames that cannot be read have one.
      closeSession(context, session, "bad_frame");
      return false;
    }
    dispatch(context, session, frame);
    return isOpen(session);
  });
  if (rest === tooLarge) closeSession(context, session, "frame_too_large");
  else if (isOpen(session)) session.split = rest;
  else if (rest !== null) pool.give(rest.buffer);
}

/** A text message: one frame, or an array of them. */
export function onText(context: Context, session: Session, message: Uint8Array): void {
  if (message.length > context.config.frameBytesMax) return closeSession(context, session, "frame_too_large");
  let frames: unknown[];
  try {
    frames = parseMessage(message);
  } catch {
    // Not JSON: as for bytes that are no protobuf.
    return closeSession(context, session, "bad_frame");
  }
  for (const frame of frames) {
    onJsonFrame(context, session, frame);
    if (!isOpen(session)) return;
  }
}

function onJsonFrame(context: Context, session: Session, value: unknown): void {
  let frame: ClientFrame;
  try {
    frame = decodeClientJson(value);
  } catch (error) {
    if (!(error instanceof BadFrame)) throw error;
    if (session.state === "handshake") return closeSession(context, session, "not_hello");
    context.counters.add("framesIn", 1);
    if (admitCommand(context, session, error.id)) refuse(context, session, error.id, "bad_request", error.message);
    return;
  }
  dispatch(context, session, frame);
}

function dispatch(context: Context, session: Session, frame: ClientFrame): void {
  context.counters.add("framesIn", 1);
  const id = frame.id ?? 0;
  if (session.state === "handshake") {
    if (frame.hello == null) return closeSession(context, session, "not_hello");
    return commands.hello(context, session, id, frame.hello);
  }
  if (session.state !== "ready" || !admitCommand(context, session, id)) return;
  switch (frame.command) {
    case "publish": return commands.publish(context, session, id, frame.publish!);
    case "echo": return commands.echo(context, session, id, frame.echo!);
    case "ping": return commands.ping(context, session, id, frame.ping!);
    case "join": return commands.join(context, session, id, frame.join!);
    case "leave": return commands.leave(context, session, id, frame.leave!);
    case "history": return commands.history(context, session, id, frame.history!);
    case "bye": return closeSession(context, session, "bye");
    case "hello": return refuse(context, session, id, "bad_request", "hello: has been said");
    case undefined: return refuse(context, session, id, "bad_request", "a frame without a command this node knows");
  }
}

function isOpen(session: Session): boolean {
  return session.state === "handshake" || session.state === "ready";
}

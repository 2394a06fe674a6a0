/**
 * Frames that wait behind a command of their session, in order, while other sessions go on. They are bounded for each
 * session and for all of the reactor.
 */
import type { Context } from "../context.ts";
import { closeSession, refuse } from "../outgoing.ts";
import { admitCommand } from "./rate.ts";
import type { Early, Session, Waiting } from "./session.ts";

const framesMax = 64;
/** Of all sessions of a reactor. */
const totalBytesMax = 16 * 2 ** 20;

/**
 * Shared by all, since most clients send no frame there, or one. V8 allocates room for seventeen elements on the first
 * push to an empty array.
 */
const noFrames: Early[] = [];
const noSizes: number[] = [];

/** From here on the session's frames wait, until `letGo`. */
export function wait(session: Session, id: number, client = ""): void {
  session.waiting = { id, client, frames: noFrames, sizes: noSizes, bytes: 0, ahead: 0, restored: 0, mayGoAhead: false };
}

/** Keeps a frame. Its bytes must be its own. */
export function hold(context: Context, session: Session, waiting: Waiting, frame: Early, bytes: number): void {
  const isFull = isFullWith(context, waiting, bytes);
  if (isFull || isOverTotal(context, bytes)) return refuseHeld(context, session, frame, isFull);
  if (waiting.frames === noFrames) {
    waiting.frames = [frame];
    waiting.sizes = [bytes];
  } else {
    waiting.frames.push(frame);
    waiting.sizes.push(bytes);
  }
  count(context, waiting, bytes);
}

/** Counts a frame that the hub holds instead. False: there is no room for it, and nothing is counted. */
export function holdAhead(context: Context, waiting: Waiting, bytes: number): boolean {
  if (isFullWith(context, waiting, bytes) || isOverTotal(context, bytes)) return false;
  count(context, waiting, bytes);
  return true;
}

function isFullWith({ config }: Context, { frames, ahead, bytes: held }: Waiting, bytes: number): boolean {
  return frames.length + ahead >= framesMax || held + bytes > config.frameBytesMax;
}

function isOverTotal({ counters }: Context, bytes: number): boolean {
  return counters.get("heldBytes") + bytes > totalBytesMax;
}

function count({ counters }: Context, waiting: Waiting, bytes: number): void {
  waiting.bytes += bytes;
  counters.add("heldBytes", bytes);
}

/** A client knows how to go on where a command of its session is refused, but not where hello was not answered yet. */
function refuseHeld(context: Context, session: Session, frame: Early, isFull: boolean): void {
  context.counters.add("heldRefused", 1);
  if (session.state === "handshake") return closeSession(context, session, isFull ? "rate_limited" : "overloaded");
  const id = frame.id ?? 0;
  if (id !== 0) session.unanswered++;
  if (admitCommand(context, session, id, 1)) refuse(context, session, id, "overloaded", "too many commands wait behind one that the application's backend decides on");
}

/** The session waits no longer. @returns what waited: the caller dispatches its frames, or drops them. */
export function letGo({ counters }: Context, session: Session): Waiting | null {
  const { waiting } = session;
  session.waiting = null;
  if (waiting !== null && waiting.bytes > 0) counters.add("heldBytes", -waiting.bytes);
  return waiting;
}

/** Frames from `from` on wait behind one that came before them. */
export function holdRest(context: Context, waiting: Waiting, held: Waiting, from: number): void {
  waiting.frames = held.frames.slice(from);
  waiting.sizes = held.sizes.slice(from);
  waiting.bytes = waiting.sizes.reduce((sum, bytes) => sum + bytes, 0);
  context.counters.add("heldBytes", waiting.bytes);
}

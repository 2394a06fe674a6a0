/**
 * The window over which clients spread their reconnects after a crash of the node. All of them lose it at the same
 * moment, and the remaining nodes should not take them in all at once. So `ready` names a window and the session's
 * place in it: the client's first wait. The window grows with the number of sessions. After a change, the node tells
 * all its sessions again. Otherwise clients from its quiet time would return too fast.
 *
 * The window grows by doubling, so a node rarely announces a change. All sessions of all its reactors have the same
 * window.
 */
import type { Counters } from "../../link/counters.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { ServerFrame } from "../../protocol/messages.ts";
import type { Context } from "../context.ts";
import { sendBytes } from "../outgoing.ts";

/** Clients a reactor takes back beside its normal work: a fifth of what it can do. */
const returnsPerSecond = 300;
/** Clients spread over this time by themselves. */
const ownMs = 500;
const lookMs = 1000;
/** Sessions that get the new window in one turn of the loop. */
const turnMax = 256;
/** Places are whole numbers from 1 to this. */
const places = 65_536;
/**
 * Each place follows the last by this part of the window, the golden section. However many there are, the gaps between
 * places stay about equal.
 */
const step = (Math.sqrt(5) - 1) / 2;

/** 0: the time by which clients spread anyway is enough. @param maxMs upper bound */
export function windowFor(sessions: number, reactors: number, maxMs: number): number {
  const neededMs = (sessions * 1000) / (reactors * returnsPerSecond);
  if (neededMs <= ownMs || maxMs <= ownMs) return 0;
  let ms = 2 * ownMs;
  while (ms < neededMs && ms < maxMs) ms *= 2;
  return Math.min(ms, maxMs);
}

export class ReturnWindow {
  ms = 0;
  readonly #context: Context;
  readonly #reactors: readonly Counters[];
  readonly #maxMs: number;
  /** A random start, so that nodes differ. */
  #place = Math.random();
  #timer: NodeJS.Timeout | null = null;
  #telling: NodeJS.Immediate | null = null;

  /** @param reactors counters of all reactors of the node: its sockets are all lost together */
  constructor(context: Context, reactors: readonly Counters[]) {
    this.#context = context;
    this.#reactors = reactors;
    // The session must still exist when the last clients return, and if their first attempt fails.
    this.#maxMs = Math.min(context.config.returnWindowMaxMs, context.config.sessionTtlMs / 2);
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), lookMs);
  }

  /** In 65536ths of the window. Random places would cluster half as much again as these do. */
  nextPlace(): number {
    this.#place = (this.#place + step) % 1;
    return 1 + Math.floor(this.#place * places);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    if (this.#telling !== null) clearImmediate(this.#telling);
  }

  /**
   * The window narrows only when half of it would do. Otherwise a node near a step would announce changes again and
   * again.
   */
  #look(): void {
    const sessions = this.#reactors.reduce((sum, counters) => sum + counters.get("ready"), 0);
    const { length: reactors } = this.#reactors;
    const least = windowFor(sessions, reactors, this.#maxMs);
    const most = windowFor(2 * sessions, reactors, this.#maxMs);
    const ms = Math.max(least, Math.min(most, this.ms));
    if (ms === this.ms) return;
    this.ms = ms;
    if (this.#telling !== null) clearImmediate(this.#telling);
    this.#tell(0);
  }

  /** Tells the sessions from this slot on. A session that becomes ready meanwhile gets the window with `ready`. */
  #tell(from: number): void {
    const { sessions, encoder, config } = this.#context;
    const frame: ServerFrame = { id: 0, returnWindow: { windowMs: this.ms } };
    // Each frame is valid only until the encoder's next call.
    const frames = formats.map((_, wire) => Uint8Array.from(encoder.frame(wire, frame)));
    const end = Math.min(from + turnMax, sessions.end);
    for (let slot = from; slot < end; slot++) {
      const session = sessions.at(slot);
      // A nearly full socket is not closed for this: it keeps its present window.
      if (session?.state !== "ready" || session.socket!.getBufferedAmount() > config.socketQueueBytesMax / 2) continue;
      sendBytes(this.#context, session, frames[session.wire]!);
    }
    this.#telling = end < sessions.end ? setImmediate(() => this.#tell(end)) : null;
  }
}

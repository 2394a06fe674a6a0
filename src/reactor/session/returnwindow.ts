/**
 * How widely clients are to spread when they lose the node without a word. All of them lose it in the same moment, and
 * those nodes that are left should not have to take them in all at once. So `ready` names a window, and the session's place in it, which is its first
 * wait. It grows with what the node holds; then everybody is told anew, or those who came while the node
 * was empty would come back as if it still were.
 *
 * It grows by doubling: a node tells a few times in its life, and all sessions of all its reactors have the same window.
 */
import type { Counters } from "../../link/counters.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { ServerFrame } from "../../protocol/messages.ts";
import type { Context } from "../context.ts";
import { sendBytes } from "../outgoing.ts";

/** What a reactor takes in besides what it is doing: a fifth of what it could. */
const returnsPerSecond = 300;
/** Clients spread over this time by themselves. */
const ownMs = 500;
const lookMs = 1000;
/** Sessions that are told in one turn of the loop. */
const turnMax = 256;
/** Places are told in whole numbers: 1 to this. */
const places = 65_536;
/** Steps of this part of the window, the golden section, leave no two gaps between places very different, however many there are. */
const step = (Math.sqrt(5) - 1) / 2;

/** 0: that by which clients spread anyway is enough. @param maxMs it is no more than this */
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
  /** Where chance began. */
  #place = Math.random();
  #timer: NodeJS.Timeout | null = null;
  #telling: NodeJS.Immediate | null = null;

  /** @param reactors counters of all of the node: whoever loses one of its sockets loses it with all the others */
  constructor(context: Context, reactors: readonly Counters[]) {
    this.#context = context;
    this.#reactors = reactors;
    // A session has to be there still when the last come back, and if their first attempt fails.
    this.#maxMs = Math.min(context.config.returnWindowMaxMs, context.config.sessionTtlMs / 2);
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), lookMs);
  }

  /** In 65536ths of the window. Drawn by chance they would come half as bunched again as they have to. */
  nextPlace(): number {
    this.#place = (this.#place + step) % 1;
    return 1 + Math.floor(this.#place * places);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    if (this.#telling !== null) clearImmediate(this.#telling);
  }

  /** It is narrowed only when half would do: a node that is about as full as a step allows does not tell again and again. */
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

  /** Those from this slot on. Whoever gets ready meanwhile is told by that. */
  #tell(from: number): void {
    const { sessions, encoder, config } = this.#context;
    const frame: ServerFrame = { id: 0, returnWindow: { windowMs: this.ms } };
    // Each is valid until the encoder's next call.
    const frames = formats.map((_, wire) => Uint8Array.from(encoder.frame(wire, frame)));
    const end = Math.min(from + turnMax, sessions.end);
    for (let slot = from; slot < end; slot++) {
      const session = sessions.at(slot);
      // A socket that is nearly full is not closed for this: it keeps the window it has.
      if (session?.state !== "ready" || session.socket!.getBufferedAmount() > config.socketQueueBytesMax / 2) continue;
      sendBytes(this.#context, session, frames[session.wire]!);
    }
    this.#telling = end < sessions.end ? setImmediate(() => this.#tell(end)) : null;
  }
}

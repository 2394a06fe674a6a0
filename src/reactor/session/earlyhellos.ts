/**
 * Hellos of users whose partition this node is about to hold: the clients were sent here by the node that had it. They
 * wait until the claim is confirmed, or for two seconds.
 */
import type { Context } from "../context.ts";
import { tellToWait } from "./directions.ts";
import type { Session } from "./session.ts";

interface Waiting {
  readonly session: Session;
  readonly life: number;
  readonly partition: number;
  readonly until: number;
  readonly serve: () => void;
}

const waitMs = 2_000;
const lookMs = 20;

/** Bounded by the sockets in their handshake. */
export class EarlyHellos {
  readonly #context: Context;
  #waiting: Waiting[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Calls `serve` once this node holds the partition. Else the client is told to come again. */
  hold(session: Session, partition: number, serve: () => void): void {
    this.#waiting.push({ session, life: session.life, partition, until: performance.now() + waitMs, serve });
    this.#timer ??= setInterval(() => this.#look(), lookMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    const now = performance.now();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      const { session, life, partition, until, serve } = one;
      if (session.life !== life || session.state !== "handshake" || session.socket === null) continue;
      if (this.#context.holdings.allows(partition)) serve();
      else if (now < until) this.#waiting.push(one);
      else tellToWait(this.#context, session);
    }
    if (this.#waiting.length === 0) this.stop();
  }
}

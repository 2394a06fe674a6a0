/**
 * Sends away the sessions of a reactor before the node exits. Each session, in its turn, gets what waits for it. It is
 * asked to reconnect, with a delay and a URL, and is then closed with 3001 (farewells.ts).
 *
 * The node admits no new sessions meanwhile. A session that waits for the answer to hello is handled like any other.
 */
import type { Reactor } from "../reactor.ts";
import { Farewells, isHere } from "./farewells.ts";
import { urlOfOwner } from "./directions.ts";
import type { Session } from "./session.ts";
import { stepMs, turns, turnsPerStep, type Turn } from "./turns.ts";

export interface DrainOrder {
  readonly windowMs: number;
  /** The URL that clients reconnect to. Empty: that of their user's node, else the one they used before. */
  readonly url: string;
  /** See turns.ts. */
  readonly phase: number;
}

export class SendAway {
  readonly #reactor: Reactor;
  readonly #farewells: Farewells;
  readonly #order: DrainOrder;
  readonly #onDone: () => void;
  readonly #turns: readonly Turn<Session>[];
  readonly #perStep: number;
  readonly #startedAt = performance.now();
  #next = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(reactor: Reactor, order: DrainOrder, onDone: () => void) {
    this.#reactor = reactor;
    this.#farewells = new Farewells(reactor, "shutdown");
    this.#order = order;
    this.#onDone = onDone;
    this.#turns = turns([...reactor.sessions.open()], order.windowMs, order.phase, Math.random);
    this.#perStep = turnsPerStep(this.#turns.length, order.windowMs);
  }

  start(): void {
    this.#timer = setInterval(() => this.#step(), stepMs);
    this.#step();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #step(): void {
    const now = performance.now();
    const elapsed = now - this.#startedAt;
    for (let left = this.#perStep; left > 0 && this.#next < this.#turns.length; this.#next++) {
      const turn = this.#turns[this.#next]!;
      // A session that has disconnected takes no turn.
      if (!isHere(turn.of)) continue;
      if (turn.atMs > elapsed) break;
      left--;
      const url = this.#order.url || urlOfOwner(this.#reactor, turn.of);
      this.#farewells.begin(turn.of, { reason: "drain", delayMs: turn.delayMs, url }, now);
    }
    this.#farewells.step(now);
    if (this.#next < this.#turns.length || !this.#farewells.isOver(now)) return;
    this.stop();
    this.#onDone();
  }
}

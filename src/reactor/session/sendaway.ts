/**
 * Sends away the sessions of a reactor before the node exits. Each session, in its turn, gets what waits for it. It is
 * asked to reconnect, with a delay and a URL, and is then closed with 3001. The node keeps the session, and the client
 * recovers at its next node.
 *
 * Commands under way are answered first, so that no publish stays in doubt. From its turn on a session may begin no new
 * publish. The node admits no new sessions meanwhile. A session that waits for the answer to hello is handled like any
 * other.
 */
import { closeSession, sendFrame } from "../outgoing.ts";
import type { Reactor } from "../reactor.ts";
import type { Session } from "./session.ts";
import { stepMs, turns, turnsPerStep, type Turn } from "./turns.ts";

/** Answers are awaited this long. An unreachable broker gives up after its own timeout, which may be longer. */
const answersMs = 4000;
const afterBrokerMs = 1000;
/** Time for lagging readers to read their queues. */
const flushMs = 1000;

export interface DrainOrder {
  readonly windowMs: number;
  /** The URL that clients reconnect to. Empty: the URL they used before. */
  readonly url: string;
  /** See turns.ts. */
  readonly phase: number;
}

export class SendAway {
  readonly #reactor: Reactor;
  readonly #order: DrainOrder;
  readonly #onDone: () => void;
  readonly #turns: readonly Turn<Session>[];
  readonly #perStep: number;
  readonly #startedAt = performance.now();
  #next = 0;
  /** Until when each session that was asked to leave waits for its answers. */
  readonly #until = new Map<Session, number>();
  /** Until then, bytes may be on their way to a slow reader. */
  #flushedAt = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(reactor: Reactor, order: DrainOrder, onDone: () => void) {
    this.#reactor = reactor;
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
      this.#sendAway(turn, now);
    }
    for (const [session, until] of this.#until) if (session.unanswered === 0 || !isHere(session) || now >= until) this.#close(session);
    if (this.#next < this.#turns.length || this.#until.size > 0 || now < this.#flushedAt) return;
    this.stop();
    this.#onDone();
  }

  #sendAway({ of: session, delayMs }: Turn<Session>, now: number): void {
    const { rooms, leaving } = this.#reactor;
    leaving.add(session);
    this.#until.set(session, now + Math.max(answersMs, this.#reactor.config.natsTimeoutMs + afterBrokerMs));
    rooms.deliveries.flushFor(session);
    sendFrame(this.#reactor, session, { id: 0, reconnect: { reason: "drain", delayMs, url: this.#order.url } });
  }

  #close(session: Session): void {
    this.#reactor.leaving.delete(session);
    this.#until.delete(session);
    if (!isHere(session)) return;
    if (session.socket!.getBufferedAmount() > 0) this.#flushedAt = performance.now() + flushMs;
    this.#reactor.rooms.deliveries.handOverAll(session);
    closeSession(this.#reactor, session, "shutdown");
  }
}

/** False for a session that has disconnected, or is closing for another reason: it needs no turn. */
function isHere({ socket, state }: Session): boolean {
  return socket !== null && (state === "handshake" || state === "ready");
}

/**
 * Sends the sessions of a reactor away before the node ends. Each in its turn is given what waits for it, told when and
 * where to come back, and closed with 3001: its session is kept, and what it missed is given to it where it comes to.
 *
 * What it has asked is answered first, so that no publish is left in doubt: from its turn on it may begin no other. No
 * session comes in meanwhile, since the door is closed; one that is saying hello waits for the answer like for any other.
 */
import { closeSession, sendFrame } from "../outgoing.ts";
import type { Reactor } from "../reactor.ts";
import type { Session } from "./session.ts";
import { stepMs, turns, turnsPerStep, type Turn } from "./turns.ts";

/** What a session has asked is answered within this time, or a broker that cannot be reached gives up after its own. */
const answersMs = 4000;
const afterBrokerMs = 1000;
/** What readers that are behind have to take what is queued for them. */
const flushMs = 1000;

export interface DrainOrder {
  readonly windowMs: number;
  /** Where clients are sent; "": where they came from. */
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
  /** Until when those that were told wait for their answers, at the latest. */
  readonly #until = new Map<Session, number>();
  /** Something may be on its way to a slow reader until then. */
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
      // Whoever has gone by itself is not waited for.
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

/** One that has gone, or is being closed for another reason, needs no turn. */
function isHere({ socket, state }: Session): boolean {
  return socket !== null && (state === "handshake" || state === "ready");
}

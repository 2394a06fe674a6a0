/**
 * Asks single sessions to reconnect, and closes each once its commands are answered, so that no publish stays in doubt.
 * From then on a session may begin no new publish. The node keeps the session, and the client recovers at its next
 * node.
 */
import type { CloseName } from "../../errors.ts";
import type { ServerFrame } from "../../protocol/messages.ts";
import { closeSession, sendFrame } from "../outgoing.ts";
import type { Reactor } from "../reactor.ts";
import type { Session } from "./session.ts";

/** Answers are awaited this long. An unreachable broker gives up after its own timeout, which may be longer. */
const answersMs = 4000;
const afterBrokerMs = 1000;
/** Time for lagging readers to read their queues. */
const flushMs = 1000;
/**
 * A client may go on writing until it reads the close. uWS reads and drops that. If the process ended first, the kernel
 * would answer with a reset, and the client might lose the close and the answers before it.
 */
const lingerMs = 500;

export class Farewells {
  readonly #reactor: Reactor;
  readonly #close: CloseName;
  /** Until when each session that was asked to leave waits for its answers. */
  readonly #until = new Map<Session, number>();
  /** Until then, bytes may be on their way from and to the clients that were closed. */
  #settledAt = 0;

  constructor(reactor: Reactor, close: CloseName) {
    this.#reactor = reactor;
    this.#close = close;
  }

  /** @param now milliseconds of performance.now() */
  begin(session: Session, reconnect: NonNullable<ServerFrame["reconnect"]>, now: number): void {
    const { rooms, leaving, config } = this.#reactor;
    leaving.add(session);
    this.#until.set(session, now + Math.max(answersMs, config.natsTimeoutMs + afterBrokerMs));
    rooms.deliveries.flushFor(session);
    sendFrame(this.#reactor, session, { id: 0, reconnect });
  }

  /** Closes the sessions whose answers have come, or whose time is over. */
  step(now: number): void {
    for (const [session, until] of this.#until) if (isAnswered(session) || !isHere(session) || now >= until) this.#end(session, now);
  }

  /** Nobody waits any more, and those that were closed have had their time. */
  isOver(now: number): boolean {
    return this.#until.size === 0 && now >= this.#settledAt;
  }

  #end(session: Session, now: number): void {
    this.#reactor.leaving.delete(session);
    this.#until.delete(session);
    if (!isHere(session)) return;
    this.#settledAt = Math.max(this.#settledAt, now + (session.socket!.getBufferedAmount() > 0 ? flushMs : lingerMs));
    this.#reactor.rooms.deliveries.handOverAll(session);
    closeSession(this.#reactor, session, this.#close);
  }
}

/** A command that a hook decides on may want no answer, but frames wait behind it. */
function isAnswered({ unanswered, waiting }: Session): boolean {
  return unanswered === 0 && waiting === null;
}

/** False for a session that has disconnected, or is closing for another reason: it needs no farewell. */
export function isHere({ socket, state }: Session): boolean {
  return socket !== null && (state === "handshake" || state === "ready");
}

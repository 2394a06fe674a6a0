/**
 * Detects silent sockets. A socket that sent nothing for `heartbeatMs` gets a ping. If nothing comes within the grace
 * period, the node closes it. The node also closes a socket without a timely hello. Time is counted in ticks: hearing
 * from a socket is one store, and a look at all of them walks over arrays.
 */
import { closeSession } from "../outgoing.ts";
import type { Context } from "../context.ts";
import type { Session } from "./session.ts";

/** Calls `run` every `ms` until the returned function is called. */
type Every = (ms: number, run: () => void) => () => void;

const repeat: Every = (ms, run) => {
  const timer = setInterval(run, ms);
  return () => clearInterval(timer);
};

export class Heartbeat {
  /** Ticks since the reactor started. */
  tick = 0;
  readonly #context: Context;
  readonly #tickMs: number;
  readonly #pingAfter: number;
  readonly #closeAfter: number;
  readonly #helloWithin: number;
  readonly #every: Every;
  #stop: (() => void) | null = null;

  /** @param every calls back again and again; replaced in tests */
  constructor(context: Context, every: Every = repeat) {
    this.#context = context;
    this.#every = every;
    const { heartbeatMs, heartbeatGraceMs, handshakeTimeoutMs } = context.config;
    this.#tickMs = Math.min(1000, Math.max(10, Math.min(heartbeatMs, heartbeatGraceMs, handshakeTimeoutMs) / 4));
    // One tick more: a frame at the end of a tick counts from the tick's beginning.
    this.#pingAfter = Math.ceil(heartbeatMs / this.#tickMs);
    this.#closeAfter = Math.ceil((heartbeatMs + heartbeatGraceMs) / this.#tickMs) + 1;
    this.#helloWithin = Math.ceil(handshakeTimeoutMs / this.#tickMs) + 1;
  }

  start(): void {
    this.#stop = this.#every(this.#tickMs, () => this.#beat());
  }

  stop(): void {
    this.#stop?.();
  }

  /** Call this when something came from the socket. */
  heard(session: Session): void {
    this.#context.sessions.heardAt[session.slot] = this.tick;
    this.#context.sessions.pinged[session.slot] = 0;
  }

  #beat(): void {
    this.tick++;
    const { sessions, counters } = this.#context;
    // Most of the time nobody is in the handshake. Then the idle need no look before their ping.
    const least = counters.get("handshake") > 0 ? Math.min(this.#pingAfter, this.#helloWithin) : this.#pingAfter;
    for (let slot = 0; slot < sessions.end; slot++) {
      const silent = this.tick - sessions.heardAt[slot]!;
      if (silent < least) continue;
      const session = sessions.at(slot);
      if (session !== null) this.#judge(session, silent);
    }
  }

  #judge(session: Session, silent: number): void {
    switch (session.state) {
      case "handshake":
        // Only hello ends the handshake. Other bytes do not extend it: nothing calls heard() before hello.
        if (silent >= this.#helloWithin) closeSession(this.#context, session, "handshake_timeout");
        return;
      case "ready":
        if (silent >= this.#closeAfter) return closeSession(this.#context, session, "no_heartbeat");
        if (silent >= this.#pingAfter) this.#ping(session);
        return;
      case "closing":
        // The client was too slow and reads nothing: no close frame would reach it.
        if (silent >= this.#closeAfter) session.socket?.close();
        return;
      default:
        return;
    }
  }

  #ping(session: Session): void {
    const { pinged } = this.#context.sessions;
    if (pinged[session.slot] === 1) return;
    pinged[session.slot] = 1;
    session.socket?.ping();
  }
}

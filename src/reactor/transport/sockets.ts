/** Steps of all transports when a socket opens, is refused, and is gone. */
import type { CloseName, ErrorCode } from "../../errors.ts";
import { Counters, type CounterName } from "../../link/counters.ts";
import { writeGone } from "../../link/sessions.ts";
import { release } from "../../protocol/framing.ts";
import { letGo } from "../session/held.ts";
import type { NodeState, TurnedAway } from "../../link/threads.ts";
import type { Reactor } from "../reactor.ts";
import type { Session } from "../session/session.ts";
import type { Socket } from "./socket.ts";

export function opened({ sessions, heartbeat }: Reactor, session: Session, socket: Socket): void {
  session.socket = socket;
  sessions.add(session, heartbeat.tick);
}

/**
 * Keeps the session for a resume, unless its client has ended it. The client's bye may still wait behind an unanswered
 * command.
 */
export function gone(reactor: Reactor, session: Session): void {
  const { rooms, link, pool, sessions, trace } = reactor;
  trace?.gone(session);
  const over = session.over || session.waiting?.frames.some((frame) => "bye" in frame && frame.bye != null) === true;
  letGo(reactor, session);
  session.socket = null;
  rooms.leaveAll(session);
  if (session.grant !== null) writeGone(link, session.slot, session.life, over);
  release(session.split, pool);
  session.split = null;
  sessions.remove(session);
}

/** Why a socket is refused: its counter, its reason in the log, and its codes for HTTP and for TCP. */
export interface TurnAway {
  readonly counter: CounterName;
  readonly reason: TurnedAway;
  readonly error: ErrorCode;
  readonly close: CloseName;
  readonly text: string;
}

const crowded = "handshake rate exceeded: retry later";

export const refusals = {
  leaving: { counter: "refusedLeaving", reason: "draining", error: "unavailable", close: "shutdown", text: "node is draining: connect to another node" },
  full: { counter: "refusedSockets", reason: "sockets_max", error: "overloaded", close: "overloaded", text: "socket limit reached" },
  short: { counter: "refusedMemory", reason: "memory", error: "overloaded", close: "overloaded", text: "node is short of memory" },
  crowd: { counter: "refusedHandshakes", reason: "handshakes", error: "overloaded", close: "overloaded", text: crowded },
  returning: { counter: "refusedResumes", reason: "returns", error: "overloaded", close: "overloaded", text: crowded },
} as const satisfies Record<string, TurnAway>;

/** Counts a refusal, and logs it at intervals. */
export function turnedAway({ counters, refusals }: Reactor, { counter, reason, text }: TurnAway): void {
  counters.add(counter, 1);
  refusals.tell(reason, text, "");
}

/** Why the node takes no sockets now, on any transport and reactor. Null: it takes them. */
export function doorkeeper(state: NodeState, socketsMax: number, all: readonly SharedArrayBuffer[]): () => TurnAway | null {
  const reactors = all.map((shared) => new Counters(shared));
  return () => {
    if (state.leaving) return refusals.leaving;
    if (state.shortOfMemory) return refusals.short;
    let sum = 0;
    for (const counters of reactors) sum += counters.sockets;
    if (sum >= socketsMax) return refusals.full;
    return state.takeSocket() ? null : refusals.short;
  };
}

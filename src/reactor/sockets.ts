/** What all transports do with a socket that has come and one that is gone. */
import { Counters } from "../link/counters.ts";
import { writeGone } from "../link/sessions.ts";
import { release } from "../protocol/framing.ts";
import type { Reactor } from "./reactor.ts";
import type { Session } from "./session.ts";
import type { Socket } from "./socket.ts";

export function opened({ sessions, heartbeat }: Reactor, session: Session, socket: Socket): void {
  session.socket = socket;
  sessions.add(session, heartbeat.tick);
}

/** @param over its client has ended the session: it is not kept for a resume. */
export function gone({ rooms, link, pool, sessions }: Reactor, session: Session, over: boolean): void {
  session.socket = null;
  rooms.leaveAll(session);
  if (session.grant !== null) writeGone(link, session.slot, session.life, over);
  release(session.split, pool);
  session.split = null;
  sessions.remove(session);
}

/** Whether the node holds as many sockets as it may, of all transports and reactors. */
export function fullness(socketsMax: number, all: readonly SharedArrayBuffer[]): () => boolean {
  const reactors = all.map((shared) => new Counters(shared));
  return () => {
    let sum = 0;
    for (const counters of reactors) sum += counters.get("handshake") + counters.get("ready") + counters.get("closing");
    return sum >= socketsMax;
  };
}

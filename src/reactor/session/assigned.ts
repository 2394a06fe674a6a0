/** Rooms into which the application joins a session, and from which it removes it. The token needs no right for them. */
import type { RecordReader } from "../../link/link.ts";
import { readRoomOf, writeUnplaced } from "../../link/sessions.ts";
import { roomsMax } from "../commands.ts";
import type { Reactor } from "../reactor.ts";
import { countMembers, memberOf, type Session } from "./session.ts";

export function onAssign(reactor: Reactor, record: RecordReader): void {
  const { slot, life, room } = readRoomOf(record);
  const session = reactor.sessions.find(slot, life);
  if (session?.state !== "ready") return; // the hub hears of its end
  (session.assigned ??= new Set()).add(room);
  joinAssigned(reactor, session, room);
}

/** Joins the session, unless it is in the room or on its way. */
export function joinAssigned(reactor: Reactor, session: Session, room: string): void {
  if (session.state !== "ready" || memberOf(session, room) !== null) return;
  const may = reactor.kindOf(room) !== null && countMembers(session) < roomsMax(reactor, session);
  const wanted = { id: 0, name: room, epoch: null, seq: 0, history: 0, kind: "assigned" } as const;
  if (!may || !reactor.rooms.join(session, wanted)) writeUnplaced(reactor.link, session.slot, session.life, room);
}

export function onUnassign(reactor: Reactor, record: RecordReader): void {
  const { slot, life, room } = readRoomOf(record);
  const session = reactor.sessions.find(slot, life);
  if (session?.state !== "ready") return;
  session.assigned?.delete(room);
  if (session.assigned?.size === 0) session.assigned = null;
  // Deliveries until now are still for this session.
  reactor.rooms.deliveries.flush();
  const member = memberOf(session, room);
  if (member !== null) reactor.rooms.evict(session, member, "removed");
}

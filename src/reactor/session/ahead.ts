/**
 * What goes to the hub with hello: the joins that the client sent right behind it, and the rooms in which a session that
 * resumes says it was. The hub answers them with hello. Else each would wake both threads once more, which costs more
 * than the join.
 *
 * Only what needs no answer before `ready` goes ahead: joins that this reactor would not refuse and that no hook decides
 * on. The first frame that is none of these waits, and so do all behind it. The hub answers such a join when the session
 * is admitted. It drops the join where the session is refused.
 */
import { allows } from "../../auth/grants.ts";
import { roomNameProblem } from "../../config/roomnames.ts";
import type { PlaceInRoom } from "../../link/sessions.ts";
import { BadFrame } from "../../protocol/formats/format.ts";
import { inboxName } from "../../protocol/roomkeys.ts";
import type { ClientFrame } from "../../protocol/messages.ts";
import { join, positionProblem, roomsMax } from "../commands.ts";
import type { Reactor } from "../reactor.ts";
import { holdAhead } from "./held.ts";
import { admitCommand, costOf, wouldAdmit } from "./rate.ts";
import { countMembers, isAssigned, memberOf, membersOf, type Early, type Session, type Waiting } from "./session.ts";

/** Of one session. */
const aheadMax = 16;

type JoinFrame = ClientFrame & { join: NonNullable<ClientFrame["join"]> };

/**
 * The hub has been asked. What came meanwhile follows.
 * @param isNew no session is to be resumed. Where one is, joins wait, since its rooms come first
 * @param places where the session says it was
 */
export function followHello(reactor: Reactor, session: Session, isNew: boolean, places: readonly PlaceInRoom[]): void {
  const { waiting } = session;
  // Rooms that the backend names come first, too. A user who is followed is traced in the order of answers.
  if (waiting === null || (session.grant!.hook?.rooms.length ?? 0) > 0 || reactor.trace?.isFollowing === true) return;
  for (const place of places) if (!bringBack(reactor, session, waiting, place)) return;
  waiting.mayGoAhead = isNew;
  let sent = 0;
  for (const frame of waiting.frames) {
    if (!may(reactor, session, waiting, frame)) break;
    send(reactor, session, waiting, frame);
    sent++;
  }
  if (sent === 0) return;
  waiting.frames = waiting.frames.slice(sent);
  waiting.sizes = waiting.sizes.slice(sent);
}

/** A frame has come while hello waits. False: it has to wait, too. */
export function goAhead(reactor: Reactor, session: Session, waiting: Waiting, frame: Early, bytes: number): boolean {
  if (waiting.frames.length > 0 || !may(reactor, session, waiting, frame) || !holdAhead(reactor, waiting, bytes)) return false;
  send(reactor, session, waiting, frame);
  return true;
}

/** Whether `join` would ask the hub, and answer nothing itself. */
function may(reactor: Reactor, session: Session, waiting: Waiting, frame: Early): frame is JoinFrame {
  if (!waiting.mayGoAhead || frame instanceof BadFrame || frame.command !== "join") return false;
  const { room, recover } = frame.join!;
  if (roomNameProblem(room ?? "", reactor.config.roomNameBytesMax) !== null || positionProblem("recover", recover) !== null) return false;
  return mayBeAsked(reactor, session, waiting, room ?? "") && memberOf(session, room ?? "") === null && wouldAdmit(reactor, session, costOf(frame));
}

/** Whether the session may be in one more room, this one, and no hook has to be asked. */
function mayBeAsked(reactor: Reactor, session: Session, { ahead, restored }: Waiting, room: string): boolean {
  if (ahead + restored >= aheadMax || reactor.link.congested || reactor.kindOf(room)?.asksJoin !== false) return false;
  return (room === inboxName || allows(session.grant!, "join", room)) && countMembers(session) < roomsMax(reactor, session);
}

/** As `dispatch` does later. */
function send(reactor: Reactor, session: Session, waiting: Waiting, frame: JoinFrame): void {
  const id = frame.id ?? 0;
  waiting.ahead++;
  reactor.counters.add("framesIn", 1);
  if (id !== 0) session.unanswered++;
  if (admitCommand(reactor, session, id, costOf(frame))) join(reactor, session, id, frame.join, false, true);
}

/** False: this room and all behind it are brought back once hello is answered. */
function bringBack(reactor: Reactor, session: Session, waiting: Waiting, { name, epoch, seq }: PlaceInRoom): boolean {
  if (memberOf(session, name) !== null) return true;
  if (!mayBeAsked(reactor, session, waiting, name)) return false;
  waiting.restored++;
  return reactor.rooms.join(session, { id: 0, name, epoch, seq, history: 0, kind: "restored", ahead: true });
}

/**
 * Hello was answered, and something had gone ahead. Rooms that the session is not brought back into are dropped, as the
 * hub does. Rooms into which the application has joined the user come before those that the client asked for.
 */
export function settleAhead(reactor: Reactor, session: Session, restored: readonly PlaceInRoom[]): void {
  const members = membersOf(session);
  for (const member of members) {
    if (member.arrival!.kind === "restored" && !restored.some(({ name }) => name === member.name)) reactor.rooms.forgetAhead(session, member);
  }
  if (session.assigned === null) return;
  let over = countMembers(session) - roomsMax(reactor, session);
  for (const room of session.assigned) if (memberOf(session, room) === null && reactor.kindOf(room) !== null) over++;
  for (const member of members.reverse()) {
    if (over <= 0) return;
    if (member.arrival?.kind !== "asked" || isAssigned(session, member.name)) continue;
    reactor.rooms.refuseAhead(session, member);
    over--;
  }
}

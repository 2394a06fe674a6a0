/** What a client learns of a membership that ends. */
import { writeUnplaced } from "../../link/sessions.ts";
import type { Context } from "../context.ts";
import { refuse, sendBytes, sendFrame } from "../outgoing.ts";
import { memberOf, type Arrival, type Evicted, type Member, type Session } from "../session/session.ts";

/** Sends the hub's answer to a join, then the answer to the leave that overtook it. */
export function answerBoth(context: Context, { member, ended, id, leaveId }: Arrival, frame: Uint8Array): void {
  if (ended === null) return; // the socket is gone
  if (ended === "full") return refuse(context, member.session, id, "too_many_rooms");
  sendBytes(context, member.session, frame);
  if (ended === "left") sendLeft(context, member, leaveId);
  else sendGone(context, member.session, member.name, ended);
}

/** As `answerBoth`, of a join that the hub has refused. */
export function refuseEnded(context: Context, arrival: Arrival, frame: Uint8Array): void {
  const { kind, ended, member: { session, name } } = arrival;
  // The hub has a restored room among the session's places, and would bring it back with the next resume.
  const isPlaced = kind === "restored" && ended !== null && session.state === "ready" && memberOf(session, name) === null;
  if (isPlaced) writeUnplaced(context.link, session.slot, session.life, name);
  answerBoth(context, arrival, frame);
}

/** Unasked: the node has ended the membership, or could not restore it. */
export function sendGone(context: Context, session: Session, name: string, reason: Evicted | ""): void {
  sendFrame(context, session, { id: 0, left: { room: name, ...(reason !== "" && { reason }) } });
}

export function sendLeft(context: Context, member: Member, id: number): void {
  if (id !== 0) sendFrame(context, member.session, { id, left: { room: member.name } });
}

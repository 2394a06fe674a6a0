/** What a client learns of a membership that ends. */
import type { Context } from "../context.ts";
import { refuse, sendBytes, sendFrame } from "../outgoing.ts";
import type { Arrival, Evicted, Member, Session } from "../session/session.ts";

/** Sends the hub's answer to a join, then the answer to the leave that overtook it. */
export function answerBoth(context: Context, { member, ended, id, leaveId }: Arrival, frame: Uint8Array): void {
  if (ended === null) return; // the socket is gone
  if (ended === "full") return refuse(context, member.session, id, "too_many_rooms");
  sendBytes(context, member.session, frame);
  if (ended === "left") sendLeft(context, member, leaveId);
  else sendGone(context, member.session, member.name, ended);
}

/** Unasked: the node has ended the membership, or could not restore it. */
export function sendGone(context: Context, session: Session, name: string, reason: Evicted | ""): void {
  sendFrame(context, session, { id: 0, left: { room: name, ...(reason !== "" && { reason }) } });
}

export function sendLeft(context: Context, member: Member, id: number): void {
  if (id !== 0) sendFrame(context, member.session, { id, left: { room: member.name } });
}

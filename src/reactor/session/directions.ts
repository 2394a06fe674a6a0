/** Tells clients where to go: the instruction `reconnect`, with the URL of the node that their user belongs on. */
import { userTag } from "../../auth/placetickets.ts";
import type { Grant } from "../../auth/grants.ts";
import type { Context } from "../context.ts";
import { noSlot } from "../locate/slots.ts";
import type { Target } from "../locate/targets.ts";
import { closeSession, sendFrame } from "../outgoing.ts";
import type { Session } from "./session.ts";

/** Where nobody serves a user, the client tries again after this time, and up to as much more. */
const againMs = 500;
const againSpreadMs = 1_500;

/** Whether this client could connect there. */
export function isUsable({ targets }: Pick<Context, "targets">, session: Session, target: Target): boolean {
  return targets.takes(target) && urlFor(session, target) !== "";
}

function urlFor({ socket }: Session, { node }: Target): string {
  return socket?.isTcp === true ? node.tcpUrl : node.url;
}

/** The instruction to go there. Null: too many clients are on their way. @param hops times that it will have been sent on */
export function reconnectTo({ placeTickets }: Pick<Context, "placeTickets">, session: Session, target: Target, { tenant, user }: Grant, hops: number, isReturning: boolean): { reason: string; delayMs: number; url: string } | null {
  const delayMs = target.slots.take(isReturning, performance.now());
  if (delayMs === noSlot) return null;
  const ticket = placeTickets.make(target.tag, userTag(tenant, user), delayMs, hops, isReturning);
  return { reason: "moved", delayMs, url: withPlace(urlFor(session, target), target.node.id, ticket) };
}

/** Where a client goes that leaves this node in its turn. Empty: its user belongs on no other node that it could use. */
export function urlOfOwner({ placement, targets, placeTickets }: Context, session: Session): string {
  if (placement.mode === "any" || session.grant === null) return "";
  const { tenant, user } = session.grant;
  const target = targets.owner(tenant, user);
  if (target === null || target.isSelf || !isUsable({ targets }, session, target)) return "";
  return withPlace(urlFor(session, target), target.node.id, placeTickets.make(target.tag, userTag(tenant, user), 0, 1, true));
}

/** Nobody is known to serve the user now: the client comes again soon. */
export function tellToWait(context: Context, session: Session): void {
  context.counters.add("toldToWait", 1);
  sendFrame(context, session, { id: 0, reconnect: { reason: "wait", delayMs: againMs + Math.floor(Math.random() * againSpreadMs), url: "" } });
  closeSession(context, session, "overloaded", "no node holds the user's partition now");
}

/** Ends a session whose user this node may not serve any more: at once, to whichever node does. */
export function sendOff(context: Context, session: Session): void {
  const { placement, targets, counters } = context;
  if (session.grant === null || session.socket === null || session.state === "closing") return;
  const { tenant, user } = session.grant;
  const target = targets.owner(tenant, user);
  const isElsewhere = target !== null && !target.isSelf && placement.mode !== "any" && isUsable(context, session, target);
  const reconnect = isElsewhere ? reconnectTo(context, session, target, session.grant, 1, true) : null;
  if (reconnect === null) return tellToWait(context, session);
  counters.add("moved", 1);
  sendFrame(context, session, { id: 0, reconnect });
  closeSession(context, session, "moved");
}

/** `node` is for balancers, which send the client there before anything else. */
function withPlace(url: string, node: string, ticket: string): string {
  const [address = "", fragment] = url.split("#");
  return `${address}${address.includes("?") ? "&" : "?"}node=${encodeURIComponent(node)}&ticket=${ticket}${fragment === undefined ? "" : `#${fragment}`}`;
}

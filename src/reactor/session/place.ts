/**
 * Whether a user is served by this node, where each user belongs on one node. Else the client is sent there: it gets
 * `reconnect` with the URL of that node, and is closed with 3002. A refused upgrade, or a close alone, could not tell a
 * browser where to go.
 *
 * The URL carries a ticket, so that nobody is sent to and fro by nodes that disagree for a moment. The node that a
 * ticket names serves its user. Any node serves a client that was sent on twice and still did not arrive, for example
 * behind a balancer that does not obey the URL.
 *
 * With `--placement partition` the owner is the node that holds the user's partition by a lease, and no other node ever
 * serves the user. Where none does now, or the client does not arrive there, it is told to wait and come again.
 */
import { placeTag, userTag } from "../../auth/placetickets.ts";
import type { Grant } from "../../auth/grants.ts";
import type { CounterName } from "../../link/counters.ts";
import { randomId } from "../../platform/ids.ts";
import type { PlacementView } from "../../placement/view.ts";
import type { Target } from "../locate/targets.ts";
import { closeSession, sendFrame } from "../outgoing.ts";
import type { Reactor } from "../reactor.ts";
import { isUsable, reconnectTo, tellToWait } from "./directions.ts";
import type { Session } from "./session.ts";

const hopsMax = 2;
export const anonymousPrefix = "anon-";
/** A node that owns one partition of many tries so many names for each of them. */
const triesPerPartition = 20;

export interface Asking {
  readonly ticket: string;
  readonly grant: Grant;
  /** The client resumes a session: it goes before those that come for the first time. */
  readonly isReturning: boolean;
}

/** Calls `serve` where the user is served here, maybe after a look at the owner. Else the session is closed. */
export function place(reactor: Reactor, session: Session, asking: Asking, serve: () => void): void {
  const { placement, counters, looks } = reactor;
  if (placement.mode === "any") return serve();
  if (placement.mode === "partition") return placeWithHolder(reactor, session, asking, serve);
  const { tenant, user } = asking.grant;
  const target = reactor.targets.belonging(tenant, user);
  if (target?.isSelf === true) return serve();
  const serveAnyway = (reason: CounterName) => {
    counters.add(reason, 1);
    serve();
  };
  if (target === undefined) return serveAnyway("servedUnknown");
  const { hops, isMeant } = readTicket(reactor, asking);
  if (isMeant) return serveAnyway("servedByTicket");
  if (hops >= hopsMax) {
    reactor.moves.strand(session);
    return serveAnyway("servedAfterHops");
  }
  if (!isUsable(reactor, session, target)) return serveAnyway("servedUnreachable");
  const { life } = session;
  // It may have died a moment ago, and be known to be down only later.
  looks.look(target.node.id, () => {
    if (session.life !== life || session.state !== "handshake" || session.socket === null) return;
    if (reactor.targets.takes(target)) sendOn(reactor, session, target, asking, hops);
    else serveAnyway("servedUnreachable");
  });
}

/** Only the holder of the partition ever serves the user. */
function placeWithHolder(reactor: Reactor, session: Session, asking: Asking, serve: () => void): void {
  const { placement, holdings, targets, looks, early } = reactor;
  const { tenant, user } = asking.grant;
  const partition = placement.partitionOf(tenant, user);
  if (holdings.allows(partition)) return serve();
  const target = targets.belonging(tenant, user);
  const { hops, isMeant } = readTicket(reactor, asking);
  // It was sent here, or this node is about to hold the partition.
  if (target?.isSelf === true || isMeant) return early.hold(session, partition, serve);
  if (target === undefined || hops >= hopsMax || !isUsable(reactor, session, target)) return tellToWait(reactor, session);
  const { life } = session;
  looks.look(target.node.id, () => {
    if (session.life !== life || session.state !== "handshake" || session.socket === null) return;
    if (targets.takes(target)) sendOn(reactor, session, target, asking, hops);
    else tellToWait(reactor, session);
  });
}

/** `isMeant`: a node has sent this user to this node. */
function readTicket({ placeTickets, config }: Reactor, { ticket, grant: { tenant, user } }: Asking): { hops: number; isMeant: boolean } {
  const read = ticket === "" ? null : placeTickets.read(ticket);
  if (read === null) return { hops: 0, isMeant: false };
  // A ticket for nobody in particular, or for another user, says nothing about where this user belongs.
  return { hops: read.hops, isMeant: read.user === userTag(tenant, user) && read.node === placeTag(config.nodeId) };
}

function sendOn(reactor: Reactor, session: Session, target: Target, { grant, isReturning }: Asking, hops: number): void {
  const reconnect = reconnectTo(reactor, session, target, grant, hops + 1, isReturning);
  if (reconnect === null) return closeSession(reactor, session, "overloaded");
  reactor.counters.add("sentOn", 1);
  sendFrame(reactor, session, { id: 0, reconnect });
  closeSession(reactor, session, "moved", `user of node ${target.node.id}`);
}

/** A user that belongs on this node, if any does: nobody else has used the name before. */
export function anonymousUser(placement: PlacementView): string {
  const name = `${anonymousPrefix}${randomId(6)}`;
  if (placement.mode === "any" || placement.owned === 0) return name;
  const tries = Math.ceil((triesPerPartition * placement.partitions) / placement.owned);
  let user = name;
  for (let i = 0; i < tries && placement.ownerOf("", user) !== placement.self; i++) user = `${name}${i.toString(36)}`;
  return user;
}

/** One function per command of a ready session. Each validates, acts and answers. None awaits or throws. */
import { allows } from "../auth/grants.ts";
import type { ErrorCode } from "../errors.ts";
import { slots } from "../link/counters.ts";
import { writePublish } from "../link/publications.ts";
import { writeHistory } from "../link/records.ts";
import { writeAck } from "../link/sessions.ts";
import { formats } from "../protocol/formats/formats.ts";
import { keyCharsMax } from "../protocol/limits.ts";
import { Format, type ClientFrame, type Position } from "../protocol/messages.ts";
import { inboxKey, inboxName, isApplicationKey, roomKey, senderKey } from "../protocol/roomkeys.ts";
import { nameBytesMax, nameProblem, roomNameProblem } from "../config/roomnames.ts";
import { askJoin, askPublish } from "./hooks/commands.ts";
import { closeSession, refuse, sendFrame } from "./outgoing.ts";
import { keyOf } from "./names.ts";
import { payloadProblem } from "./payload.ts";
import type { Reactor } from "./reactor.ts";
import { countMembers, isAssigned, memberOf, type Session } from "./session/session.ts";

type Fields<K extends keyof ClientFrame> = NonNullable<ClientFrame[K]>;

const noBytes = new Uint8Array(0);
/**
 * While the node drains, new publishes are refused. A session closes when its commands are answered, and one that kept
 * publishing would never close.
 */
const leaving = "the node has asked this session to reconnect: reconnect, then send again";
/** The node writes JSON data again in its shortest form. A number like 1e20 gets longer by that. */
const grown = "data: exceeds the frame limit when re-encoded";

/**
 * @param isDecided by the application's backend
 * @param ahead hello is not answered yet
 */
export function join(reactor: Reactor, session: Session, id: number, fields: Fields<"join">, isDecided = false, ahead = false): void {
  const room = fields.room ?? "";
  const problem = roomNameProblem(room, reactor.config.roomNameBytesMax) ?? positionProblem("recover", fields.recover);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  const kind = reactor.kindOf(room);
  if (kind === null) return refuse(reactor, session, id, "unknown_namespace");
  const assigned = isAssigned(session, room);
  if (room !== inboxName && !assigned && !allows(session.grant!, "join", room)) return refuse(reactor, session, id, "forbidden");
  const member = memberOf(session, room);
  // One join of the client at a time.
  const isAsked = member?.state === "joining" && member.arrival?.kind === "asked";
  if (member !== null && (!assigned || isAsked)) return refuse(reactor, session, id, "already_joined");
  if (member === null && countMembers(session) >= roomsMax(reactor, session)) return refuse(reactor, session, id, "too_many_rooms");
  if (kind.asksJoin && !isDecided && !assigned) return askJoin(reactor, session, id, room, () => join(reactor, session, id, fields, true));
  const recover = fields.recover ?? null;
  const epoch = recover === null ? null : (recover.epoch ?? "");
  const wanted = { id, name: room, epoch, seq: recover?.seq ?? 0, history: fields.history ?? 0, kind: "asked", ahead } as const;
  // The application has joined the client before it could ask: it joins again, with the position and history it wants.
  if (member !== null && !reactor.link.congested) reactor.rooms.leave(session, member, 0);
  if (!reactor.rooms.join(session, wanted)) refuse(reactor, session, id, "overloaded");
}

/** Rooms the session may be in, its inbox included. */
export function roomsMax(reactor: Reactor, session: Session): number {
  return session.grant!.roomsMax ?? reactor.config.roomsPerSessionMax;
}

export function leave(reactor: Reactor, session: Session, id: number, { room = "" }: Fields<"leave">): void {
  const member = memberOf(session, room ?? "");
  if (member === null) return refuse(reactor, session, id, "not_joined");
  reactor.rooms.leave(session, member, id);
}

/** @param isDecided by the application's backend */
export function publish(reactor: Reactor, session: Session, id: number, fields: Fields<"publish">, isDecided = false): void {
  if (!isDecided && reactor.leaving.has(session)) return refuse(reactor, session, id, "unavailable", leaving);
  const room = fields.room ?? "";
  const key = fields.key ?? "";
  const payload = fields.payload ?? noBytes;
  const format = fields.format ?? Format.BINARY;
  const member = memberOf(session, room);
  const kind = reactor.kindOf(room);
  if (kind === null) return refuse(reactor, session, id, "unknown_namespace");
  if (kind.publish === "nobody") return refuse(reactor, session, id, "forbidden");
  if (!(member?.mayPublish ?? allows(session.grant!, "publish", room))) return refuse(reactor, session, id, "forbidden");
  if (member === null) {
    if (kind.publish === "members") return refuse(reactor, session, id, "not_joined");
    const problem = roomNameProblem(room, reactor.config.roomNameBytesMax);
    if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  }
  if (!isFit(reactor, session, id, payload, format, key)) return;
  if (kind.asksPublish && !isDecided) {
    return askPublish(reactor, session, id, { room, key, payload, format }, (changed, changedFormat) => publish(reactor, session, id, { ...fields, payload: changed, format: changedFormat }, true));
  }
  const { slot, life, wire, grant } = session;
  const handle = member?.room?.handle ?? 0;
  const name = handle === 0 ? roomKey(grant!.tenant, room) : "";
  const excludeSelf = fields.excludeSelf === true;
  if (!writePublish(reactor.link, slot, life, id, wire, handle, name, grant!.user, key, format, excludeSelf, false, payload)) {
    return refuse(reactor, session, id, "overloaded");
  }
  reactor.counters.addAt(slots.publishes, 1);
}

/** A direct message: a publication in the inbox of another user of the tenant. */
export function send(reactor: Reactor, session: Session, id: number, fields: Fields<"send">): void {
  if (reactor.leaving.has(session)) return refuse(reactor, session, id, "unavailable", leaving);
  const user = fields.user ?? "";
  const key = fields.key ?? "";
  const payload = fields.payload ?? noBytes;
  const format = fields.format ?? Format.BINARY;
  const { slot, life, wire, grant } = session;
  if (!grant!.send) return refuse(reactor, session, id, "forbidden", "the token does not allow direct messages");
  const problem = nameProblem("user", user, nameBytesMax);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  if (!isFit(reactor, session, id, payload, format, key)) return;
  const inbox = inboxKey(grant!.tenant, user);
  // A key belongs to its sender. Another user's message with the same key is not a repetition of this one.
  const ownKey = key === "" ? "" : senderKey(grant!.user, key);
  if (!writePublish(reactor.link, slot, life, id, wire, 0, inbox, grant!.user, ownKey, format, false, true, payload)) {
    return refuse(reactor, session, id, "overloaded");
  }
  reactor.counters.addAt(slots.publishes, 1);
}

/** @returns false when the payload or the key was refused. */
function isFit(reactor: Reactor, session: Session, id: number, payload: Uint8Array, format: number, key: string): boolean {
  if (payload.length > reactor.config.frameBytesMax) {
    refuse(reactor, session, id, "too_large", grown);
    return false;
  }
  const problem = payloadProblem(payload, format, formats[session.wire]!.parsesPayloads) ?? keyProblem(key);
  if (problem !== null) refuse(reactor, session, id, "bad_request", problem);
  return problem === null;
}

function keyProblem(key: string): string | null {
  if (key.length > keyCharsMax) return `key: at most ${keyCharsMax} characters`;
  return isApplicationKey(key) ? "key: may not begin with a control character" : null;
}

/** @returns whether it is on its way to the hub, which answers only if it refuses it. Otherwise it was refused here. */
export function ack(reactor: Reactor, session: Session, id: number, { position }: Fields<"ack">): boolean {
  const refused = (code: ErrorCode, text?: string): false => {
    refuse(reactor, session, id, code, text);
    return false;
  };
  if (memberOf(session, inboxName) === null) return refused("not_joined");
  if (position == null) return refused("bad_request", "position: required");
  const problem = positionProblem("position", position);
  if (problem !== null) return refused("bad_request", problem);
  const { slot, life, wire } = session;
  return writeAck(reactor.link, { slot, life, id, wire }, position.epoch ?? "", position.seq ?? 0) || refused("overloaded");
}

/** Ends the session with its socket: it cannot be resumed. */
export function bye(reactor: Reactor, session: Session): void {
  session.over = true;
  closeSession(reactor, session, "bye");
}

export function history(reactor: Reactor, session: Session, id: number, fields: Fields<"history">): void {
  const room = fields.room ?? "";
  const since = fields.since ?? null;
  const before = fields.before ?? null;
  const both = since !== null && before !== null ? "since, before: set only one" : null;
  const problem = both ?? positionProblem("since", since) ?? positionProblem("before", before);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  if (memberOf(session, room) === null) return refuse(reactor, session, id, "not_joined");
  if (room !== inboxName && !allows(session.grant!, "history", room)) return refuse(reactor, session, id, "forbidden");
  const direction = since !== null ? "since" : before !== null ? "before" : "newest";
  const { epoch, seq } = since ?? before ?? {};
  const { slot, life, wire } = session;
  const limit = fields.limit ?? 0;
  const orOldest = since !== null && fields.orOldest === true;
  const query = { slot, life, id, wire, room: keyOf(session, room), direction, epoch: epoch ?? "", seq: seq ?? 0, limit, orOldest } as const;
  if (!writeHistory(reactor.link, query)) refuse(reactor, session, id, "overloaded");
}

export function ping(reactor: Reactor, session: Session, id: number, { time }: Fields<"ping">): void {
  sendFrame(reactor, session, { id, pong: { time: time ?? 0, serverTime: Date.now() } });
}

export function echo(reactor: Reactor, session: Session, id: number, fields: Fields<"echo">): void {
  const payload = fields.payload ?? noBytes;
  const format = fields.format ?? Format.BINARY;
  if (payload.length > reactor.config.frameBytesMax) return refuse(reactor, session, id, "too_large", grown);
  const problem = payloadProblem(payload, format, formats[session.wire]!.parsesPayloads);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  sendFrame(reactor, session, { id, echo: { payload, format } });
}

export function positionProblem(field: string, position: Position | null | undefined): string | null {
  if (position == null) return null;
  return (position.epoch ?? "").length > keyCharsMax ? `${field}.epoch: at most ${keyCharsMax} characters` : null;
}

/** One function per command: validate, act, answer. They return; nothing here awaits or throws. */
import { randomId } from "../ids.ts";
import { writeHistory, writePublish } from "../link/records.ts";
import { Format, protocolVersion, type ClientFrame, type Position } from "../protocol/messages.ts";
import { roomNameProblem } from "../roomnames.ts";
import { closeSession, refuse, sendFrame } from "./outgoing.ts";
import { payloadProblem } from "./payload.ts";
import type { Reactor } from "./reactor.ts";
import type { Member, Session } from "./session.ts";

type Fields<K extends keyof ClientFrame> = NonNullable<ClientFrame[K]>;

/** Bytes of an idempotency key: twice a UUID and room for a prefix. */
const keyCharsMax = 128;
const noBytes = new Uint8Array(0);
/** JSON is written again in its shortest form, which for a number like 1e20 is the longer one. */
const grown = "data: larger than a frame when written out";

export function hello(reactor: Reactor, session: Session, id: number, { version }: Fields<"hello">): void {
  const { config, sessions } = reactor;
  if (version !== protocolVersion) return closeSession(reactor, session, "unsupported_version");
  session.id = randomId(16);
  session.user = `anon-${randomId(6)}`;
  sessions.setState(session, "ready");
  reactor.heartbeat.heard(session);
  sendFrame(reactor, session, {
    id,
    ready: {
      session: session.id,
      user: session.user,
      node: config.nodeId,
      version: protocolVersion,
      time: Date.now(),
      heartbeatMs: config.heartbeatMs,
      maxFrameBytes: config.frameBytesMax,
      maxRooms: config.roomsPerSessionMax,
      maxRoomNameBytes: config.roomNameBytesMax,
      commandsPerSecond: config.commandsPerSecond,
    },
  });
}

export function join(reactor: Reactor, session: Session, id: number, fields: Fields<"join">): void {
  const room = fields.room ?? "";
  const problem = roomNameProblem(room, reactor.config.roomNameBytesMax) ?? positionProblem("recover", fields.recover);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  if (reactor.kindOf(room) === null) return refuse(reactor, session, id, "unknown_namespace");
  if (memberOf(session, room) !== null) return refuse(reactor, session, id, "already_joined");
  if (session.members.length >= reactor.config.roomsPerSessionMax) {
    return refuse(reactor, session, id, "too_many_rooms");
  }
  const recover = fields.recover ?? null;
  const asked = { epoch: recover === null ? null : (recover.epoch ?? ""), seq: recover?.seq ?? 0 };
  const wanted = { id, room, ...asked, history: fields.history ?? 0 };
  if (!reactor.rooms.join(session, wanted)) refuse(reactor, session, id, "overloaded");
}

export function leave(reactor: Reactor, session: Session, id: number, { room = "" }: Fields<"leave">): void {
  const member = memberOf(session, room ?? "");
  if (member === null) return refuse(reactor, session, id, "not_joined");
  reactor.rooms.leave(session, member, id);
}

export function publish(reactor: Reactor, session: Session, id: number, fields: Fields<"publish">): void {
  const room = fields.room ?? "";
  const key = fields.key ?? "";
  const payload = fields.payload ?? noBytes;
  const format = fields.format ?? Format.BINARY;
  const member = memberOf(session, room);
  const kind = reactor.kindOf(room);
  if (kind === null) return refuse(reactor, session, id, "unknown_namespace");
  if (kind.publish === "nobody") return refuse(reactor, session, id, "forbidden");
  if (member === null) {
    if (kind.publish === "members") return refuse(reactor, session, id, "not_joined");
    const problem = roomNameProblem(room, reactor.config.roomNameBytesMax);
    if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  }
  if (payload.length > reactor.config.frameBytesMax) return refuse(reactor, session, id, "too_large", grown);
  const problem = payloadProblem(payload, format, session.json);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  if (key.length > keyCharsMax) {
    return refuse(reactor, session, id, "bad_request", `key: at most ${keyCharsMax} characters`);
  }
  const { slot, life, json, user } = session;
  const handle = member?.room?.handle ?? 0;
  const name = handle === 0 ? room : "";
  const excludeSelf = fields.excludeSelf === true;
  if (!writePublish(reactor.link, slot, life, id, json, handle, name, user, key, format, excludeSelf, payload)) {
    return refuse(reactor, session, id, "overloaded");
  }
  reactor.counters.add("publishes", 1);
}

export function history(reactor: Reactor, session: Session, id: number, fields: Fields<"history">): void {
  const room = fields.room ?? "";
  const since = fields.since ?? null;
  const before = fields.before ?? null;
  const both = since !== null && before !== null ? "since, before: only one of them" : null;
  const problem = both ?? positionProblem("since", since) ?? positionProblem("before", before);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  if (memberOf(session, room) === null) return refuse(reactor, session, id, "not_joined");
  const direction = since !== null ? "since" : before !== null ? "before" : "newest";
  const { epoch, seq } = since ?? before ?? {};
  const { slot, life, json } = session;
  const limit = fields.limit ?? 0;
  const query = { slot, life, id, json, room, direction, epoch: epoch ?? "", seq: seq ?? 0, limit } as const;
  if (!writeHistory(reactor.link, query)) refuse(reactor, session, id, "overloaded");
}

export function ping(reactor: Reactor, session: Session, id: number, { time }: Fields<"ping">): void {
  sendFrame(reactor, session, { id, pong: { time: time ?? 0, serverTime: Date.now() } });
}

export function echo(reactor: Reactor, session: Session, id: number, fields: Fields<"echo">): void {
  const payload = fields.payload ?? noBytes;
  const format = fields.format ?? Format.BINARY;
  if (payload.length > reactor.config.frameBytesMax) return refuse(reactor, session, id, "too_large", grown);
  const problem = payloadProblem(payload, format, session.json);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  sendFrame(reactor, session, { id, echo: { payload, format } });
}

/** The session's place in a room, on its way in or there. */
function memberOf(session: Session, room: string): Member | null {
  for (const member of session.members) if (member.name === room) return member;
  return null;
}

function positionProblem(field: string, position: Position | null | undefined): string | null {
  if (position == null) return null;
  return (position.epoch ?? "").length > keyCharsMax ? `${field}.epoch: at most ${keyCharsMax} characters` : null;
}

/**
 * From hello to ready. The reactor verifies the token, and caches the result. Then it asks the hub, which knows the
 * user's other sessions and the store of sessions to resume. Meanwhile the client's frames wait in order.
 */
import type { Verdict } from "../../auth/verifier.ts";
import type { ErrorCode } from "../../errors.ts";
import { allows, anonymous, type Grant } from "../../auth/grants.ts";
import type { RecordReader } from "../../link/link.ts";
import { readAdmitted, readKick, writeHello, writeUnplaced, type AdmittedRecord, type PlaceInRoom } from "../../link/sessions.ts";
import { protocolVersion, type ClientFrame } from "../../protocol/messages.ts";
import type { ResumeClaims } from "../../auth/resume.ts";
import { inboxName, userKey } from "../../protocol/roomkeys.ts";
import { nameProblem, roomNameProblem } from "../../config/roomnames.ts";
import { positionProblem, roomsMax } from "../commands.ts";
import { joinAssigned } from "./assigned.ts";
import { warningAt } from "./expiry.ts";
import { anonymousPrefix, anonymousUser, place } from "./place.ts";
import { closeSession, refuse, sendFrame } from "../outgoing.ts";
import type { Reactor } from "../reactor.ts";
import { sendGone } from "../rooms/rooms.ts";
import { countMembers, isAssigned, membersOf, type Early, type Session } from "./session.ts";

type Hello = NonNullable<ClientFrame["hello"]>;
type Refresh = NonNullable<ClientFrame["refresh"]>;

/** Frames that may wait behind hello. */
const earlyFramesMax = 64;
const deviceBytesMax = 128;
/**
 * Shared by all, since most clients send no frame there, or one. V8 allocates room for seventeen elements on the first
 * push to an empty array.
 */
const nothing: Early[] = [];

export function hello(reactor: Reactor, session: Session, id: number, fields: Hello): void {
  if (fields.version !== protocolVersion) return closeSession(reactor, session, "unsupported_version", `hello.version: ${fields.version ?? 0} is not supported: this node speaks ${protocolVersion}`);
  const device = fields.device ?? "";
  if (device !== "" && nameProblem("device", device, deviceBytesMax) !== null) return closeSession(reactor, session, "bad_frame");
  const token = fields.token || session.token;
  session.token = "";
  session.greeting = { id, client: fields.client ?? "", early: nothing, earlyBytes: 0 };
  const claims = resumeClaims(reactor, fields);
  const { verifier } = reactor;
  if (verifier === null || token === "") return withoutToken(reactor, session, fields, claims);
  const verdict = verifier.verify(token, claims?.grant);
  if (!(verdict instanceof Promise)) return onVerdict(reactor, session, fields, claims, verdict);
  const { life } = session;
  // The frame's bytes are gone by then. Its strings and numbers are copies.
  void verdict.then((late) => {
    if (session.life !== life || session.state !== "handshake" || session.socket === null) return;
    onVerdict(reactor, session, fields, claims, late);
  });
}

function onVerdict(reactor: Reactor, session: Session, fields: Hello, claims: ResumeClaims | null, verdict: Verdict): void {
  if ("grant" in verdict) return introduce(reactor, session, fields, claims, verdict.grant, true);
  reactor.counters.add("tokensRefused", 1);
  closeSession(reactor, session, verdict.refused === "unavailable" ? "overloaded" : verdict.refused, verdict.text);
}

/** The claims of the resume token, if this gateway made the token for this session. */
function resumeClaims(reactor: Reactor, { resume }: Hello): ResumeClaims | null {
  if (resume == null) return null;
  const claims = reactor.resumeTokens.read(resume.token ?? "");
  return claims !== null && claims.session === resume.session ? claims : null;
}

/**
 * Without a token, the resume token stands for the one that its session had. It does so until that one expires, and for
 * that session only.
 */
function withoutToken(reactor: Reactor, session: Session, fields: Hello, claims: ResumeClaims | null): void {
  const anybody = reactor.verifier === null || reactor.config.allowAnonymous;
  const isOver = claims !== null && claims.grant.expiresAt !== 0 && claims.grant.expiresAt <= Date.now();
  if (isOver && reactor.verifier !== null) return closeSession(reactor, session, "token_expired");
  if (claims !== null && !isOver) {
    return introduce(reactor, session, fields, claims, claims.grant, anybody && isAnonymous(claims.grant));
  }
  if (!anybody) return closeSession(reactor, session, "invalid_token", claims === null ? "token: missing" : "resume token: expired");
  introduce(reactor, session, fields, null, anonymous(anonymousUser(reactor.placement)), true);
}

/** Forging such a grant gains nothing: every anonymous client gets the same. */
function isAnonymous({ user, tenant, expiresAt, rooms }: Grant): boolean {
  return user.startsWith(anonymousPrefix) && tenant === "" && expiresAt === 0 && rooms === null;
}

/**
 * @param mayBegin whether a session that cannot be resumed may begin again as a new one. A resume token alone does not
 * allow it.
 */
function introduce(
  reactor: Reactor,
  session: Session,
  fields: Hello,
  claims: ResumeClaims | null,
  grant: Grant,
  mayBegin: boolean,
): void {
  const ticket = fields.ticket || session.ticket;
  session.ticket = "";
  place(reactor, session, { ticket, grant, isReturning: claims !== null }, () => serve(reactor, session, fields, claims, grant, mayBegin));
}

/** The user may be served here: asks the hub. */
function serve(reactor: Reactor, session: Session, fields: Hello, claims: ResumeClaims | null, grant: Grant, mayBegin: boolean): void {
  session.grant = grant;
  const { slot, life, wire } = session;
  const { user, tenant, issuedAt } = grant;
  // Another user's session is never resumed, even with a valid resume token.
  const isOwn = claims !== null && claims.grant.user === user && claims.grant.tenant === tenant;
  const resume = isOwn ? claims.session : "";
  const resumeIssuedAt = isOwn ? claims.grant.issuedAt : 0;
  const resumeGeneration = isOwn ? claims.generation : 0;
  const positions = isOwn ? placesOf(reactor, session, fields) : [];
  const device = fields.device ?? "";
  const key = userKey(tenant, user);
  const record = { slot, life, wire, user: key, device, issuedAt, mayBegin, resume, resumeIssuedAt, resumeGeneration, positions };
  if (reactor.outOfMemory() || !writeHello(reactor.link, record)) closeSession(reactor, session, "overloaded");
}

/** At most as many places as the session may have rooms. An unreadable place is skipped like one that was not sent. */
function placesOf(reactor: Reactor, session: Session, { resume }: Hello): PlaceInRoom[] {
  const places: PlaceInRoom[] = [];
  for (const { room, position } of resume?.positions ?? []) {
    if (places.length >= roomsMax(reactor, session)) break;
    // A control character in a name would turn it into another tenant's key.
    if (!room || position == null || roomNameProblem(room, reactor.config.roomNameBytesMax) !== null) continue;
    if (positionProblem("position", position) !== null) continue;
    places.push({ name: room, epoch: position.epoch ?? "", seq: position.seq ?? 0 });
  }
  return places;
}

/** Keeps a frame that came before the answer to hello. The frame's bytes must be its own. */
export function keepEarly(reactor: Reactor, session: Session, frame: Early, bytes: number): void {
  const greeting = session.greeting!;
  if (greeting.early === nothing) greeting.early = [frame];
  else greeting.early.push(frame);
  greeting.earlyBytes += bytes;
  if (greeting.early.length > earlyFramesMax || greeting.earlyBytes > reactor.config.frameBytesMax) {
    closeSession(reactor, session, "rate_limited");
  }
}

// ------------------------------------------------------------------------------- the hub's answer

/** @returns the frames that waited behind hello, to be dispatched now. */
export function onAdmitted(reactor: Reactor, record: RecordReader): { session: Session; early: readonly Early[] } | null {
  const admitted = readAdmitted(record);
  const session = reactor.sessions.find(admitted.slot, admitted.life);
  if (session === null || session.state !== "handshake" || session.greeting === null) return null;
  const { id, client, early } = session.greeting;
  session.greeting = null;
  session.id = admitted.session;
  session.generation = admitted.generation;
  reactor.sessions.tokenDueAt[session.slot] = warningAt(session.grant!, reactor.config.tokenWarningMs);
  reactor.sessions.setState(session, "ready");
  reactor.heartbeat.heard(session);
  reactor.greeted?.(session, client, admitted.resumed);
  if (admitted.assigned.length > 0) session.assigned = new Set(admitted.assigned);
  sendReady(reactor, session, id, admitted);
  reactor.moves.arrived(session);
  for (const place of admitted.rooms) restore(reactor, session, place);
  for (const room of admitted.assigned) joinAssigned(reactor, session, room);
  return { session, early };
}

function sendReady(reactor: Reactor, session: Session, id: number, { resumed, rooms, assigned, isUnread }: AdmittedRecord): void {
  const { config, resumeTokens, tickets, returnWindow } = reactor;
  const { user, expiresAt, commandsPerSecond } = session.grant!;
  const resumeToken = resumeTokens.make(session.id, session.generation, session.grant!);
  sendFrame(reactor, session, {
    id,
    ready: {
      session: session.id,
      user,
      node: config.nodeId,
      version: protocolVersion,
      time: Date.now(),
      heartbeatMs: config.heartbeatMs,
      maxFrameBytes: config.frameBytesMax,
      maxRooms: roomsMax(reactor, session),
      maxRoomNameBytes: config.roomNameBytesMax,
      commandsPerSecond: commandsPerSecond ?? config.commandsPerSecond,
      resumeToken,
      resumed,
      rooms: rooms.map(({ name }) => name),
      sessionTtlMs: config.sessionTtlMs,
      expires: expiresAt,
      ticket: tickets.make(),
      returnWindowMs: returnWindow.ms,
      returnPlace: returnWindow.nextPlace(),
      assigned: [...assigned],
      assignedUnread: isUnread,
    },
  });
}

/** Joins a resumed session to a room it was in, from its position there. */
function restore(reactor: Reactor, session: Session, { name, epoch, seq }: PlaceInRoom): void {
  if (session.state !== "ready") return;
  const isAllowed = mayBeIn(reactor, session, name);
  const wanted = { id: 0, name, epoch, seq, history: 0, kind: "restored" } as const;
  if (isAllowed && countMembers(session) < roomsMax(reactor, session) && reactor.rooms.join(session, wanted)) return;
  writeUnplaced(reactor.link, session.slot, session.life, name);
  sendGone(reactor, session, name, isAllowed ? "" : "forbidden");
}

export function onKick(reactor: Reactor, record: RecordReader): void {
  const { slot, life, name } = readKick(record);
  const session = reactor.sessions.find(slot, life);
  if (session === null || session.state === "closing") return;
  // Deliveries to its rooms until now are still for this session.
  reactor.rooms.deliveries.handOverAll(session);
  closeSession(reactor, session, name);
}

// ------------------------------------------------------------------------------- a new token

/** Takes a new token of the same user. The session leaves the rooms that the new token does not allow. */
export function refresh(reactor: Reactor, session: Session, id: number, { token }: Refresh): void {
  const { verifier } = reactor;
  if (verifier === null) return sendRefreshed(reactor, session, id);
  const { life } = session;
  const verdict = verifier.verify(token ?? "");
  if (!(verdict instanceof Promise)) return onRefresh(reactor, session, id, verdict);
  void verdict.then((late) => {
    if (session.life !== life || session.state !== "ready" || session.socket === null) return;
    onRefresh(reactor, session, id, late);
  });
}

function onRefresh(reactor: Reactor, session: Session, id: number, verdict: Verdict): void {
  if ("refused" in verdict) {
    reactor.counters.add("tokensRefused", 1);
    return refuseRefresh(reactor, session, id, verdict.refused === "unavailable" ? "unavailable" : "unauthorized", verdict.text);
  }
  const { grant } = verdict;
  const { user, tenant, issuedAt } = session.grant!;
  if (grant.user !== user || grant.tenant !== tenant) return refuseRefresh(reactor, session, id, "unauthorized", "token: belongs to another user");
  // Signing out ends sessions, and new sessions need newer tokens. An older token could be from before a sign-out.
  if (grant.issuedAt < issuedAt - reactor.config.authClockToleranceMs) {
    return refuseRefresh(reactor, session, id, "unauthorized", "token: older than the token in use");
  }
  // The session gets no second warning for the same expiry: the application has no longer token.
  if (grant.expiresAt !== session.grant!.expiresAt) {
    reactor.sessions.tokenDueAt[session.slot] = warningAt(grant, reactor.config.tokenWarningMs);
  }
  session.grant = grant;
  for (const member of membersOf(session)) {
    member.mayPublish = allows(grant, "publish", member.name);
    reactor.rooms.setPresence(member);
    if (mayBeIn(reactor, session, member.name)) continue;
    reactor.rooms.evict(session, member, "forbidden");
  }
  sendRefreshed(reactor, session, id);
}

/**
 * The session goes on with its present token and closes when that expires. The log names the reason, which nobody would
 * see otherwise.
 */
function refuseRefresh(reactor: Reactor, session: Session, id: number, code: ErrorCode, text: string): void {
  reactor.refusals.tell("refresh", text, "");
  refuse(reactor, session, id, code, text);
}

function sendRefreshed(reactor: Reactor, session: Session, id: number): void {
  const grant = session.grant!;
  const resumeToken = reactor.resumeTokens.make(session.id, session.generation, grant);
  sendFrame(reactor, session, { id, refreshed: { expires: grant.expiresAt, resumeToken } });
}

function mayBeIn(reactor: Reactor, session: Session, name: string): boolean {
  return reactor.kindOf(name) !== null && (name === inboxName || isAssigned(session, name) || allows(session.grant!, "join", name));
}


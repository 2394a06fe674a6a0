/**
 * From hello to ready. The reactor verifies the token, and caches the result. Then it asks the hub, which knows the
 * user's other sessions and the store of sessions to resume. Meanwhile the client's frames wait in order.
 */
import type { Verdict } from "../../auth/verifier.ts";
import type { ErrorCode } from "../../errors.ts";
import { allows, anonymous, asTokenGave, type Grant } from "../../auth/grants.ts";
import { hookRoomsBytesMax, hookRoomsMax } from "../../link/hooks.ts";
import type { RecordReader } from "../../link/link.ts";
import { readAdmitted, readKick, writeHello, writeUnplaced, type AdmittedRecord, type Decided, type PlaceInRoom } from "../../link/sessions.ts";
import { protocolVersion, type ClientFrame } from "../../protocol/messages.ts";
import type { ResumeClaims } from "../../auth/resume.ts";
import { inboxName, userKey } from "../../protocol/roomkeys.ts";
import { nameBytesMax, nameProblem, roomNameProblem } from "../../config/roomnames.ts";
import { positionProblem, roomsMax } from "../commands.ts";
import { followHello, settleAhead } from "./ahead.ts";
import { joinAssigned } from "./assigned.ts";
import { letGo, wait } from "./held.ts";
import { warningAt } from "./expiry.ts";
import { publicationsPerCommand, recoveryCost } from "./rate.ts";
import { anonymousPrefix, anonymousUser, place } from "./place.ts";
import { about, askRefresh } from "../hooks/commands.ts";
import { askConnect, decidedBefore } from "../hooks/connect.ts";
import { closeSession, refuse, sendFrame } from "../outgoing.ts";
import type { Released } from "../hooks/hooks.ts";
import type { Reactor } from "../reactor.ts";
import { sendGone } from "../rooms/endings.ts";
import { countMembers, isAssigned, memberOf, membersOf, type Session } from "./session.ts";

const noRooms: readonly string[] = [];
/** Of the verdict about a session that the connect hook has not decided on: it is asked about when it resumes. */
const aged = 1;

type Hello = NonNullable<ClientFrame["hello"]>;
type Refresh = NonNullable<ClientFrame["refresh"]>;

export function hello(reactor: Reactor, session: Session, id: number, fields: Hello): void {
  if (fields.version !== protocolVersion) return closeSession(reactor, session, "unsupported_version", `hello.version: ${fields.version ?? 0} is not supported: this node speaks ${protocolVersion}`);
  const device = fields.device ?? "";
  if (device !== "" && nameProblem("device", device, nameBytesMax) !== null) return closeSession(reactor, session, "bad_frame");
  const token = fields.token || session.token;
  session.token = "";
  wait(session, id, fields.client ?? "");
  const claims = resumeClaims(reactor, fields);
  const { verifier } = reactor;
  if (verifier === null || token === "") return withoutToken(reactor, session, fields, claims, token);
  const verdict = verifier.verify(token, claims === null ? undefined : asTokenGave(claims.grant));
  if (!(verdict instanceof Promise)) return onVerdict(reactor, session, fields, claims, verdict);
  const { life } = session;
  // The frame's bytes are gone by then. Its strings and numbers are copies.
  void verdict.then((late) => {
    if (session.life !== life || session.state !== "handshake" || session.socket === null) return;
    onVerdict(reactor, session, fields, claims, late);
  });
}

function onVerdict(reactor: Reactor, session: Session, fields: Hello, claims: ResumeClaims | null, verdict: Verdict): void {
  if ("grant" in verdict) return introduce(reactor, session, fields, { grant: verdict.grant, claims, token: "" }, true);
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
 * @param token that the node cannot read, since it has no keys; empty for none. The connect hook may
 */
function withoutToken(reactor: Reactor, session: Session, fields: Hello, claims: ResumeClaims | null, token: string): void {
  const anybody = reactor.verifier === null || reactor.config.allowAnonymous;
  const isOver = claims !== null && claims.grant.expiresAt !== 0 && claims.grant.expiresAt <= Date.now();
  if (isOver && reactor.verifier !== null) return closeSession(reactor, session, "token_expired");
  if (claims !== null && !isOver) {
    return introduce(reactor, session, fields, { grant: claims.grant, claims, token }, anybody && isAnonymous(claims.grant));
  }
  if (!anybody) return closeSession(reactor, session, "invalid_token", claims === null ? "token: missing" : "resume token: expired");
  introduce(reactor, session, fields, { grant: anonymous(anonymousUser(reactor.placement)), claims: null, token }, true);
}

/** Forging such a grant gains nothing: every anonymous client gets the same. */
function isAnonymous({ user, tenant, expiresAt, rooms }: Grant): boolean {
  return user.startsWith(anonymousPrefix) && tenant === "" && expiresAt === 0 && rooms === null;
}

/** Who comes: the grant of the token, the claims of the resume token, and a token that only the connect hook can read. */
interface Coming {
  readonly grant: Grant;
  readonly claims: ResumeClaims | null;
  readonly token: string;
}

/**
 * @param mayBegin whether a session that cannot be resumed may begin again as a new one. A resume token alone does not
 * allow it.
 */
function introduce(reactor: Reactor, session: Session, fields: Hello, coming: Coming, mayBegin: boolean): void {
  const before = reactor.hooks === null ? null : decidedBefore(coming);
  if (before !== null) return settle(reactor, session, fields, { ...coming, grant: before }, mayBegin, before.hook?.until === 0 ? "for the session" : "for a time");
  if (reactor.hooks?.asksConnect !== true) return settle(reactor, session, fields, coming, mayBegin, "now");
  // Without keys for tokens, the backend alone decides who may begin a session.
  const mayAfter = mayBegin || reactor.verifier === null;
  askConnect(reactor, session, { ...coming, device: fields.device ?? "" }, (decided) => settle(reactor, session, fields, { ...coming, grant: decided }, mayAfter, "now"));
}

/** Where the user is served. The backend's verdict may have named another user than the token. */
function settle(reactor: Reactor, session: Session, fields: Hello, { grant, claims }: Coming, mayBegin: boolean, decided: Decided): void {
  const ticket = fields.ticket || session.ticket;
  session.ticket = "";
  place(reactor, session, { ticket, grant, isReturning: claims !== null }, () => serve(reactor, session, fields, { grant, claims, token: "" }, mayBegin, decided));
}

/** The user may be served here: asks the hub. */
function serve(reactor: Reactor, session: Session, fields: Hello, { grant, claims }: Coming, mayBegin: boolean, decided: Decided): void {
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
  const record = { slot, life, wire, user: key, device, issuedAt, mayBegin, decided, resume, resumeIssuedAt, resumeGeneration, positions };
  if (reactor.outOfMemory() || !writeHello(reactor.link, record)) return closeSession(reactor, session, "overloaded");
  followHello(reactor, session, resume === "", positions);
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

// ------------------------------------------------------------------------------- the hub's answer

/** @returns the frames that waited behind hello, to be dispatched now. */
export function onAdmitted(reactor: Reactor, record: RecordReader): Released | null {
  const admitted = readAdmitted(record);
  const session = reactor.sessions.find(admitted.slot, admitted.life);
  if (session === null || session.state !== "handshake") return null;
  const held = letGo(reactor, session);
  if (held === null) return null;
  const { id, client } = held;
  session.id = admitted.session;
  session.generation = admitted.generation;
  reactor.sessions.tokenDueAt[session.slot] = warningAt(session.grant!, reactor.config.tokenWarningMs);
  reactor.sessions.setState(session, "ready");
  reactor.heartbeat.heard(session);
  reactor.greeted?.(session, client, admitted.resumed);
  reactor.trace?.greeted(session, client, admitted.resumed);
  const hooked = session.grant!.hook?.rooms ?? noRooms;
  if (admitted.assigned.length + hooked.length > 0) session.assigned = new Set([...admitted.assigned, ...hooked]);
  reactor.together.begin(session);
  sendReady(reactor, session, id, admitted);
  reactor.moves.arrived(session);
  if (held.ahead + held.restored > 0) settleAhead(reactor, session, admitted.rooms);
  for (const place of admitted.rooms) restore(reactor, session, place, admitted.isClaimed);
  if (session.assigned !== null) for (const room of [...session.assigned]) joinAssigned(reactor, session, room);
  return { session, held };
}

function sendReady(reactor: Reactor, session: Session, id: number, { resumed, rooms, isUnread }: AdmittedRecord): void {
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
      assigned: [...(session.assigned ?? noRooms)],
      assignedUnread: isUnread,
      bytesPerSecond: config.bytesPerSecond,
      publicationsPerCommand,
      recoveryCost,
    },
  });
}

/**
 * Joins a resumed session to a room it was in, from its position there. That is no new join: no hook is asked, unless
 * only the client says that it was in the room.
 */
function restore(reactor: Reactor, session: Session, place: PlaceInRoom, isClaimed: boolean): void {
  const { name: room } = place;
  if (session.state !== "ready" || memberOf(session, room) !== null) return;
  if (!isClaimed || reactor.kindOf(room)?.asksJoin !== true || isAssigned(session, room)) return bringBack(reactor, session, place);
  const isAsked = reactor.hooks!.ask(session, { ...about(session), hook: "join", room }, (verdict) => {
    // The client, or the application, has joined the session meanwhile.
    if (memberOf(session, room) !== null) return;
    if (verdict.kind === "allowed" || (verdict.kind === "unanswered" && verdict.isAllowed)) return bringBack(reactor, session, place);
    unplace(reactor, session, room, "forbidden");
  });
  if (!isAsked) unplace(reactor, session, room, "");
}

function bringBack(reactor: Reactor, session: Session, { name, epoch, seq }: PlaceInRoom): void {
  const isAllowed = mayBeIn(reactor, session, name);
  const wanted = { id: 0, name, epoch, seq, history: 0, kind: "restored" } as const;
  if (isAllowed && countMembers(session) < roomsMax(reactor, session) && reactor.rooms.join(session, wanted)) return;
  unplace(reactor, session, name, isAllowed ? "" : "forbidden");
}

function unplace(reactor: Reactor, session: Session, name: string, reason: "forbidden" | ""): void {
  writeUnplaced(reactor.link, session.slot, session.life, name);
  sendGone(reactor, session, name, reason);
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
  const { tenant, issuedAt } = session.grant!;
  const { user } = asTokenGave(session.grant!);
  if (grant.user !== user || grant.tenant !== tenant) return refuseRefresh(reactor, session, id, "unauthorized", "token: belongs to another user");
  // Signing out ends sessions, and new sessions need newer tokens. An older token could be from before a sign-out.
  if (grant.issuedAt < issuedAt - reactor.config.authClockToleranceMs) {
    return refuseRefresh(reactor, session, id, "unauthorized", "token: older than the token in use");
  }
  if (reactor.hooks?.asksRefresh !== true) return take(reactor, session, id, grant, noRooms);
  askRefresh(reactor, session, id, grant.tokenHash, (rooms) => take(reactor, session, id, grant, rooms));
}

/** @param rooms into which the refresh hook joins the session, besides those of the connect hook */
function take(reactor: Reactor, session: Session, id: number, token: Grant, rooms: readonly string[]): void {
  const { user, hook } = session.grant!;
  const named = rooms.length === 0 ? hook?.rooms ?? noRooms : bounded([...new Set([...rooms, ...(hook?.rooms ?? noRooms)])]);
  const grant: Grant = hook === null && named.length === 0 ? token : { ...token, user, hook: { from: token.user, until: hook?.until ?? aged, rooms: named } };
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
  for (const room of rooms) {
    (session.assigned ??= new Set()).add(room);
    joinAssigned(reactor, session, room);
  }
  sendRefreshed(reactor, session, id);
}

/** The first of them, as many as one verdict may name: they travel in the resume token. */
function bounded(rooms: readonly string[]): readonly string[] {
  let bytesLeft = hookRoomsBytesMax;
  return rooms.slice(0, hookRoomsMax).filter((room) => (bytesLeft -= Buffer.byteLength(room)) >= 0);
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


/** Records of clients and of their memberships in rooms, and the table of all sessions of a reactor. */
import type { Grant } from "../../auth/grants.ts";
import { formatSockets, type Counters } from "../../link/counters.ts";
import type { SplitFrame } from "../../protocol/framing.ts";
import type { BadFrame } from "../../protocol/formats/format.ts";
import type { ClientFrame } from "../../protocol/messages.ts";
import type { Audience, Socket } from "../transport/socket.ts";

/**
 * connecting: the socket is being upgraded. handshake: the client may only say hello. ready: it may do everything.
 * closing: nothing is read any more, queued bytes still leave. closed: the socket is gone.
 */
export type State = "connecting" | "handshake" | "ready" | "closing" | "closed";

/** Every field is set at creation, so that all sessions have one shape. */
export interface Session {
  /** Null before the upgrade and after the socket is gone: uWS objects must not be touched then. */
  socket: Socket | null;
  /** The sockets that one publish to the session's topics reaches. */
  readonly audience: Audience;
  state: State;
  /** Its slot in the table, and a number that tells successive sessions in that slot apart. */
  slot: number;
  life: number;
  /** Index of its wire format (protocol/formats/formats.ts). */
  readonly wire: number;
  /** The origin of a page that may not connect. Empty: the origin is allowed, or there is none. */
  readonly forbiddenOrigin: string;
  /** Random id; empty before the hub has admitted the session. */
  id: string;
  /** Which of the session's sockets this is, as its resume token says. */
  generation: number;
  /** The rights of the session, from the moment its token was verified. */
  grant: Grant | null;
  /** The token that came with the upgrade, until hello. */
  token: string;
  /** The ticket of the placement that came with the upgrade, until hello (placetickets.ts). */
  ticket: string;
  /** A command that is under way, and the frames that wait behind it: hello, or one that a hook decides on. Null: none. */
  waiting: Waiting | null;
  /** Rooms into which the application has joined the user. Null for none, the usual case. */
  assigned: Set<string> | null;
  /** The session's memberships. Few are a linked list, since an array costs more memory. Many are a map by name. */
  members: Member | Map<string, Member> | null;
  /** How many of them are on their way in, or back, and which wait for the socket to drain (arrivals.ts). Null: none. */
  arriving: { count: number; held: Set<Arrival> | null } | null;
  /** A frame that began in one message and goes on in another. */
  split: SplitFrame | null;
  /** The client has ended the session: it is not kept for a resume. */
  over: boolean;
  /** Commands refused for their rate since one was accepted. */
  refusals: number;
  /** Commands with an id that wait for their answer. An ack is not counted: it gets an answer only when refused. */
  unanswered: number;
  /** The size that the memory of its queue has grown to since it was last seen empty (queuebudget.ts). */
  queueHeld: number;
}

/**
 * A command that waits: hello for its token to be verified, then for the hub, and any for a hook. The client's later
 * frames wait behind it (held.ts).
 */
export interface Waiting {
  /** Id of the command. */
  readonly id: number;
  /** In hello, the client's name for itself, which may be any text. */
  readonly client: string;
  frames: Early[];
  /** Their bytes, one by one and, with those of the joins that went ahead, together. */
  sizes: number[];
  bytes: number;
  /** Joins that have followed hello to the hub, and whether more may (ahead.ts). */
  ahead: number;
  /** Rooms of a session that resumes which have followed it, too. They were in hello, and are no frames. */
  restored: number;
  mayGoAhead: boolean;
}

/** A frame, or the problem found in it. */
export type Early = ClientFrame | BadFrame;

/** A room with members on this reactor. */
export interface ReactorRoom {
  readonly name: string;
  readonly handle: number;
  /** Only the holder of this partition of users delivers the room; -1 for rooms that every node delivers. */
  readonly partition: number;
  /** Members that have been joined, live or replaying, by wire format. */
  readonly joined: number[];
  /** Members that deliveries go to, by wire format. */
  readonly live: number[];
  /** The first of them, by wire format: each links to the next. */
  readonly firsts: (Member | null)[];
  /** The era of the room's stream that the members of each format are in. */
  readonly eras: number[];
  /** Topics of its members' sockets, by format. */
  readonly topics: readonly string[];
  /** Members that get presence changes, by format. They are subscribed to topics of their own. */
  readonly presence: number[];
  readonly presenceTopics: readonly string[];
  /** How long deliveries may wait to leave together, and those that wait now, by format. */
  readonly flushMs: number;
  readonly windows: (Window | null)[];
}

/** Deliveries to the members of a room in one format that wait to leave together (windows.ts). */
export interface Window {
  room: ReactorRoom;
  wire: number;
  readonly bytes: Buffer;
  used: number;
  frames: number;
  /** Per frame: where it ends, its seq, and the seq before it. Where a message holds several, only the first has seqs. */
  readonly ends: Uint32Array;
  readonly seqs: Float64Array;
  readonly prevs: Float64Array;
  /** When the hub delivered the first frame, and when the window leaves at the latest. */
  since: number;
  dueAt: number;
  queue: WindowQueue;
  before: Window | null;
  after: Window | null;
}

/** Windows of one length, in the order in which they opened. They close in the same order. */
export interface WindowQueue {
  readonly flushMs: number;
  first: Window | null;
  last: Window | null;
  timer: NodeJS.Timeout | null;
}

/** A session in a room. joining: the hub has been asked. replaying: it gets pages, then becomes live. */
export interface Member {
  /** The client's name for the room. After the join, the string that all members share. */
  name: string;
  readonly session: Session;
  state: "joining" | "replaying" | "live" | "gone";
  room: ReactorRoom | null;
  /** The session's grant allows publishing here. */
  mayPublish: boolean;
  /** The member gets presence changes: its namespace has them, and its session's grant allows it. */
  seesPresence: boolean;
  /** Order of the first publish (fanout.ts) that it is live for. */
  liveAt: number;
  /** Null while it is live, the usual state. */
  arrival: Arrival | null;
  /** The session's next membership, where they are a list. */
  next: Member | null;
  /** The room's live members in one format are a linked list, too. */
  before: Member | null;
  after: Member | null;
}

/** Why the node ends a membership: the token no longer allows it, or the application has removed the user. */
export type Evicted = "forbidden" | "removed";

/** A member on its way in, or on its way back: it was live, and its socket became full. */
export interface Arrival {
  readonly member: Member;
  /** The hub's number for it. */
  readonly number: number;
  /**
   * asked: by its client. restored: by the node, for a session that was resumed. assigned: by the application. behind: it
   * was live, and lagged.
   */
  readonly kind: "asked" | "restored" | "assigned" | "behind";
  /** Id of the join; 0 without one. */
  readonly id: number;
  /** While it is replaying: it has everything up to here, in this era of the room's stream. */
  seq: number;
  era: number;
  /**
   * What ended the membership before the hub answered the join. The client learns it after that answer. null: nothing,
   * or the socket is gone. left: the client's leave. full: the session has no room left for it, which replaces that answer.
   * Else the node, for this reason.
   */
  ended: "left" | "full" | Evicted | null;
  /** Id of that leave; 0 without one. */
  leaveId: number;
}

/**
 * Up to this many memberships of a session are a list that is searched. More are a map by name, since each join would
 * take longer than the one before. A map for every session would cost the many with few rooms too much memory.
 */
const listedMax = 16;

/** The session's membership in a room, joining or joined. */
export function memberOf({ members }: Session, room: string): Member | null {
  if (members instanceof Map) return members.get(room) ?? null;
  for (let member = members; member !== null; member = member.next) if (member.name === room) return member;
  return null;
}

/** Whether deliveries to the room's members in this format go to the session. */
export function isLive(session: Session, room: ReactorRoom, wire: number): boolean {
  if (session.wire !== wire) return false;
  const member = memberOf(session, room.name);
  return member !== null && member.room === room && member.state === "live";
}

/** Whether the application has joined the user into the room: the token needs no right for it. */
export function isAssigned({ assigned }: Session, room: string): boolean {
  return assigned !== null && assigned.has(room);
}

/** All of a session's memberships in a new array, safe to walk through while they change. Not for the data path. */
export function membersOf({ members }: Session): Member[] {
  if (members instanceof Map) return [...members.values()];
  const all: Member[] = [];
  for (let member = members; member !== null; member = member.next) all.push(member);
  return all;
}

/** Adds a member to the room's live ones, which deliveries go to. */
export function enlist(member: Member): void {
  const { room, session: { wire } } = member;
  const first = room!.firsts[wire] ?? null;
  member.after = first;
  if (first !== null) first.before = member;
  room!.firsts[wire] = member;
  room!.live[wire]!++;
}

export function delist(member: Member): void {
  const { room, session: { wire } } = member;
  const { before, after } = member;
  if (before === null) room!.firsts[wire] = after;
  else before.after = after;
  if (after !== null) after.before = before;
  member.before = member.after = null;
  room!.live[wire]!--;
}

export function countMembers({ members }: Session): number {
  if (members instanceof Map) return members.size;
  let count = 0;
  for (let member = members; member !== null; member = member.next) count++;
  return count;
}

export function addMember(session: Session, added: Member): void {
  const { members } = session;
  if (members instanceof Map) members.set(added.name, added);
  else if (countMembers(session) < listedMax) session.members = chained([...membersOf(session), added]);
  else session.members = new Map([...membersOf(session), added].map((member) => [member.name, member]));
}

export function removeMember(session: Session, removed: Member): void {
  const { members } = session;
  if (members instanceof Map) {
    if (members.get(removed.name) === removed) members.delete(removed.name);
    // Half of the bound, so that a session near it does not convert all its memberships with each join and leave.
    if (members.size <= listedMax / 2) session.members = chained([...members.values()]);
  } else session.members = chained(membersOf(session).filter((member) => member !== removed));
  removed.next = null;
}

function chained(members: readonly Member[]): Member | null {
  return members.reduceRight<Member | null>((next, member) => {
    member.next = next;
    return member;
  }, null);
}

export function createSession(audience: Audience, wire: number, forbiddenOrigin: string, token: string, ticket = ""): Session {
  return {
    socket: null,
    audience,
    state: "connecting",
    slot: 0,
    life: 0,
    wire,
    forbiddenOrigin,
    id: "",
    generation: 0,
    grant: null,
    token,
    ticket,
    waiting: null,
    assigned: null,
    members: null,
    arriving: null,
    split: null,
    over: false,
    refusals: 0,
    unanswered: 0,
    queueHeld: 0,
  };
}

const firstSlots = 1024;

/** Sessions by slot. Typed arrays beside them hold the values that are read often or of many sessions at once. */
export class ReactorSessions {
  readonly #counters: Counters;
  readonly #slots: (Session | null)[] = [];
  readonly #free: number[] = [];
  #lives = new Uint32Array(firstSlots);
  /** The tick of heartbeat.ts at which the socket was last heard, and whether it has been pinged since. */
  heardAt = new Uint32Array(firstSlots);
  pinged = new Uint8Array(firstSlots);
  /** Rate limit: when the session has paid for the commands it has sent, milliseconds of now(). */
  paidUntil = new Float64Array(firstSlots);
  /** Rate limit: when the session has paid for the bytes it has sent. */
  bytesPaidUntil = new Float64Array(firstSlots);
  /** Since when it has exceeded the byte rate without a rest; 0 for not. */
  bytesOverSince = new Float64Array(firstSlots);
  /**
   * When the session's token is next due, for a warning or its end: milliseconds since 1970, 0 for never (expiry.ts).
   */
  tokenDueAt = new Float64Array(firstSlots);

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  /** One more than the highest slot in use so far. */
  get end(): number {
    return this.#slots.length;
  }

  add(session: Session, tick: number): void {
    const slot = this.#free.pop() ?? this.#slots.length;
    if (slot >= this.#lives.length) this.#grow();
    this.#slots[slot] = session;
    session.slot = slot;
    session.life = this.#lives[slot]! = (this.#lives[slot]! + 1) >>> 0;
    this.heardAt[slot] = tick;
    this.pinged[slot] = 0;
    this.paidUntil[slot] = 0;
    this.bytesPaidUntil[slot] = 0;
    this.bytesOverSince[slot] = 0;
    this.tokenDueAt[slot] = 0;
    this.setState(session, "handshake");
    this.#counters.add("opened", 1);
    this.#counters.add(formatSockets[session.wire]!, 1);
  }

  remove(session: Session): void {
    this.#slots[session.slot] = null;
    this.#free.push(session.slot);
    this.#counters.add(formatSockets[session.wire]!, -1);
    this.setState(session, "closed");
  }

  at(slot: number): Session | null {
    return this.#slots[slot] ?? null;
  }

  /** All sessions that have a socket. */
  *open(): Generator<Session> {
    for (const session of this.#slots) if (session !== null) yield session;
  }

  /** The session that a record from the hub names, if it still has the slot. */
  find(slot: number, life: number): Session | null {
    const session = this.#slots[slot] ?? null;
    return session !== null && session.life === life ? session : null;
  }

  setState(session: Session, state: State): void {
    const { state: from } = session;
    if (from !== "connecting" && from !== "closed") this.#counters.add(from, -1);
    session.state = state;
    if (state !== "connecting" && state !== "closed") this.#counters.add(state, 1);
  }

  #grow(): void {
    // Grows by half. Doubling would give a node just over a power of two twice the memory it needs.
    const size = Math.ceil(this.#lives.length * 1.5);
    this.#lives = grown(this.#lives, new Uint32Array(size));
    this.heardAt = grown(this.heardAt, new Uint32Array(size));
    this.pinged = grown(this.pinged, new Uint8Array(size));
    this.bytesOverSince = grown(this.bytesOverSince, new Float64Array(size));
    this.bytesPaidUntil = grown(this.bytesPaidUntil, new Float64Array(size));
    this.paidUntil = grown(this.paidUntil, new Float64Array(size));
    this.tokenDueAt = grown(this.tokenDueAt, new Float64Array(size));
  }
}

function grown<T extends Uint8Array | Uint32Array | Float64Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** Our records of clients and of their places in rooms, and the table of all that a reactor has. */
import type { Grant } from "../../auth/grants.ts";
import type { Counters } from "../../link/counters.ts";
import type { SplitFrame } from "../../protocol/framing.ts";
import type { BadFrame } from "../../protocol/formats/format.ts";
import type { ClientFrame } from "../../protocol/messages.ts";
import type { Audience, Socket } from "../transport/socket.ts";

/**
 * connecting: the socket is being upgraded. handshake: it may only say hello. ready: it may do everything.
 * closing: nothing is read any more, what is queued still leaves. closed: the socket is gone.
 */
export type State = "connecting" | "handshake" | "ready" | "closing" | "closed";

/** Every field is set at creation, so that all sessions have one shape. */
export interface Session {
  /** Null before the upgrade and once the socket is gone: uWS objects must not be touched then. */
  socket: Socket | null;
  /** The sockets that its own is published to with. */
  readonly audience: Audience;
  state: State;
  /** Its place in the table, and which of the sessions that had it. */
  slot: number;
  life: number;
  /** Index of its wire format (protocol/formats/formats.ts). */
  readonly wire: number;
  /** Of the page that may not connect; empty: it may, or it is no page. */
  readonly forbiddenOrigin: string;
  /** Random id; empty before the hub has admitted it. */
  id: string;
  /** Which of the session's sockets this is, as its resume token says. */
  generation: number;
  /** What it may do, from when its token was found good. */
  grant: Grant | null;
  /** A token that came with the upgrade, until hello is said. */
  token: string;
  /** Hello is under way; null before it came and once the hub has answered. */
  greeting: Greeting | null;
  /** The first of its places in rooms, each of which knows the next: most sessions are in few, and an array costs more. Of many a map, by name. */
  members: Member | Map<string, Member> | null;
  /** A frame that began in one message and goes on in another. */
  split: SplitFrame | null;
  /** Its client has ended it: it is not kept for a resume. */
  over: boolean;
  /** Commands refused for their rate since one was accepted. */
  refusals: number;
  /** Commands with an id that wait for their answer. A refused ack, which is answered only then, is not counted. */
  unanswered: number;
  /** Bytes that the memory of its queue was grown to since it was last seen empty (queuebudget.ts). */
  queueHeld: number;
}

/** Hello waits for its token to be verified, then for the hub; what the client sends meanwhile waits behind it. */
export interface Greeting {
  /** Id of the command. */
  readonly id: number;
  /** What the client calls itself; it may be anything. */
  readonly client: string;
  early: Early[];
  earlyBytes: number;
}

/** A frame, or what was wrong with it. */
export type Early = ClientFrame | BadFrame;

/** A room with members on this reactor. */
export interface ReactorRoom {
  readonly name: string;
  readonly handle: number;
  /** Members that have been joined, live or replaying, by wire format. */
  readonly joined: number[];
  /** Members that deliveries go to, by wire format. */
  readonly live: number[];
  /** The first of them, by wire format: each knows the next. */
  readonly firsts: (Member | null)[];
  /** In which era of the room's stream the members of each format are. */
  readonly eras: number[];
  /** Topics of its members' sockets, by format. */
  readonly topics: readonly string[];
  /** Members that are told who comes and goes, by format. They are subscribed to topics of their own. */
  readonly presence: number[];
  readonly presenceTopics: readonly string[];
  /** How long deliveries may wait to leave together, and those that do, by format. */
  readonly flushMs: number;
  readonly windows: (Window | null)[];
}

/** Deliveries that wait for each other (windows.ts): those to the members of a room that speak one format. */
export interface Window {
  room: ReactorRoom;
  wire: number;
  readonly bytes: Buffer;
  used: number;
  frames: number;
  /** Of every frame that is a message of its own, of the first of a stream: where it ends, its seq and the one before it. */
  readonly ends: Uint32Array;
  readonly seqs: Float64Array;
  readonly prevs: Float64Array;
  /** When the hub delivered the first, and when it leaves at the latest. */
  since: number;
  dueAt: number;
  queue: WindowQueue;
  before: Window | null;
  after: Window | null;
}

/** Windows of one length, in the order in which they were opened: they close in the same. */
export interface WindowQueue {
  readonly flushMs: number;
  first: Window | null;
  last: Window | null;
  timer: NodeJS.Timeout | null;
}

/** A session in a room. joining: the hub has been asked. replaying: it gets pages, then becomes live. */
export interface Member {
  /** As the client knows it; once it is in, the string that all members share. */
  name: string;
  readonly session: Session;
  state: "joining" | "replaying" | "live" | "gone";
  room: ReactorRoom | null;
  /** Its session's grant lets it publish here. */
  mayPublish: boolean;
  /** It is to be told who comes and goes: its namespace has that, and its session's grant allows it. */
  seesPresence: boolean;
  /** Order of the first publish (fanout.ts) that it is live for. */
  liveAt: number;
  /** Null while it is live, which most are and stay. */
  arrival: Arrival | null;
  /** The session's next, where they are a list. */
  next: Member | null;
  /** The room's live members of one format are a list, too. */
  before: Member | null;
  after: Member | null;
}

/** A member on its way in, or back in: it was live, and its socket became full. */
export interface Arrival {
  readonly member: Member;
  /** By which the hub knows it. */
  readonly number: number;
  /** asked: by its client. restored: by the node, for a session that was resumed. behind: it was live, and did not keep up. */
  readonly kind: "asked" | "restored" | "behind";
  /** While it is replaying: it has everything up to here, in this era of the room's stream. */
  seq: number;
  era: number;
  /**
   * What ended it before the hub answered the join; the client is told behind that answer. null: nothing has, or its socket
   * is gone. left: its client's leave. evicted: the node, as its grant has changed.
   */
  ended: "left" | "evicted" | null;
  /** Id of that leave; 0 without one. */
  leaveId: number;
}

/**
 * Up to this many places of a session are a list that is looked through. Those of more are found by name, as each join would
 * take longer than the one before; a map for each session would cost the many that are in few rooms too much.
 */
const listedMax = 16;

/** The session's place in a room, on its way in or there. */
export function memberOf({ members }: Session, room: string): Member | null {
  if (members instanceof Map) return members.get(room) ?? null;
  for (let member = members; member !== null; member = member.next) if (member.name === room) return member;
  return null;
}

/** All of a session's places in rooms, in a list of its own, which may be gone through while they change. Not for the data path. */
export function membersOf({ members }: Session): Member[] {
  if (members instanceof Map) return [...members.values()];
  const all: Member[] = [];
  for (let member = members; member !== null; member = member.next) all.push(member);
  return all;
}

/** Puts a member of the room where deliveries go to. */
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
    // Well below the bound, so that one that comes and goes does not move all of them each time.
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

export function createSession(audience: Audience, wire: number, forbiddenOrigin: string, token: string): Session {
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
    greeting: null,
    members: null,
    split: null,
    over: false,
    refusals: 0,
    unanswered: 0,
    queueHeld: 0,
  };
}

const firstSlots = 1024;

/** Sessions by slot. What is looked at often or of many at once lies in typed arrays beside them. */
export class ReactorSessions {
  readonly #counters: Counters;
  readonly #slots: (Session | null)[] = [];
  readonly #free: number[] = [];
  #lives = new Uint32Array(firstSlots);
  /** Tick of heartbeat.ts at which the socket was last heard, and whether it has been pinged since. */
  heardAt = new Uint32Array(firstSlots);
  pinged = new Uint8Array(firstSlots);
  /** Rate limit: when the session has made up for the commands it has sent, milliseconds of now(). */
  paidUntil = new Float64Array(firstSlots);
  /** The same for the bytes it has sent. */
  bytesPaidUntil = new Float64Array(firstSlots);
  /** Since when it has been sending more, without a rest; 0 for not. */
  bytesOverSince = new Float64Array(firstSlots);
  /** When the session's token asks for something next, a warning or the end: milliseconds since 1970, 0 for never (expiry.ts). */
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
  }

  remove(session: Session): void {
    this.#slots[session.slot] = null;
    this.#free.push(session.slot);
    this.setState(session, "closed");
  }

  at(slot: number): Session | null {
    return this.#slots[slot] ?? null;
  }

  /** All that have a socket. */
  *open(): Generator<Session> {
    for (const session of this.#slots) if (session !== null) yield session;
  }

  /** The session a record from the hub is meant for, if it still is. */
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
    // Half more: twice as much would leave a node with just over a power of two twice what it needs.
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

/**
 * The sessions of one node: hello, resume, replace, end. Only the hub knows all of a user's sessions. So it decides on
 * limits per user, replaced sockets and sign-outs. The store behind the seam knows what outlives a socket.
 */
import type { Answer } from "../../broker/broker.ts";
import type { CloseName } from "../../errors.ts";
import { allOf, countOf, withOne, withoutOne, type Held } from "../../platform/held.ts";
import { randomId } from "../../platform/ids.ts";
import type { JoinRecord } from "../../link/records.ts";
import { writeAdmitted, writeKick, type HelloRecord, type PlaceInRoom } from "../../link/sessions.ts";
import type { NodeMessage } from "../../messages/messages.ts";
import { userKey } from "../../protocol/roomkeys.ts";
import type { SessionHere, Sessions as Store } from "../../sessions/sessions.ts";
import { Assigned, fitting, unread } from "./assigned.ts";
import { Hellos, SignedOut } from "./hellos.ts";
import { LastPlace, noPlaces, placeIn, placesOf, withoutPlace, withPlace } from "./places.ts";
import { roomsOf } from "./resuming.ts";
import { Writing } from "./writing.ts";
import type { HubSession } from "./session.ts";
import type { AttachedReactor, HubRoom } from "../rooms.ts";

export interface HubSessionsOptions {
  readonly store: Store;
  readonly node: string;
  readonly sessionsPerUserMax: number;
  /** Bytes of the names of all rooms that a session is brought back into: one frame lists them. */
  readonly roomNamesBytesMax: number;
  /** The application has removed the session from a room that it was in. */
  onRemoved(session: HubSession, room: string): void;
  /** Whether it is a name that a client may use for a room. */
  isRoomName(name: string): boolean;
  /** The user was signed out, here or on another node. */
  onSignedOut(userKey: string): void;
  /** Sends to another node. */
  toNode(node: string, message: NodeMessage): void;
  /** Called once for every socket: when a session has its socket here, and when it no longer does. */
  onBegin(session: HubSession): void;
  onEnd(session: HubSession, isOver: boolean): void;
  /** The session's hello was answered, or needs no answer any more: the joins that came with it wait for that. */
  onAnswered(session: HubSession): void;
  /** The user was disconnected: none of the user's sessions can be resumed. */
  onAllEnded(userKey: string): void;
}

/** Share of a frame's names that the rooms in `ready` may take into which the application has joined the user. */
const assignedShare = 1 / 2;
/** Shared by all sessions that have none, the usual case. */
const noJoins: readonly JoinRecord[] = [];

export class HubSessions {
  /** Sessions that were resumed, and sockets that were closed by a resume or by the application. */
  resumed = 0;
  begun = 0;
  kicked = 0;
  readonly #options: HubSessionsOptions;
  /** By reactor and slot. */
  readonly #sockets: (HubSession | undefined)[][] = [];
  readonly #byId = new Map<string, HubSession>();
  readonly #byUser = new Map<string, Held<HubSession>>();
  /** Hellos that wait for the store's answer. A disconnect in the meantime refuses them. */
  readonly #hellos = new Hellos<HubSession>();
  readonly #signedOut = new SignedOut();
  /**
   * Sessions being taken from the store: for how many sockets, and the newest generation that others took meanwhile.
   */
  readonly #taking = new Map<string, { sockets: number; newest: number }>();
  /** Where keep() is in #byId; null between its rounds. An abandoned iterator would keep deleted entries in memory. */
  #keeping: IterableIterator<HubSession> | null = null;
  #lastSocketId = 0;
  readonly #lastPlace = new LastPlace();
  readonly #writing: Writing;
  readonly assigned: Assigned;
  /** The user was disconnected or signed out, here or on another node. Set by those who serve users without sessions. */
  onClosed: (userKey: string) => void = () => {};

  constructor(options: HubSessionsOptions) {
    this.#options = options;
    this.#writing = new Writing(options.store, options.node);
    this.assigned = new Assigned({ ...options, ofUser: (key) => this.#allOf(key), users: () => this.#byUser.keys() });
  }

  get size(): number {
    return this.#byId.size;
  }

  get users(): number {
    return this.#byUser.size;
  }

  /** The session that has this slot, if the slot's life is still the same. */
  find(reactor: AttachedReactor, slot: number, life: number): HubSession | undefined {
    const session = this.#sockets[reactor.index]?.[slot];
    return session?.reactor === reactor && session.life === life ? session : undefined;
  }

  /** The session with this identifier, if it has its socket here. */
  named(id: string): HubSession | undefined {
    return this.#byId.get(id);
  }

  // ------------------------------------------------------------------------------- coming

  hello(reactor: AttachedReactor, hello: HelloRecord): void {
    const session = this.#arrive(reactor, hello);
    let signedOut: Answer<number> | undefined;
    let asked = 2;
    const answered = () => {
      if (--asked === 0) this.#greet(session, hello, signedOut!);
    };
    this.assigned.read(session, answered);
    this.#options.store.signedOutAt(session.userKey, (answer) => {
      signedOut = answer;
      answered();
    });
    // Most stores have answered by now. A map that is emptied again and again would fill V8's old space with its tables.
    if (session.state === "arriving") this.#hellos.add(session);
  }

  #greet(session: HubSession, hello: HelloRecord, answer: Answer<number>): void {
    if (session.state === "gone") return;
    // An unreadable store refuses nobody, since sign-outs are rare. Sign-outs that this node was told of apply
    // anyway, also while the store is being asked.
    const time = Math.max("value" in answer ? answer.value : 0, this.#signedOut.at(session.userKey));
    // A token without an issue time may be older than the sign-out, so it is refused too.
    if (time > 0 && hello.issuedAt <= time) return this.#refuse(session, "disconnected");
    if (hello.resume === "") this.#begin(session);
    // What the backend decided before the sign-out counts no longer: it is asked when the client comes anew.
    else if (time > 0 && hello.resumeIssuedAt <= time && hello.decided !== "now") this.#refuse(session, "session_replaced");
    else if (time > 0 && hello.resumeIssuedAt <= time) this.#beginInstead(session, hello);
    else this.#resume(session, hello);
  }

  #begin(session: HubSession): void {
    if (session.state === "over") return;
    session.id = randomId(16);
    this.#admit(session, false, [], false);
  }

  #resume(session: HubSession, hello: HelloRecord): void {
    const { store, node, toNode, roomNamesBytesMax } = this.#options;
    const id = hello.resume;
    const taking = this.#taking.get(id) ?? { sockets: 0, newest: 0 };
    taking.sockets++;
    this.#taking.set(id, taking);
    // Also asked when the socket before is here: this socket must become the newest of all on all nodes.
    store.take(id, hello.resumeGeneration, (answer, taken) => {
      if (--taking.sockets === 0) this.#taking.delete(id);
      if (session.state === "gone") return;
      const before = this.#byId.get(id);
      const found = roomsOf({ session, hello, before, answer, taken, roomNamesBytesMax });
      if (found === null) return this.#beginInstead(session, hello);
      session.assigned = found.assigned;
      session.id = id;
      session.generation = before === undefined ? taken : Math.max(taken, before.generation + 1);
      if (taking.newest > session.generation) return this.#refuse(session, "session_replaced");
      if (before !== undefined) this.#replace(before);
      this.#admit(session, true, found.rooms, found.isClaimed);
      const owner = "value" in answer ? answer.value?.node ?? node : node;
      if (owner !== node && this.#byId.get(id) === session) toNode(owner, { kind: "taken", session: id, generation: session.generation });
    });
  }

  /**
   * The session does not exist any more. A resume token alone begins no new one, or it would outlive its token. Neither
   * does a verdict about the session that was: the client is to come as a new one, which the backend decides on.
   */
  #beginInstead(session: HubSession, { mayBegin, decided }: HelloRecord): void {
    if (mayBegin && decided !== "for the session") this.#begin(session);
    else this.#refuse(session, decided === "now" ? "token_expired" : "session_replaced");
  }

  #arrive(reactor: AttachedReactor, hello: HelloRecord): HubSession {
    const { slot, life, wire, user, device, issuedAt } = hello;
    const session: HubSession = {
      id: "",
      socketId: `${++this.#lastSocketId}`,
      userKey: user,
      device,
      issuedAt,
      cameAt: Math.floor(performance.now()),
      reactor,
      slot,
      life,
      wire,
      rooms: noPlaces,
      ahead: noJoins,
      assigned: unread,
      generation: 0,
      state: "arriving",
    };
    (this.#sockets[reactor.index] ??= [])[slot] = session;
    return session;
  }

  #admit(session: HubSession, resumed: boolean, rooms: PlaceInRoom[], isClaimed: boolean): void {
    const { reactor, slot, life, id, userKey: key } = session;
    if (session.state === "over") return this.#options.store.end(id, session.generation);
    if (countOf(this.#ofUser(key)) >= this.#options.sessionsPerUserMax) return this.#refuse(session, "too_many_sessions");
    session.state = "here";
    this.#hellos.remove(session);
    this.#byId.set(id, session);
    this.#byUser.set(key, withOne(this.#ofUser(key), session));
    if (resumed) this.resumed++;
    else this.begun++;
    // The rooms count as left until they are joined again. Listing them now keeps them if the socket is lost before.
    if (rooms.length > 0) session.rooms = placesOf(rooms);
    if (resumed) this.#writing.soon(session);
    // Written at once where the store outlives the process: the client may soon reconnect to another node.
    else if (this.#options.store.outlivesProcess) this.#writing.now(session);
    this.#options.onBegin(session);
    const assigned = fitting(session.assigned, this.#options.roomNamesBytesMax * assignedShare);
    writeAdmitted(reactor.link, { slot, life, session: id, generation: session.generation, resumed, rooms, isClaimed, assigned, isUnread: session.assigned === unread });
    this.assigned.assignOthers(session, assigned);
    this.#options.onAnswered(session);
  }

  // ------------------------------------------------------------------------------- going

  /** The socket is gone; `over`: and with it the session. */
  gone(reactor: AttachedReactor, slot: number, life: number, over: boolean): void {
    const session = this.find(reactor, slot, life);
    if (session === undefined) return;
    this.#sockets[reactor.index]![slot] = undefined;
    if (session.state === "here") this.#lost(session, over);
    this.#hellos.remove(session);
    session.state = over && session.state === "arriving" ? "over" : "gone";
    this.#options.onAnswered(session);
  }

  /** A reactor is gone, and the sockets of all its sessions. */
  forgetReactor(reactor: AttachedReactor): void {
    for (const session of this.#sockets[reactor.index] ?? []) {
      if (session === undefined) continue;
      if (session.state === "here") this.#lost(session, false);
      this.#hellos.remove(session);
      session.state = "gone";
    }
    this.#sockets[reactor.index] = [];
  }

  /** Another node has taken the session. A socket that resumed it here later than that stays. */
  taken(id: string, generation: number): void {
    const session = this.#byId.get(id);
    if (session !== undefined && session.generation < generation) this.#replace(session);
    const taking = this.#taking.get(id);
    if (taking !== undefined) taking.newest = Math.max(taking.newest, generation);
  }

  /** Sessions of a user that have a socket here. */
  of(userKey: string): HubSession[] {
    return allOf(this.#ofUser(userKey));
  }

  /**
   * Ends all sessions of a user, with a socket or without: none can be resumed. Returns how many sockets were closed.
   */
  disconnect(tenant: string, user: string): number {
    this.#options.store.endAll(tenant, user);
    const closed = this.close(tenant, user);
    this.#options.onAllEnded(userKey(tenant, user));
    return closed;
  }

  /** Ends a user's sessions with a socket here, and refuses waiting hellos. Returns how many there were. */
  close(tenant: string, user: string): number {
    const key = userKey(tenant, user);
    const sessions = this.#allOf(key);
    for (const session of sessions) this.#end(session);
    this.onClosed(key);
    return sessions.length;
  }

  #end(session: HubSession): void {
    if (session.state === "arriving") return this.#refuse(session, "disconnected");
    this.#kick(session, "disconnected");
    this.#lost(session, true);
    session.state = "gone";
  }

  #allOf(key: string): HubSession[] {
    return [...allOf(this.#ofUser(key)), ...this.#hellos.of(key)];
  }

  /** All sessions with a socket here, and those arriving, which have no id yet. */
  here(): HubSession[] {
    return [...this.#byId.values(), ...this.#hellos.all()];
  }

  /** Closes and ends those of them that still have their socket. */
  end(sessions: readonly SessionHere[]): void {
    for (const { userKey: key, socketId } of sessions) {
      const session = this.#allOf(key).find((one) => one.socketId === socketId);
      if (session !== undefined) this.#end(session);
      this.onClosed(key);
    }
  }

  /**
   * Disconnects the user, and refuses all tokens and resumes from before. Returns the time, and how many sockets
   * closed.
   */
  signOut(tenant: string, user: string): { time: number; closed: number } {
    const time = Date.now();
    this.signedOut(tenant, user, time);
    this.#options.store.signOut(userKey(tenant, user), time);
    return { time, closed: this.disconnect(tenant, user) };
  }

  /** A user was signed out on some node. This node applies it at once, whatever the store answers. */
  signedOut(tenant: string, user: string, time: number): void {
    this.#signedOut.note(userKey(tenant, user), time);
    this.#options.onSignedOut(userKey(tenant, user));
    this.onClosed(userKey(tenant, user));
  }

  /** Whether a token of this user, issued then, is invalid since a sign-out. An unreadable store refuses nobody. */
  isSignedOut(userKey: string, issuedAt: number, done: (isOut: boolean) => void): void {
    this.#options.store.signedOutAt(userKey, (answer) => {
      const time = Math.max("value" in answer ? answer.value : 0, this.#signedOut.at(userKey));
      done(time > 0 && issuedAt <= time);
    });
  }

  /** Another socket has the session now. Its rooms are not left: the new socket has them. */
  #replace(session: HubSession): void {
    this.#kick(session, "session_replaced");
    if (session.state === "here") this.#unlist(session);
    session.state = "gone";
  }

  #kick({ reactor, slot, life }: HubSession, name: CloseName): void {
    this.kicked++;
    if (reactor.live) writeKick(reactor.link, slot, life, name);
  }

  #lost(session: HubSession, over: boolean): void {
    this.#unlist(session, over);
    if (over) return this.#options.store.end(session.id, session.generation);
    this.#writing.now(session);
  }

  #unlist(session: HubSession, isOver = false): void {
    this.#writing.forget(session);
    this.assigned.ended(session);
    this.#byId.delete(session.id);
    const left = withoutOne(this.#ofUser(session.userKey), session);
    if (left === null) this.#byUser.delete(session.userKey);
    else this.#byUser.set(session.userKey, left);
    this.#options.onEnd(session, isOver);
  }

  #ofUser = (key: string): Held<HubSession> => this.#byUser.get(key) ?? null;

  /** Refuses the hello. Its socket's last records are still to come, as after a replacement. */
  #refuse(session: HubSession, name: CloseName): void {
    if (session.state === "over") return;
    this.#hellos.remove(session);
    session.state = "gone";
    writeKick(session.reactor.link, session.slot, session.life, name);
    this.#options.onAnswered(session);
  }

  // ------------------------------------------------------------------------------- rooms of a session

  /** @param seq up to where it has been given the room's publications */
  entered(session: HubSession, room: HubRoom, seq: number): void {
    session.rooms = withPlace(session.rooms, this.#lastPlace.of(room, seq));
    this.#writing.soon(session);
    this.assigned.joined(session, room.name);
  }

  /** Moves the session's position in a room forward, never back. */
  advanced(session: HubSession, room: HubRoom, seq: number): void {
    const place = placeIn(session.rooms, room.name);
    if (place !== undefined && (place.epoch !== room.epoch || place.seq < seq)) this.entered(session, room, seq);
  }

  left(session: HubSession, name: string): void {
    session.rooms = withoutPlace(session.rooms, name);
    this.#writing.soon(session);
  }

  /** The store has lost this session, or for null maybe several, and sign-outs: they are written again. */
  forgotten(id: string | null): void {
    if (id === null) for (const [user, time] of this.#signedOut.all()) this.#options.store.signOut(user, time);
    for (const session of id === null ? this.#byId.values() : [this.#byId.get(id)]) if (session !== undefined) this.#writing.soon(session);
  }

  /** Renews the stored sessions of the sockets here, one of `parts` shares at a time. */
  keep(parts: number): void {
    if (!this.#options.store.outlivesProcess) return;
    for (let left = Math.ceil(this.#byId.size / parts); left > 0; left--) {
      this.#keeping ??= this.#byId.values();
      const next = this.#keeping.next();
      if (next.done === true) {
        this.#keeping = null;
        return;
      }
      this.#options.store.keep(next.value.id, next.value.generation);
    }
  }

  stop(): void {
    this.assigned.stop();
    this.#writing.stop();
  }
}


/**
 * The sessions of one node: who says hello, who comes back, and whose socket is whose. The hub alone knows all of a
 * user's sessions, so limits per user, replaced sockets and signing out are decided here; the store behind the seam
 * knows what outlives a socket.
 */
import type { CloseName } from "../../errors.ts";
import { allOf, countOf, withOne, withoutOne, type Held } from "../../platform/held.ts";
import { randomId } from "../../platform/ids.ts";
import { writeAdmitted, writeKick, type HelloRecord, type PlaceInRoom } from "../../link/sessions.ts";
import type { NodeMessage } from "../../messages/messages.ts";
import { nameOfUser, tenantOfUser, userKey } from "../../protocol/roomkeys.ts";
import type { SessionHere, Sessions as Store } from "../../sessions/sessions.ts";
import { Arrivals, SignedOut } from "./arrivals.ts";
import { listed, noPlaces, placeIn, placesOf, withoutPlace, withPlace, type Places } from "./places.ts";
import { roomsOf } from "./resuming.ts";
import type { Reactor, HubRoom } from "../rooms.ts";

/** A session that has a socket on this node. Another socket of it is another record. */
export interface HubSession {
  id: string;
  /** Unlike the id, of this socket alone. */
  readonly socketId: string;
  /** Holds the names of the user and the tenant. */
  readonly userKey: string;
  readonly device: string;
  /** Of its token, milliseconds since 1970. */
  readonly issuedAt: number;
  /** By the clock of `performance.now()`; whole milliseconds, as V8 keeps any other number in an object of its own. */
  readonly cameAt: number;
  /** The reactor that has its socket; its slot there, and which of those that had the slot it is. */
  readonly reactor: Reactor;
  readonly slot: number;
  readonly life: number;
  readonly wire: number;
  rooms: Places;
  /** Higher than that of every socket that had the session before. */
  generation: number;
  /**
   * arriving: the store is being asked. gone: replaced or closed, its socket's last records are still to come. over: its
   * client said bye before the store had answered; the session that it asked for ends.
   */
  state: "arriving" | "here" | "gone" | "over";
}

export interface HubSessionsOptions {
  readonly store: Store;
  readonly node: string;
  readonly sessionsPerUserMax: number;
  /** Of the names of all rooms that a session is brought back into: they are listed in one frame. */
  readonly roomNamesBytesMax: number;
  /** Tells another node. */
  toNode(node: string, message: NodeMessage): void;
  /** A session has its socket here, or no longer: called once each for every socket. */
  onBegin(session: HubSession): void;
  onEnd(session: HubSession): void;
}

/** Changes of a session's rooms are written together: a client joins many at once. */
const writeAfterMs = 50;
/** Sessions that are written in one go. */
const writesMax = 2_000;

export class HubSessions {
  /** Sessions that were resumed, and sockets that were closed for it or by the application. */
  resumed = 0;
  kicked = 0;
  readonly #options: HubSessionsOptions;
  /** By reactor and slot. */
  readonly #sockets: (HubSession | undefined)[][] = [];
  readonly #byId = new Map<string, HubSession>();
  readonly #byUser = new Map<string, Held<HubSession>>();
  readonly #unwritten = new Set<HubSession>();
  /** Hellos that the store is being asked about: who is disconnected meanwhile does not come in. */
  readonly #arrivals = new Arrivals<HubSession>();
  readonly #signedOut = new SignedOut();
  /** Sessions that are being taken from the store, for how many sockets, and the generation others took them as meanwhile. */
  readonly #taking = new Map<string, { sockets: number; newest: number }>();
  /** Where keep() is in #byId; null between its rounds. One that nobody moves on would hold whatever leaves the map. */
  #keeping: IterableIterator<HubSession> | null = null;
  #lastSocketId = 0;
  #lastPlace: PlaceInRoom = { name: "", epoch: "", seq: 0 };
  #writer: NodeJS.Timeout | null = null;

  constructor(options: HubSessionsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#byId.size;
  }

  get users(): number {
    return this.#byUser.size;
  }

  /** The session that has this slot, if it is still the one that is meant. */
  find(reactor: Reactor, slot: number, life: number): HubSession | undefined {
    const session = this.#sockets[reactor.index]?.[slot];
    return session?.reactor === reactor && session.life === life ? session : undefined;
  }

  // ------------------------------------------------------------------------------- coming

  hello(reactor: Reactor, hello: HelloRecord): void {
    const session = this.#arrive(reactor, hello);
    this.#options.store.signedOutAt(session.userKey, (answer) => {
      if (session.state === "gone") return;
      // A store that cannot be read keeps nobody out: it is the exception that someone was signed out. What this node was
      // told of sign-outs holds all the same, also where it was told while the store was asked.
      const time = Math.max("value" in answer ? answer.value : 0, this.#signedOut.at(session.userKey));
      // A token that does not say when it was issued cannot be told from one that counts no more.
      if (time > 0 && hello.issuedAt <= time) return this.#refuse(session, "disconnected");
      if (hello.resume === "") this.#begin(session);
      else if (time > 0 && hello.resumeIssuedAt <= time) this.#beginInstead(session, hello);
      else this.#resume(session, hello);
    });
  }

  #begin(session: HubSession): void {
    if (session.state === "over") return;
    session.id = randomId(16);
    this.#admit(session, false, []);
  }

  #resume(session: HubSession, hello: HelloRecord): void {
    const { store, node, toNode, roomNamesBytesMax } = this.#options;
    const id = hello.resume;
    const taking = this.#taking.get(id) ?? { sockets: 0, newest: 0 };
    taking.sockets++;
    this.#taking.set(id, taking);
    // Also where it has a socket here: of all its sockets on all nodes this becomes the newest.
    store.take(id, hello.resumeGeneration, (answer, taken) => {
      if (--taking.sockets === 0) this.#taking.delete(id);
      if (session.state === "gone") return;
      const before = this.#byId.get(id);
      const rooms = roomsOf({ session, hello, before, answer, taken, roomNamesBytesMax });
      if (rooms === null) return this.#beginInstead(session, hello);
      session.id = id;
      session.generation = before === undefined ? taken : Math.max(taken, before.generation + 1);
      if (taking.newest > session.generation) return this.#refuse(session, "session_replaced");
      if (before !== undefined) this.#replace(before);
      this.#admit(session, true, rooms);
      const owner = "value" in answer ? answer.value?.node ?? node : node;
      if (owner !== node && this.#byId.get(id) === session) toNode(owner, { kind: "taken", session: id, generation: session.generation });
    });
  }

  /** There is no such session any more. A resume token alone does not begin one: it would outlive the token behind it. */
  #beginInstead(session: HubSession, hello: HelloRecord): void {
    if (hello.mayBegin) this.#begin(session);
    else this.#refuse(session, "token_expired");
  }

  #arrive(reactor: Reactor, hello: HelloRecord): HubSession {
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
      generation: 0,
      state: "arriving",
    };
    (this.#sockets[reactor.index] ??= [])[slot] = session;
    this.#arrivals.add(session);
    return session;
  }

  #admit(session: HubSession, resumed: boolean, rooms: PlaceInRoom[]): void {
    const { reactor, slot, life, id, userKey: key } = session;
    if (session.state === "over") return this.#options.store.end(id, session.generation);
    if (countOf(this.#ofUser(key)) >= this.#options.sessionsPerUserMax) return this.#refuse(session, "too_many_sessions");
    session.state = "here";
    this.#arrivals.remove(session);
    this.#byId.set(id, session);
    this.#byUser.set(key, withOne(this.#ofUser(key), session));
    if (resumed) this.resumed++;
    // They are entered again as they are joined; until then a loss must not forget them.
    if (rooms.length > 0) session.rooms = placesOf(rooms);
    if (resumed) this.#write(session);
    // At once, where that is of use: its client may come back to another node before anything else is written of it.
    else if (this.#options.store.outlivesProcess) this.#options.store.put(this.#record(session));
    this.#options.onBegin(session);
    writeAdmitted(reactor.link, { slot, life, session: id, generation: session.generation, resumed, rooms });
  }

  // ------------------------------------------------------------------------------- going

  /** The socket is gone; `over`: and with it the session. */
  gone(reactor: Reactor, slot: number, life: number, over: boolean): void {
    const session = this.find(reactor, slot, life);
    if (session === undefined) return;
    this.#sockets[reactor.index]![slot] = undefined;
    if (session.state === "here") this.#lost(session, over);
    this.#arrivals.remove(session);
    session.state = over && session.state === "arriving" ? "over" : "gone";
  }

  /** A reactor is gone, and the sockets of all its sessions. */
  forgetReactor(reactor: Reactor): void {
    for (const session of this.#sockets[reactor.index] ?? []) {
      if (session === undefined) continue;
      if (session.state === "here") this.#lost(session, false);
      this.#arrivals.remove(session);
      session.state = "gone";
    }
    this.#sockets[reactor.index] = [];
  }

  /** A session has its socket on another node now. One that was resumed here later than that stays. */
  taken(id: string, generation: number): void {
    const session = this.#byId.get(id);
    if (session !== undefined && session.generation < generation) this.#replace(session);
    const taking = this.#taking.get(id);
    if (taking !== undefined) taking.newest = Math.max(taking.newest, generation);
  }

  /** Those of a user that have a socket here. */
  countOf(tenant: string, user: string): number {
    return countOf(this.#ofUser(userKey(tenant, user)));
  }

  /** Closes every session of a user, and lets none of them come back, whether it has a socket or not. Sockets that were closed. */
  disconnect(tenant: string, user: string): number {
    this.#options.store.endAll(tenant, user);
    return this.close(tenant, user);
  }

  /** Closes those that have a socket here, and ends them; hellos that the store is asked about are refused. How many there were. */
  close(tenant: string, user: string): number {
    const sessions = this.#allOf(userKey(tenant, user));
    for (const session of sessions) this.#end(session);
    return sessions.length;
  }

  #end(session: HubSession): void {
    if (session.state === "arriving") return this.#refuse(session, "disconnected");
    this.#kick(session, "disconnected");
    this.#lost(session, true);
    session.state = "gone";
  }

  #allOf(key: string): HubSession[] {
    return [...allOf(this.#ofUser(key)), ...this.#arrivals.of(key)];
  }

  /** All that have a socket here, and those that are arriving, which have no id yet. */
  here(): HubSession[] {
    return [...this.#byId.values(), ...this.#arrivals.all()];
  }

  /** Closes and ends those of them that have their socket still. */
  end(sessions: readonly SessionHere[]): void {
    for (const { userKey: key, socketId } of sessions) {
      const session = this.#allOf(key).find((one) => one.socketId === socketId);
      if (session !== undefined) this.#end(session);
    }
  }

  /** Disconnects the user, and refuses every token and every resume that was given out until now. When that is, and sockets that were closed. */
  signOut(tenant: string, user: string): { time: number; closed: number } {
    const time = Date.now();
    this.signedOut(tenant, user, time);
    this.#options.store.signOut(userKey(tenant, user), time);
    return { time, closed: this.disconnect(tenant, user) };
  }

  /** A user was signed out, here or on another node. That holds here at once, whatever the store says of it. */
  signedOut(tenant: string, user: string, time: number): void {
    this.#signedOut.note(userKey(tenant, user), time);
  }

  /** Another socket has the session now. Its rooms are not left: they come along. */
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
    this.#unlist(session);
    if (over) return this.#options.store.end(session.id, session.generation);
    this.#options.store.put(this.#record(session));
  }

  #unlist(session: HubSession): void {
    this.#unwritten.delete(session);
    this.#byId.delete(session.id);
    const left = withoutOne(this.#ofUser(session.userKey), session);
    if (left === null) this.#byUser.delete(session.userKey);
    else this.#byUser.set(session.userKey, left);
    this.#options.onEnd(session);
  }

  #ofUser(key: string): Held<HubSession> {
    return this.#byUser.get(key) ?? null;
  }

  /** It does not become a session. Its socket's last records are still to come, as of one that was replaced. */
  #refuse(session: HubSession, name: CloseName): void {
    if (session.state === "over") return;
    this.#arrivals.remove(session);
    session.state = "gone";
    writeKick(session.reactor.link, session.slot, session.life, name);
  }

  // ------------------------------------------------------------------------------- what it is in

  /** @param seq up to where it has been given the room's publications */
  entered(session: HubSession, room: HubRoom, seq: number): void {
    session.rooms = withPlace(session.rooms, this.#placeIn(room, seq));
    this.#write(session);
  }

  /** One for all who come into a room one after the other while nothing is published. */
  #placeIn({ name, epoch }: HubRoom, seq: number): PlaceInRoom {
    const { name: lastName, epoch: lastEpoch, seq: lastSeq } = this.#lastPlace;
    if (name !== lastName || epoch !== lastEpoch || seq !== lastSeq) this.#lastPlace = { name, epoch, seq };
    return this.#lastPlace;
  }

  /** What it has been given of a room where it is already; never back. */
  advanced(session: HubSession, room: HubRoom, seq: number): void {
    const place = placeIn(session.rooms, room.name);
    if (place !== undefined && (place.epoch !== room.epoch || place.seq < seq)) this.entered(session, room, seq);
  }

  left(session: HubSession, name: string): void {
    session.rooms = withoutPlace(session.rooms, name);
    this.#write(session);
  }

  #write(session: HubSession): void {
    if (session.state !== "here" || !this.#options.store.outlivesProcess) return;
    this.#unwritten.add(session);
    this.#writer ??= setTimeout(() => this.#flush(), writeAfterMs).unref();
  }

  /** The store does not have this session, or for null some, as it should: written again. */
  forgotten(id: string | null): void {
    for (const session of id === null ? this.#byId.values() : [this.#byId.get(id)]) if (session !== undefined) this.#write(session);
  }

  #flush(max = writesMax): void {
    this.#writer = null;
    for (const session of this.#unwritten) {
      if (max-- <= 0) {
        this.#writer = setTimeout(() => this.#flush(), writeAfterMs).unref();
        return;
      }
      this.#unwritten.delete(session);
      this.#options.store.put(this.#record(session));
    }
  }

  #record({ id, userKey: key, device, generation, rooms }: HubSession): Parameters<Store["put"]>[0] {
    return { id, tenant: tenantOfUser(key), user: nameOfUser(key), device, node: this.#options.node, generation, rooms: listed(rooms) };
  }

  /** Keeps the stored sessions of the sockets that are here alive, where there are such, this share (one of `parts`) of them at a time. */
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
    if (this.#writer !== null) clearTimeout(this.#writer);
    this.#flush(Infinity);
  }
}

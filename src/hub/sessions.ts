/**
 * The sessions of one node: who says hello, who comes back, and whose socket is whose. The hub alone knows all of a
 * user's sessions, so limits per user, replaced sockets and signing out are decided here; the store behind the seam
 * knows what outlives a socket.
 */
import type { CloseName } from "../errors.ts";
import { randomId } from "../ids.ts";
import { writeAdmitted, writeKick, type HelloRecord, type PlaceInRoom } from "../link/records.ts";
import { nameOfRoom, userKey } from "../roomkeys.ts";
import type { Sessions as Store } from "../sessions/sessions.ts";
import { headOf, type Reactor, type Room } from "./rooms.ts";

/** A session that has a socket on this node. Another socket of it is another record. */
export interface HubSession {
  readonly id: string;
  /** Unlike the id, of this socket alone. */
  readonly life: string;
  readonly userKey: string;
  readonly hello: Pick<HelloRecord, "slot" | "life" | "json" | "user" | "tenant" | "device">;
  readonly reactor: Reactor;
  rooms: PlaceInRoom[];
  /** arriving: the store is being asked. gone: replaced or closed, its socket's last records are still to come. */
  state: "arriving" | "here" | "gone";
}

export interface SessionsOptions {
  readonly store: Store;
  readonly node: string;
  readonly sessionsPerUserMax: number;
  /** The user's first session of this life is here, or its last is gone. */
  onBegin(session: HubSession): void;
  onEnd(session: HubSession): void;
}

/** Changes of a session's rooms are written together: a client joins many at once. */
const writeAfterMs = 50;

export class Sessions {
  /** Sessions that were resumed, and sockets that were closed for it or by the application. */
  resumed = 0;
  kicked = 0;
  readonly #options: SessionsOptions;
  /** By reactor and slot. */
  readonly #sockets: (HubSession | undefined)[][] = [];
  readonly #byId = new Map<string, HubSession>();
  readonly #byUser = new Map<string, HubSession[]>();
  readonly #unwritten = new Set<HubSession>();
  #lives = 0;
  #writer: NodeJS.Timeout | null = null;

  constructor(options: SessionsOptions) {
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
    return session?.reactor === reactor && session.hello.life === life ? session : undefined;
  }

  // ------------------------------------------------------------------------------- coming

  hello(reactor: Reactor, hello: HelloRecord): void {
    const key = userKey(hello.tenant, hello.user);
    this.#options.store.signedOutAt(key, (answer) => {
      // A store that cannot be read keeps nobody out: it is the exception that someone was signed out.
      const time = "value" in answer ? answer.value : 0;
      // A token that does not say when it was issued may be from before.
      if (time > 0 && hello.issuedAt <= time) {
        return writeKick(reactor.link, hello.slot, hello.life, "disconnected");
      }
      if (hello.resume === "") this.#begin(reactor, hello, key);
      else this.#resume(reactor, hello, key);
    });
  }

  #begin(reactor: Reactor, hello: HelloRecord, key: string): void {
    const session = this.#arrive(reactor, hello, key, randomId(16));
    this.#admit(session, false, []);
  }

  #resume(reactor: Reactor, hello: HelloRecord, key: string): void {
    const before = this.#byId.get(hello.resume);
    if (before !== undefined && before.userKey !== key) return this.#beginInstead(reactor, hello, key);
    const session = this.#arrive(reactor, hello, key, hello.resume);
    if (before !== undefined) {
      this.#replace(before);
      return this.#admit(session, true, placesFor(before.rooms, hello.positions));
    }
    this.#options.store.take(hello.resume, (answer) => {
      if (session.state === "gone") return;
      // The store is away: the signed token says that there was such a session, and the client where it was.
      if ("error" in answer) return this.#admit(session, true, [...hello.positions]);
      const record = answer.value;
      if (record === null || userKey(record.tenant, record.user) !== key) {
        this.#forget(session);
        return this.#beginInstead(reactor, hello, key);
      }
      this.#admit(session, true, placesFor(record.rooms, hello.positions));
    });
  }

  /** There is no such session any more. A resume token alone does not begin one: it would outlive the token behind it. */
  #beginInstead(reactor: Reactor, hello: HelloRecord, key: string): void {
    if (hello.mayBegin) this.#begin(reactor, hello, key);
    else writeKick(reactor.link, hello.slot, hello.life, "token_expired");
  }

  #arrive(reactor: Reactor, hello: HelloRecord, key: string, id: string): HubSession {
    const { slot, life, json, user, tenant, device } = hello;
    const session: HubSession = {
      id,
      life: `${id}.${++this.#lives}`,
      userKey: key,
      hello: { slot, life, json, user, tenant, device },
      reactor,
      rooms: noRooms,
      state: "arriving",
    };
    (this.#sockets[reactor.index] ??= [])[slot] = session;
    return session;
  }

  #admit(session: HubSession, resumed: boolean, rooms: PlaceInRoom[]): void {
    const { reactor, id, userKey: key, hello } = session;
    // Whoever asked for the same session meanwhile was first.
    const other = this.#byId.get(id);
    if (other !== undefined && other !== session) this.#replace(other);
    const mates = this.#byUser.get(key);
    if (mates !== undefined && mates.length >= this.#options.sessionsPerUserMax) {
      this.#forget(session);
      return writeKick(reactor.link, hello.slot, hello.life, "too_many_sessions");
    }
    session.state = "here";
    this.#byId.set(id, session);
    if (mates === undefined) this.#byUser.set(key, [session]);
    else mates.push(session);
    if (resumed) this.resumed++;
    // The rooms are counted again as they are joined; until then a loss must not forget them.
    if (rooms.length > 0) session.rooms = [...rooms];
    this.#write(session);
    this.#options.onBegin(session);
    writeAdmitted(reactor.link, { slot: hello.slot, life: hello.life, session: id, resumed, rooms });
  }

  // ------------------------------------------------------------------------------- going

  /** The socket is gone; `over`: and with it the session. */
  gone(reactor: Reactor, slot: number, life: number, over: boolean): void {
    const session = this.find(reactor, slot, life);
    if (session === undefined) return;
    this.#sockets[reactor.index]![slot] = undefined;
    if (session.state === "here") this.#lost(session, over);
    session.state = "gone";
  }

  /** A reactor is gone, and the sockets of all its sessions. */
  forgetReactor(reactor: Reactor): void {
    for (const session of this.#sockets[reactor.index] ?? []) {
      if (session?.state === "here") this.#lost(session, false);
      if (session !== undefined) session.state = "gone";
    }
    this.#sockets[reactor.index] = [];
  }

  /** Closes every session of a user, and lets none of them come back. Sockets that were closed. */
  disconnect(tenant: string, user: string): number {
    const sessions = [...(this.#byUser.get(userKey(tenant, user)) ?? [])];
    for (const session of sessions) {
      this.#kick(session, "disconnected");
      this.#lost(session, true);
      session.state = "gone";
    }
    return sessions.length;
  }

  /** Disconnects the user, and refuses every token and every resume that was given out until now. */
  signOut(tenant: string, user: string): number {
    this.#options.store.signOut(userKey(tenant, user), Date.now());
    return this.disconnect(tenant, user);
  }

  /** Another socket has the session now. Its rooms are not left: they come along. */
  #replace(session: HubSession): void {
    this.#kick(session, "session_replaced");
    if (session.state === "here") this.#unlist(session);
    session.state = "gone";
  }

  #kick({ reactor, hello }: HubSession, name: CloseName): void {
    this.kicked++;
    if (reactor.live) writeKick(reactor.link, hello.slot, hello.life, name);
  }

  #lost(session: HubSession, over: boolean): void {
    this.#unlist(session);
    if (over) return this.#options.store.end(session.id);
    this.#options.store.put(this.#record(session));
  }

  #unlist(session: HubSession): void {
    this.#unwritten.delete(session);
    this.#byId.delete(session.id);
    const mates = this.#byUser.get(session.userKey) ?? [];
    mates.splice(mates.indexOf(session), 1);
    if (mates.length === 0) this.#byUser.delete(session.userKey);
    this.#options.onEnd(session);
  }

  /** It never became a session. */
  #forget(session: HubSession): void {
    const { reactor, hello } = session;
    if (this.find(reactor, hello.slot, hello.life) === session) this.#sockets[reactor.index]![hello.slot] = undefined;
    session.state = "gone";
  }

  // ------------------------------------------------------------------------------- what it is in

  /** @param seq up to where it has been given the room's publications */
  entered(session: HubSession, room: Room, seq: number): void {
    const place = { name: room.name, epoch: headOf(room).epoch, seq };
    const at = session.rooms.findIndex(({ name }) => name === room.name);
    if (at >= 0) session.rooms[at] = place;
    else if (session.rooms === noRooms) session.rooms = [place];
    else session.rooms.push(place);
    this.#write(session);
  }

  left(session: HubSession, room: string): void {
    const name = nameOfRoom(room);
    session.rooms = session.rooms.filter((place) => place.name !== name);
    this.#write(session);
  }

  #write(session: HubSession): void {
    if (session.state !== "here") return;
    this.#unwritten.add(session);
    this.#writer ??= setTimeout(() => this.#flush(), writeAfterMs).unref();
  }

  #flush(): void {
    this.#writer = null;
    for (const session of this.#unwritten) this.#options.store.put(this.#record(session));
    this.#unwritten.clear();
  }

  #record({ id, rooms, hello: { tenant, user, device } }: HubSession): Parameters<Store["put"]>[0] {
    return { id, tenant, user, device, node: this.#options.node, rooms };
  }

  /** Keeps the stored sessions of the sockets that are here alive. */
  keep(): void {
    for (const id of this.#byId.keys()) this.#options.store.keep(id);
  }

  close(): void {
    if (this.#writer !== null) clearTimeout(this.#writer);
    this.#flush();
  }
}

/** Shared by all sessions in no room. */
const noRooms: PlaceInRoom[] = [];

/** The rooms of a stored session, each from where its client says it is, else from where the store has it. */
function placesFor(rooms: readonly PlaceInRoom[], positions: readonly PlaceInRoom[]): PlaceInRoom[] {
  const said = new Map(positions.map((place) => [place.name, place]));
  return rooms.map((room) => said.get(room.name) ?? room);
}

/**
 * The rooms into which the application joins users. The store has them for every user. This brings them to the sessions
 * here: when a session arrives, when a node says that a user's rooms have changed, and when such a message may have been
 * missed. A message is only the reason to read: what the store answers counts, and it answers in the order of asking.
 */
import { writeAssign, writeUnassign } from "../../link/sessions.ts";
import type { Sessions as Store } from "../../sessions/sessions.ts";
import { placeIn } from "./places.ts";
import type { HubSession } from "./session.ts";

export interface AssignedOptions {
  readonly store: Store;
  /** Sessions of the user with a socket here, and those arriving. */
  ofUser(userKey: string): HubSession[];
  /** Users who have any. */
  users(): Iterable<string>;
  /** The session is out of a room that it was in. */
  onRemoved(session: HubSession, room: string): void;
  /** Whether it is a name that a client may use. A store that others can write may hold anything. */
  isRoomName(name: string): boolean;
}

/** What has become of the sessions of one user here. */
export interface Assignment {
  /** Sessions that are in the room, or have left it. */
  readonly sessions: number;
  /** Sessions that have not joined, or not yet. */
  readonly refused: number;
}

type Settle = (joined: boolean | null) => void;

/** Shared by all sessions whose user has no rooms; and by those whose user's rooms could not be read. */
const none: ReadonlySet<string> = new Set();
export const unread: ReadonlySet<string> = new Set();
const noNames: readonly string[] = [];

/** How long an answer waits for sessions to join: a reactor may lag, or the broker may be unavailable. */
const joinMs = 1_500;
/** For messages that were lost without a lost connection. */
const reconcileMs = 300_000;
/** Users that are read together. */
const usersMax = 250;

export class Assigned {
  /** Sessions that could not be joined. */
  refused = 0;
  readonly #options: AssignedOptions;
  /** Sessions that the reactor was told to join into a room, and who waits for that. */
  readonly #joining = new Map<HubSession, Map<string, Set<Settle>>>();
  readonly #timer = setInterval(() => this.reconcile(), reconcileMs).unref();
  #reconciling = false;
  #again = false;

  constructor(options: AssignedOptions) {
    this.#options = options;
  }

  /** Reads the rooms of a session that arrives. */
  read(session: HubSession, done: () => void): void {
    this.#options.store.assigned(session.userKey, (answer) => {
      session.assigned = "value" in answer ? this.#valid(answer.value) : unread;
      done();
    });
  }

  /** The admitted session learns of those rooms that did not fit into `ready`. */
  assignOthers(session: HubSession, named: readonly string[]): void {
    if (named.length === session.assigned.size) return;
    for (const room of session.assigned) if (!named.includes(room)) assign(session, room);
  }

  /**
   * A user's rooms have changed, among them `room`: also sessions that left it by themselves are joined again, or that
   * joined it by themselves leave. For null, only what the application did before is undone or completed.
   * @param done gets null where the store cannot be read
   */
  changed(userKey: string, room: string | null, done: (assignment: Assignment | null) => void): void {
    const { store, ofUser } = this.#options;
    if (ofUser(userKey).length === 0) return done({ sessions: 0, refused: 0 });
    store.assigned(userKey, (answer) => {
      if ("error" in answer) return done(null);
      const rooms = this.#valid(answer.value);
      const sessions = ofUser(userKey);
      const here = sessions.filter(({ state }) => state === "here");
      if (room !== null && rooms.has(room)) this.#join(here, room, done);
      else done({ sessions: room === null ? 0 : this.#leave(here, room), refused: 0 });
      for (const session of sessions) this.#apply(session, rooms);
    });
  }

  /** Reads the rooms of all users here again. */
  reconcile(): void {
    this.#again = this.#reconciling;
    if (this.#reconciling) return;
    this.#reconciling = true;
    this.#reconcileFrom([...this.#options.users()], 0);
  }

  #reconcileFrom(users: readonly string[], from: number): void {
    const some = users.slice(from, from + usersMax);
    let waiting = some.length;
    let failures = 0;
    const read = (assignment: Assignment | null) => {
      if (assignment === null) failures++;
      // What one user has may be unreadable. Where nothing can be read, the store calls again when it can.
      if (--waiting === 0) setImmediate(() => (failures === some.length ? this.#reconciled() : this.#reconcileFrom(users, from + usersMax)));
    };
    if (waiting === 0) return this.#reconciled();
    for (const user of some) this.changed(user, null, read);
  }

  #reconciled(): void {
    this.#reconciling = false;
    if (this.#again) this.reconcile();
  }

  #valid(rooms: readonly string[]): ReadonlySet<string> {
    return rooms.length === 0 ? none : new Set(rooms.filter((room) => this.#options.isRoomName(room)));
  }

  #apply(session: HubSession, rooms: ReadonlySet<string>): void {
    const before = session.assigned;
    session.assigned = rooms;
    // One that arrives is told when it is admitted.
    if (session.state !== "here") return;
    for (const room of rooms) if (!before.has(room)) assign(session, room);
    for (const room of before) if (!rooms.has(room)) this.#unassign(session, room);
  }

  #join(sessions: readonly HubSession[], room: string, done: (assignment: Assignment) => void): void {
    const absent = sessions.filter(({ rooms }) => placeIn(rooms, room) === undefined);
    for (const session of sessions) {
      if (!session.assigned.has(room)) session.assigned = new Set(session.assigned).add(room);
      // Also to those that are in it: a leave of the client may be on its way here.
      assign(session, room);
    }
    let waiting = absent.length;
    let joined = sessions.length - absent.length;
    let refused = 0;
    if (waiting === 0) return done({ sessions: joined, refused });
    const finish = () => {
      clearTimeout(timer);
      for (const session of absent) this.#settle(session, room, settle);
      done({ sessions: joined, refused: refused + waiting });
    };
    const settle: Settle = (isIn) => {
      if (isIn === true) joined++;
      if (isIn === false) refused++;
      if (--waiting === 0) finish();
    };
    const timer = setTimeout(finish, joinMs).unref();
    for (const session of absent) this.#wait(session, room, settle);
  }

  /** Returns how many sessions leave the room. Later publications do not reach them: the reactor reads this before. */
  #leave(sessions: readonly HubSession[], room: string): number {
    const leaving = sessions.filter(({ rooms, assigned }) => placeIn(rooms, room) !== undefined || assigned.has(room));
    for (const session of leaving) {
      const left = new Set(session.assigned);
      left.delete(room);
      session.assigned = left;
      this.#unassign(session, room);
    }
    return leaving.length;
  }

  /** At once, not when the reactor says so: a session whose socket is lost meanwhile must not be resumed in the room. */
  #unassign(session: HubSession, room: string): void {
    const { reactor, slot, life } = session;
    if (reactor.live) writeUnassign(reactor.link, slot, life, room);
    this.#options.onRemoved(session, room);
  }

  // ------------------------------------------------------------------------------- what becomes of it

  #wait(session: HubSession, room: string, settle: Settle): void {
    let rooms = this.#joining.get(session);
    if (rooms === undefined) this.#joining.set(session, (rooms = new Map<string, Set<Settle>>()));
    const known = rooms.get(room);
    if (known === undefined) rooms.set(room, new Set([settle]));
    else known.add(settle);
  }

  /** Removes one that waits, or all of them for null, and returns those. */
  #settle(session: HubSession, room: string, only: Settle | null): readonly Settle[] {
    const rooms = this.#joining.get(session);
    const waiting = rooms?.get(room);
    if (rooms === undefined || waiting === undefined) return [];
    if (only !== null) waiting.delete(only);
    if (only === null || waiting.size === 0) rooms.delete(room);
    if (rooms.size === 0) this.#joining.delete(session);
    return only === null ? [...waiting] : [];
  }

  /** The session has joined the room, by whomever. */
  joined(session: HubSession, room: string): void {
    if (this.#joining.size > 0) for (const settle of this.#settle(session, room, null)) settle(true);
  }

  /** The session could not join, or could not be brought back. */
  unplaced(session: HubSession, room: string): void {
    if (session.assigned.has(room)) this.refused++;
    for (const settle of this.#settle(session, room, null)) settle(false);
  }

  ended(session: HubSession): void {
    const rooms = this.#joining.get(session);
    if (rooms === undefined) return;
    for (const room of [...rooms.keys()]) for (const settle of this.#settle(session, room, null)) settle(null);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

/** Those of them whose names fit into so many bytes. */
export function fitting(names: ReadonlySet<string>, bytesMax: number): readonly string[] {
  if (names.size === 0) return noNames;
  let bytesLeft = bytesMax;
  return [...names].filter((name) => (bytesLeft -= Buffer.byteLength(name)) >= 0);
}

function assign({ reactor, slot, life }: HubSession, room: string): void {
  if (reactor.live) writeAssign(reactor.link, slot, life, room);
}


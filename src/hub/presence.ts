/**
 * Presence on this node. It tells the store which users are in a room or online, and sends the changes that the store
 * reports. A change of a room goes to its members like a publication: encoded once for each format, with one record for
 * each reactor. Replies use the same ring. So a client that asks for the members knows which changes come after the
 * answer.
 */
import type { ErrorCode } from "../errors.ts";
import { writeReply, type Asker } from "../link/records.ts";
import { writeStatus, writePresenceChanged, type PresenceRecord, type WatchRecord } from "../link/presence.ts";
import type { Encoder } from "../protocol/formats/encoder.ts";
import { formatCount } from "../protocol/formats/formats.ts";
import type { ServerFrame } from "../protocol/messages.ts";
import type { Presence as Store, RoomChange, Status } from "../presence/presence.ts";
import { nameOfRoom, nameOfUser, roomKey, tenantOfUser, userKey } from "../protocol/roomkeys.ts";
import type { KindOf } from "../config/roomnames.ts";
import { listed } from "./sessions/places.ts";
import { countIn, type AttachedReactor, type HubRoom, type HubRooms } from "./rooms.ts";
import type { HubSession } from "./sessions/session.ts";
import { Watches } from "./watches.ts";

export interface HubPresenceOptions {
  readonly store: Store;
  readonly rooms: HubRooms;
  /** By index. */
  readonly reactors: readonly (AttachedReactor | null)[];
  readonly kindOf: KindOf;
  readonly encoder: Encoder;
  /** About the bytes of all names in one frame. */
  readonly pageBytesMax: number;
  readonly watchedPerSessionMax: number;
  refuse(reactor: AttachedReactor, asker: Asker, code: ErrorCode): void;
}

/** Bytes of a user in a frame besides the name, and the factor by which JSON can lengthen a name. */
const userBytes = 48;
const jsonFactor = 2;
/** Sessions in one record: it must fit the smallest ring. */
const sessionsPerRecord = 128;
/** News that waited because a reactor lagged is tried again after this. */
const laterMs = 250;

export class HubPresence {
  /** Changes of rooms and users that were sent to members and watchers. */
  changes = 0;
  readonly #options: HubPresenceOptions;
  readonly #watches = new Watches<HubSession>();
  /** By room and by user, the newest news that waits until the reactors have caught up. */
  readonly #late = new Map<string, () => void>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: HubPresenceOptions) {
    this.#options = options;
  }

  // ------------------------------------------------------------------------------- coming and going

  began({ userKey: user, socketId, id, generation }: HubSession): void {
    this.#options.store.online(user, socketId, { id, isNew: generation === 0 });
  }

  /** The session leaves all its rooms here. Later records of the reactor about them change nothing. */
  ended(session: HubSession, isOver: boolean): void {
    const { store, kindOf, rooms } = this.#options;
    for (const { name } of listed(session.rooms)) {
      if (kindOf(name)?.hasMembers === false) continue;
      const key = roomKey(tenantOfUser(session.userKey), name);
      store.leave(key, session.userKey, session.socketId);
      const room = rooms.named(key);
      if (room !== undefined) this.emptied(room);
    }
    for (const user of this.#watches.end(session)) store.unwatch(user);
    store.offline(session.userKey, session.socketId, { id: session.id, isOver });
  }

  /** The user was disconnected: sessions without a socket have ended, too. */
  closed(user: string): void {
    this.#options.store.endLost(user);
  }

  /** Enters the user before it follows the room: the first member needs no event about itself. */
  entered({ userKey: user, socketId, state }: HubSession, room: HubRoom): void {
    // A session that was replaced has left for good, though its last joins may still arrive.
    if (state !== "here" || !room.kind.hasMembers) return;
    this.#options.store.enter(room.key, user, socketId);
    if (!room.kind.presenceEvents || room.followed) return;
    room.followed = true;
    this.#options.store.follow(room.key);
  }

  left({ userKey: user, socketId }: HubSession, room: HubRoom): void {
    if (room.kind.hasMembers) this.#options.store.leave(room.key, user, socketId);
  }

  /** A room without members here needs no presence events. */
  emptied(room: HubRoom): void {
    if (!room.followed || room.members > 0) return;
    room.followed = false;
    this.#options.store.unfollow(room.key);
  }

  // ------------------------------------------------------------------------------- commands

  answer(reactor: AttachedReactor, asked: PresenceRecord): void {
    const { store, pageBytesMax: bytesMax } = this.#options;
    const { room, after, limit } = asked;
    store.members(room, { after, limit, bytesMax, bytesEach: userBytes }, (answer) => {
      if ("error" in answer) return this.#options.refuse(reactor, asked, answer.error);
      // The reactor may have begun to lag meanwhile: pages are not queued for it.
      if (reactor.link.congested) return this.#options.refuse(reactor, asked, "overloaded");
      const { members, ...page } = answer.value;
      const named = members.map(({ user, sessions }) => ({ user: nameOfUser(user), sessions }));
      this.#reply(reactor, asked, { id: asked.id, presence: { room: nameOfRoom(room), ...page, members: named } });
    });
  }

  watch(reactor: AttachedReactor, session: HubSession, asked: WatchRecord): void {
    const { store, watchedPerSessionMax, pageBytesMax } = this.#options;
    const users = asked.users.map((user) => userKey(tenantOfUser(session.userKey), user));
    if (!asked.begin) {
      for (const user of this.#watches.remove(session, users)) store.unwatch(user);
      return this.#reply(reactor, asked, { id: asked.id, watched: { statuses: [] } });
    }
    if (bytesOf(asked.users) > pageBytesMax * jsonFactor) return this.#options.refuse(reactor, asked, "too_large");
    if (this.#watches.countWith(session, users) > watchedPerSessionMax) {
      return this.#options.refuse(reactor, asked, "too_many_watched");
    }
    for (const user of this.#watches.add(session, users)) store.watch(user);
    store.statuses(users, (answer) => {
      if ("error" in answer) return this.#options.refuse(reactor, asked, answer.error);
      this.#reply(reactor, asked, { id: asked.id, watched: { statuses: answer.value.map(named) } });
    });
  }

  // ------------------------------------------------------------------------------- news of the seam

  roomChanged(key: string, change: RoomChange): void {
    const { rooms, reactors, encoder, pageBytesMax } = this.#options;
    const room = rooms.named(key);
    if (room === undefined || room.members === 0) return;
    // A late change may have replaced earlier ones, so it carries counts only. They stay right.
    const counts = { ...change, joined: [], left: [], countsOnly: true };
    if (this.#mustWait(`room ${key}`, () => this.roomChanged(key, counts))) return;
    this.changes++;
    const isLong = bytesOf(change.joined) + bytesOf(change.left) > pageBytesMax;
    const names = isLong ? { joined: [], left: [], countsOnly: true } : { joined: change.joined.map(nameOfUser), left: change.left.map(nameOfUser) };
    const presenceChanged = { ...change, ...names, room: room.name };
    for (let wire = 0; wire < formatCount; wire++) {
      let frame: Uint8Array | null = null;
      for (const reactor of reactors) {
        if (reactor == null || countIn(room, reactor.index, wire) === 0) continue;
        frame ??= encoder.frame(wire, { id: 0, presenceChanged });
        writePresenceChanged(reactor.link, room.handle, wire, change.version, frame);
      }
    }
  }

  statusChanged(status: Status): void {
    const sessions = this.#watches.of(status.user);
    if (sessions.length === 0 || this.#mustWait(`user ${status.user}`, () => this.statusChanged(status))) return;
    this.changes++;
    for (let wire = 0; wire < formatCount; wire++) {
      let frame: Uint8Array | null = null;
      for (const reactor of this.#options.reactors) {
        if (reactor == null) continue;
        const watching = sessions.filter((session) => session.reactor === reactor && session.wire === wire);
        if (watching.length === 0) continue;
        frame ??= this.#options.encoder.frame(wire, { id: 0, userStatus: named(status) });
        for (let i = 0; i < watching.length; i += sessionsPerRecord) {
          writeStatus(reactor.link, watching.slice(i, i + sessionsPerRecord).map(({ slot, life }) => ({ slot, life })), frame);
        }
      }
    }
  }

  /** Presence gives way first when a reactor lags. Newer news about the same room or user replaces older. */
  #mustWait(of: string, tell: () => void): boolean {
    this.#late.delete(of);
    if (!this.#options.reactors.some((reactor) => reactor?.link.congested === true)) return false;
    this.#late.set(of, tell);
    this.#timer ??= setTimeout(() => this.#tellLate(), laterMs).unref();
    return true;
  }

  #tellLate(): void {
    this.#timer = null;
    const late = [...this.#late.values()];
    // News that still has to wait is added again. News without a receiver any more is dropped.
    this.#late.clear();
    for (const tell of late) tell();
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#late.clear();
  }

  #reply(reactor: AttachedReactor, asker: Asker, frame: ServerFrame): void {
    if (!reactor.live || asker.id === 0) return;
    writeReply(reactor.link, asker.slot, asker.life, this.#options.encoder.frame(asker.wire, frame));
  }

  usage(): { rooms: number; members: number; users: number; watches: number; changes: number } {
    return { ...this.#options.store.usage(), watches: this.#watches.size, changes: this.changes };
  }
}

function named({ user, online, lastSeen }: Status): { user: string; online: boolean; lastSeen: number } {
  return { user: nameOfUser(user), online, lastSeen };
}

function bytesOf(users: readonly string[]): number {
  return users.reduce((sum, user) => sum + Buffer.byteLength(user) + userBytes, 0);
}

/** The embedded presence of one node, in memory: it ends with the process, and so do the sessions that it is of. */
import { Due } from "./due.ts";
import type { Presence, PresenceEvents } from "./presence.ts";
import { Room, type Member } from "./room.ts";
import { Statuses } from "./statuses.ts";

export interface MemoryPresenceOptions {
  /** A user who goes and is back within this has not been away. */
  readonly graceMs: number;
  /** Changes of a room are told together, this often at most. */
  readonly intervalMs: number;
  /** With more users than this in a room, or more changes at once, it is not told who they are. */
  readonly namedUsersMax: number;
  readonly namedChangesMax: number;
  /** How long, and of how many users, it is known when they were last seen. */
  readonly lastSeenTtlMs: number;
  readonly lastSeenMax: number;
  /** Milliseconds since 1970; replaced in tests. */
  readonly clock?: () => number;
}

const sweepMs = 60_000;

export function createMemoryPresence(options: MemoryPresenceOptions, events: PresenceEvents): Presence {
  const { graceMs, intervalMs, lastSeenTtlMs, lastSeenMax, clock = Date.now } = options;
  const namedMax = { users: options.namedUsersMax, changes: options.namedChangesMax };
  const statusChanged = events.statusChanged.bind(events);
  const statuses = new Statuses({ graceMs, lastSeenTtlMs, lastSeenMax, clock, statusChanged });
  const rooms = new Map<string, Room>();
  let members = 0;
  /** No lower than the version of any room that was forgotten: a room that comes back must not count anew. */
  let version = 0;

  const changed = new Due<Room>(intervalMs, (room) => {
    const change = room.takeChange();
    if (change !== null) events.roomChanged(room.key, change);
  });
  const leaving = new Due<Member>(graceMs, (member) => {
    const { room, user } = member;
    room.remove(member);
    members--;
    note(room, user, false);
    forgetUnless(room);
  });
  const sweeper = setInterval(() => statuses.expire(), sweepMs).unref();

  function roomOf(key: string): Room {
    let room = rooms.get(key);
    if (room === undefined) rooms.set(key, (room = new Room(key, version)));
    return room;
  }

  function note(room: Room, user: string, joined: boolean): void {
    if (!room.followed) return;
    room.note(user, joined, namedMax);
    changed.put(room);
  }

  /** Only rooms with members, or members who are to be told, are kept. */
  function forgetUnless(room: Room): void {
    if (room.users > 0 || room.followed) return;
    version = Math.max(version, room.version);
    rooms.delete(room.key);
  }

  return {
    enter(key, user, session) {
      const room = roomOf(key);
      const known = room.member(user);
      if (room.enter(user, session)) {
        members++;
        note(room, user, true);
      } else if (known !== undefined) leaving.take(known);
    },

    leave(key, user, session) {
      const member = rooms.get(key)?.leave(user, session) ?? null;
      if (member !== null) leaving.put(member);
    },

    follow(key) {
      const room = roomOf(key);
      if (room.followed) return;
      room.followed = true;
      // Whoever was told of the room before must see that it was not told of everything.
      room.version++;
    },

    unfollow(key) {
      const room = rooms.get(key);
      if (room === undefined) return;
      room.followed = false;
      room.forgetChange();
      changed.take(room);
      forgetUnless(room);
    },

    members(key, query, done) {
      const page = (rooms.get(key) ?? new Room(key, version)).page(query);
      done(page === null ? { error: "bad_request" } : { value: page });
    },

    online(user, session) {
      statuses.begin(user, session);
    },

    offline(user, session) {
      statuses.end(user, session);
    },

    statuses(users, done) {
      done({ value: users.map((user) => statuses.statusOf(user)) });
    },

    watch(user) {
      statuses.watch(user);
    },

    unwatch(user) {
      statuses.unwatch(user);
    },

    usage() {
      return { rooms: rooms.size, members, users: statuses.online };
    },

    async stop() {
      clearInterval(sweeper);
      changed.clear();
      leaving.clear();
      statuses.clear();
      rooms.clear();
    },
  };
}

/** The embedded presence of one node, in memory. It is lost with the process, like the sessions it describes. */
import { Due } from "./due.ts";
import { noFacts, OwnFacts } from "./facts.ts";
import type { AddedFacts, Presence, PresenceEvents } from "./presence.ts";
import { PresenceRoom, type PresenceMember } from "./room.ts";
import { Statuses } from "./statuses.ts";

export interface MemoryPresenceOptions {
  /** A user who returns within this time counts as present throughout. */
  readonly graceMs: number;
  /** Changes of a room are collected, and announced at this interval at most. */
  readonly intervalMs: number;
  /** Above these numbers, of users in a room or of changes at once, names are left out. */
  readonly namedUsersMax: number;
  readonly namedChangesMax: number;
  /** How long, and of how many users, last-seen times are kept. */
  readonly lastSeenTtlMs: number;
  readonly lastSeenMax: number;
  /** Milliseconds since 1970; replaced in tests. */
  readonly clock?: () => number;
}

const sweepMs = 60_000;

export function createMemoryPresence(options: MemoryPresenceOptions, events: PresenceEvents, addedFacts: AddedFacts = noFacts): Presence {
  const { graceMs, intervalMs, lastSeenTtlMs, lastSeenMax, clock = Date.now } = options;
  const namedMax = { users: options.namedUsersMax, changes: options.namedChangesMax };
  const statusChanged = events.statusChanged.bind(events);
  const facts = new OwnFacts(addedFacts);
  const turned = (user: string, isOnline: boolean) => facts.user(user, isOnline);
  const statuses = new Statuses({ graceMs, lastSeenTtlMs, lastSeenMax, clock, statusChanged, turned });
  const rooms = new Map<string, PresenceRoom>();
  let members = 0;
  /** At least the version of every room that was dropped: a room that returns must not count from the beginning. */
  let version = 0;

  const changed = new Due<PresenceRoom>(intervalMs, (room) => {
    const change = room.takeChange();
    if (change !== null) events.roomChanged(room.key, change);
  });
  const leaving = new Due<PresenceMember>(graceMs, (member) => {
    const { room, user } = member;
    room.remove(member);
    members--;
    facts.member(room.key, user, false, room.users);
    note(room, user, false);
    forgetUnless(room);
  });
  const sweeper = setInterval(() => statuses.expire(), sweepMs).unref();

  function roomOf(key: string): PresenceRoom {
    let room = rooms.get(key);
    if (room === undefined) rooms.set(key, (room = new PresenceRoom(key, version)));
    return room;
  }

  function note(room: PresenceRoom, user: string, joined: boolean): void {
    if (!room.followed) return;
    room.note(user, joined, namedMax);
    changed.put(room);
  }

  /** Keeps a room only while it has members or is followed. */
  function forgetUnless(room: PresenceRoom): void {
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
        facts.member(key, user, true, room.users);
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
      // Members who saw the room before must notice that they missed changes.
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
      const page = (rooms.get(key) ?? new PresenceRoom(key, version)).page(query);
      done(page === null ? { error: "bad_request" } : { value: page });
    },

    online(user, session, about) {
      statuses.begin(user, session);
      if (about !== undefined) facts.began(user, session, about);
    },

    offline(user, session, about) {
      if (about !== undefined) facts.lost(user, session, about);
      statuses.end(user, session);
    },

    endLost(user) {
      facts.endLost(user);
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
      facts.clear();
      statuses.clear();
      rooms.clear();
    },
  };
}

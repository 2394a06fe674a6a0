/**
 * The presence of all nodes on one Redis, which counts: who is in a room, what has changed since it was told, and the
 * version of that. Nodes say who comes and goes, look when a grace or an interval is over, and are told of changes over a
 * channel. What a dead node has left is taken back by one of the others; a node that was taken for dead, and one whose
 * Redis has forgotten everything, says all of it again.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Answer } from "../broker/broker.ts";
import type { Command, RedisLink } from "../redis/redis.ts";
import { Writes, type Write } from "../redis/writes.ts";
import { Due } from "./due.ts";
import { keysOf } from "./keys.ts";
import type { MemoryPresenceOptions } from "./memory.ts";
import { news as newsOf } from "./news.ts";
import { pageOf } from "./page.ts";
import { Places } from "./places.ts";
import { Remains } from "./remains.ts";
import type { MembersQuery, Presence, PresenceEvents, RoomPresence, Status } from "./presence.ts";
import * as scripts from "./scripts.ts";

export interface RedisPresenceOptions extends Omit<MemoryPresenceOptions, "lastSeenMax"> {
  readonly redis: RedisLink;
  readonly prefix: string;
  /** This node. */
  readonly node: string;
  /** How often it looks whether it is taken for dead, and says again that it is not. */
  readonly aliveMs: number;
  readonly log: { warn(fields: object, text: string): void };
  /** Writes that wait, while Redis is away or not as fast as they come. */
  readonly waitingMax?: number;
}

export interface RedisPresence extends Presence {
  /** A node is gone, or back: what one that is gone had is taken back, unless another node does so already. */
  nodeGone(node: string): void;
  nodeBack(node: string): void;
}

const waitingMaxDefault = 100_000;
/** What is said again waits until no more than this share of it waits to be written; looked at so often. */
const sayingShare = 0.05;
const sayingMs = 5;
/** A grace is looked at this long after it should be over. */
const lateMs = 5;
/** A page is read again if something was told meanwhile. */
const readsMax = 5;
const nowhere = "";

export async function createRedisPresence(options: RedisPresenceOptions, events: PresenceEvents): Promise<RedisPresence> {
  const { redis, prefix, node, graceMs, intervalMs, namedUsersMax, namedChangesMax, lastSeenTtlMs, aliveMs, log, waitingMax = waitingMaxDefault, clock = Date.now } = options;
  const keys = keysOf(prefix);
  const mine = `${node}/`;
  const places = new Places();
  const online = new Places();
  const followed = new Set<string>();
  /** Version of the last change told of a room this node follows. */
  const toldOf = new Map<string, number>();
  const watched = new Map<string, { watchers: number; version: number; status: Status | null }>();
  let leavingMembers = 0;
  /** Redis may have something of this node that is not so any more. */
  let isDoubtful = false;
  /** How often all has begun to be said again: the last time counts. */
  let sayings = 0;
  let stopped = false;

  const writes = new Writes({ redis, what: "presence", waitingMax, log, onDone, onDropped: () => beginAnew() });
  const ofRoom = (script: string, room: string, ...args: (string | number)[]): Command => ["eval", script, 7, ...keys.room(room), ...args];
  const ofUser = (script: string, user: string, ...args: (string | number)[]): Command => ["eval", script, 2, ...keys.user(user), ...args];

  const dirty = new Due<string>(intervalMs, (room) => {
    // What could not be told has to be told later.
    void ask(ofRoom(scripts.tellRoom, room, keys.channel, room)).then((told) => told === null && !stopped && followed.has(room) && dirty.put(room));
  });
  const graces = new Due<string>(graceMs + lateMs, (room) => endGrace(room));
  const userGraces = new Due<string>(graceMs + lateMs, (user) => endUserGrace(user));
  /** Rooms, by how many of their members this node has in a grace. */
  const inGrace = new Map<string, number>();

  const remains = new Remains({
    redis, keys, node, log,
    dropRoom: async (room, gone) => {
      await redis.run(...ofRoom(scripts.dropNode, room, `${gone}/`, graceMs, gone));
      // Graces that had begun there are nobody else's to end.
      graces.put(room);
    },
    dropUser: async (user, gone) => {
      await redis.run(...ofUser(scripts.dropUser, user, `${gone}/`, graceMs, clock()));
      userGraces.put(user);
    },
  });

  await redis.subscribe(keys.channel, onMessage);
  // Whatever an earlier process of this name has left.
  await remains.takeBack(node).catch(() => undefined); // Redis went away: said again when it is back
  await markAlive();
  redis.onUp(() => (isDoubtful ? beginAnew() : void lookWhetherAlive()));
  redis.onAnother(() => beginAnew());
  redis.onMissed(() => askWhatWasMissed());
  const looking = setInterval(() => void lookWhetherAlive(), aliveMs).unref();

  // --------------------------------------------------------------------------- what is written

  function enter(room: string, user: string, session: string): void {
    writes.put(`e${room}\n${session}\n${user}`, ofRoom(scripts.enterRoom, room, `${mine}${session}\n${user}`, user, namedUsersMax, namedChangesMax, keys.channel, room));
  }

  function begin(user: string, session: string): void {
    writes.put(`b${user}\n${session}`, ofUser(scripts.userOnline, user, mine + session, keys.channel, user));
  }

  function remember(set: string, name: string): void {
    writes.put(`${set}${name}`, ["sadd", set, name]);
  }

  function forget(set: string, name: string): void {
    writes.put(`${set}${name}`, ["srem", set, name]);
  }

  /** Of those who have no session left, on any node: their grace has begun. The others have a look, too: see endGrace. */
  function onDone({ command }: Write, result: unknown): void {
    const of = String(command.at(-1));
    if (command[1] === scripts.leaveRoom) {
      if (result === 1) {
        leavingMembers++;
        inGrace.set(of, (inGrace.get(of) ?? 0) + 1);
      }
      graces.put(of);
    }
    if (command[1] === scripts.userOffline) userGraces.put(of);
  }

  /**
   * It is one timer for all who left the room: whoever left after the first needs another. A room that has nothing of this
   * node any more is not among what it would leave behind.
   */
  function endGrace(room: string): void {
    const left = inGrace.get(room) ?? 0;
    inGrace.delete(room);
    void ask(ofRoom(scripts.endGraces, room, namedUsersMax, namedChangesMax, keys.channel, room)).then((within) => {
      const still = typeof within === "number" ? within : Infinity;
      leavingMembers -= left - Math.min(left, still);
      if (stopped) return;
      if (still > 0) {
        inGrace.set(room, (inGrace.get(room) ?? 0) + Math.min(left, still));
        graces.put(room);
      } else if (!places.has(room) && !followed.has(room) && !inGrace.has(room)) forget(keys.roomsOf(node), room);
    });
  }

  function endUserGrace(user: string): void {
    void ask(ofUser(scripts.endUserGrace, user, keys.channel, user, Math.max(1, lastSeenTtlMs))).then((within) => {
      if (stopped) return;
      if (within !== 0) userGraces.put(user);
      else if (!online.hasUser(nowhere, user)) forget(keys.usersOf(node), user);
    });
  }

  /** Null: Redis is away. What is missed then is made good when all is said again. */
  async function ask(command: Command): Promise<unknown> {
    writes.flush();
    try {
      return await redis.run(...command);
    } catch {
      return null;
    }
  }

  // --------------------------------------------------------------------------- who is alive

  function markAlive(): Promise<unknown> {
    return ask(["set", keys.alive(node), "1"]);
  }

  async function lookWhetherAlive(): Promise<void> {
    if ((await ask(["exists", keys.alive(node)])) !== 0 || stopped) return;
    await markAlive();
    void sayAgain(false);
  }

  /** Redis may have something of this node that is not so any more, or lack something: away with it, and all is said again. */
  function beginAnew(): void {
    isDoubtful = true;
    const has = { room: (room: string) => places.has(room) || followed.has(room), user: (user: string) => online.hasUser(nowhere, user) };
    const again = remains.takeBackStale(has).then(async () => {
      await markAlive();
      await sayAgain(true);
    });
    again.catch((error: unknown) => log.warn({ problem: String(error) }, "presence could not be written anew; it is tried again when Redis is back"));
  }

  /** A little at a time, since what does not fit in what may wait would be dropped; where Redis goes away, it is begun anew. */
  async function sayAgain(afresh: boolean): Promise<void> {
    const number = ++sayings;
    isDoubtful = true;
    for (const room of new Set([...followed, ...places.names()])) {
      sayRoom(room, afresh);
      for (const [user, session] of places.of(room)) {
        enter(room, user, session);
        if (!(await mayGoOn(number))) return;
      }
      if (!(await mayGoOn(number))) return;
    }
    let before = "";
    for (const [user, session] of online.of(nowhere)) {
      if (user !== before) sayUser((before = user), afresh);
      begin(user, session);
      if (!(await mayGoOn(number))) return;
    }
    isDoubtful = false;
  }

  async function mayGoOn(number: number): Promise<boolean> {
    while (writes.size > waitingMax * sayingShare && redis.up && !stopped && number === sayings) await sleep(sayingMs, undefined, { ref: false });
    return redis.up && !stopped && number === sayings;
  }

  /** Whoever is taken out of it here is back before the grace is over: the very next that is written. */
  function sayRoom(room: string, afresh: boolean): void {
    if (afresh) {
      writes.put(`z${room}`, ofRoom(scripts.dropNode, room, mine, graceMs, node));
      graces.put(room);
    }
    remember(keys.roomsOf(node), room);
    // What changed while nobody was known to follow was told to nobody.
    if (followed.has(room)) (follow(room), doubt(room));
  }

  function sayUser(user: string, afresh: boolean): void {
    if (afresh) writes.put(`y${user}`, ofUser(scripts.dropUser, user, mine, graceMs, clock()));
    remember(keys.usersOf(node), user);
  }

  function follow(room: string): void {
    remember(keys.roomsOf(node), room);
    writes.put(`f${room}`, ofRoom(scripts.followRoom, room, node));
    // Something may be untold for want of somebody to tell it.
    dirty.put(room);
  }

  function doubt(room: string): void {
    writes.put(`d${room}`, ofRoom(scripts.doubtRoom, room));
    dirty.put(room);
  }

  // --------------------------------------------------------------------------- what is told

  function onMessage(text: string): void {
    // The link says so where it is none of these.
    const news = newsOf.parse(JSON.parse(text));
    if (stopped) return;
    if ("gone" in news) remains.nodeGone(news.gone);
    else if ("dirty" in news) {
      if (followed.has(news.dirty)) dirty.put(news.dirty);
    } else if ("room" in news) {
      const { room, ...change } = news;
      if (!followed.has(room)) return;
      toldOf.set(room, change.version);
      events.roomChanged(room, change);
    } else onStatus(news);
  }

  /** Rooms are told that they have to ask again, statuses are read. */
  function askWhatWasMissed(): void {
    for (const room of followed) doubt(room);
    for (const [user, { status }] of watched) if (status !== null) statusOf(user).catch(() => undefined); // away again: there will be another time
  }

  function onStatus({ version, ...status }: Status & { version: number }): void {
    const entry = watched.get(status.user);
    if (entry === undefined || version <= entry.version) return;
    const holds = entry.status !== null && entry.status.online === status.online && entry.status.lastSeen === status.lastSeen;
    Object.assign(entry, { version, status });
    if (!holds) events.statusChanged(status);
  }

  // --------------------------------------------------------------------------- what is asked

  async function page(room: string, query: MembersQuery): Promise<RoomPresence> {
    let read: RoomPresence;
    let reads = 0;
    do {
      writes.flush();
      const rows = await redis.run(...ofRoom(scripts.readRoom, room, query.after === "" ? 0 : query.after, query.limit === 0 ? 0 : query.limit + 1, namedUsersMax, namedChangesMax, keys.channel, room));
      read = pageOf(rows as (string | number)[], query);
      // Told meanwhile, it would be newer than what is answered behind it.
    } while (read.version < (toldOf.get(room) ?? 0) && ++reads < readsMax);
    return read;
  }

  async function statusOf(user: string): Promise<Status> {
    const read = await redis.run(...ofUser(scripts.readUser, user, keys.channel, user, Math.max(1, lastSeenTtlMs)));
    const [isOnline, seen, version] = read as (string | null)[];
    const entry = watched.get(user);
    // What was told is no older.
    if (entry?.status && Number(version ?? 0) < entry.version) return entry.status;
    const at = isOnline === "1" ? 0 : Number(seen ?? 0);
    const status = { user, online: isOnline === "1", lastSeen: at + lastSeenTtlMs > clock() ? at : 0 };
    if (entry === undefined) return status;
    const before = entry.status;
    Object.assign(entry, { version: Number(version ?? 0), status });
    // Who asked before is told now: what is published of it is no news any more.
    if (before !== null && (before.online !== status.online || before.lastSeen !== status.lastSeen)) events.statusChanged(status);
    return status;
  }

  function answer<T>(reading: Promise<T>, done: (answer: Answer<T>) => void): void {
    reading.then(
      (value) => done({ value }),
      () => done({ error: "unavailable" }),
    );
  }

  return {
    enter(room, user, session) {
      const isNew = !places.has(room);
      if (!places.add(room, user, session)) return;
      if (isNew) remember(keys.roomsOf(node), room);
      enter(room, user, session);
    },

    leave(room, user, session) {
      if (!places.remove(room, user, session)) return;
      // The room comes last: see onDone. An enter that waits goes first: a user who was there for a moment was there.
      writes.put(`l${room}\n${session}\n${user}`, ofRoom(scripts.leaveRoom, room, `${mine}${session}\n${user}`, user, graceMs, room));
    },

    follow(room) {
      if (followed.has(room)) return;
      followed.add(room);
      follow(room);
    },

    unfollow(room) {
      if (!followed.delete(room)) return;
      toldOf.delete(room);
      dirty.take(room);
      writes.put(`g${room}`, ofRoom(scripts.unfollowRoom, room, node));
      graces.put(room);
    },

    members(room, query, done) {
      if (!/^\d{0,15}$/.test(query.after)) return done({ error: "bad_request" });
      answer(page(room, query), done);
    },

    online(user, session) {
      if (!online.add(nowhere, user, session)) return;
      remember(keys.usersOf(node), user);
      begin(user, session);
    },

    offline(user, session) {
      if (!online.remove(nowhere, user, session)) return;
      writes.put(`o${user}\n${session}`, ofUser(scripts.userOffline, user, mine + session, graceMs, clock(), user));
    },

    statuses(users, done) {
      writes.flush();
      answer(Promise.all(users.map(statusOf)), done);
    },

    watch(user) {
      const entry = watched.get(user);
      if (entry === undefined) watched.set(user, { watchers: 1, version: 0, status: null });
      else entry.watchers++;
    },

    unwatch(user) {
      const entry = watched.get(user);
      if (entry !== undefined && --entry.watchers <= 0) watched.delete(user);
    },

    usage() {
      return { rooms: new Set([...places.names(), ...inGrace.keys()]).size, members: places.members + leavingMembers, users: online.members };
    },

    nodeGone: (gone) => remains.nodeGone(gone),
    nodeBack: (back) => remains.nodeBack(back),

    async stop() {
      stopped = true;
      remains.stop();
      clearInterval(looking);
      for (const due of [dirty, graces, userGraces]) due.clear();
      for (const room of followed) writes.put(`g${room}`, ofRoom(scripts.unfollowRoom, room, node));
      await writes.stop();
      // Graces that have begun are the others' to end.
      if (redis.up) await redis.run("publish", keys.channel, JSON.stringify({ gone: node })).catch(() => undefined);
      places.clear();
      online.clear();
    },
  };
}

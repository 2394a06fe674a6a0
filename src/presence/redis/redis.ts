/**
 * The presence of all nodes on one Redis, which counts: who is in a room, what has changed since it was told, and the
 * version of that. Nodes say who comes and goes, look when a grace or an interval is over, and are told of changes over a
 * channel. What a dead node has left is taken back by one of the others; a node that was taken for dead, and one whose
 * Redis has forgotten everything, says all of it again.
 */
import { RedisAway, type RedisLink } from "../../redis/redis.ts";
import { Due } from "../due.ts";
import { Graces } from "./graces.ts";
import { keysOf } from "./keys.ts";
import type { MemoryPresenceOptions } from "../memory.ts";
import { news as newsOf } from "./news.ts";
import { pageOf } from "../page.ts";
import { nowhere, OwnSessions } from "./own.ts";
import { Remains } from "./remains.ts";
import type { MembersQuery, Presence, PresenceEvents, RoomPresence, Status } from "../presence.ts";
import { pagesOf } from "./scan.ts";
import { Saying } from "./saying.ts";
import { Watched } from "./watched.ts";
import { Written } from "./written.ts";

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
/** A page is read again if something was told meanwhile. */
const readsMax = 5;
/** Rooms, or users, that Redis is asked about together. */
const askedMax = 100;
/** What was missed and could not be asked for is asked for again after this. */
const askAgainMs = 1_000;

export async function createRedisPresence(options: RedisPresenceOptions, events: PresenceEvents): Promise<RedisPresence> {
  const { redis, prefix, node, graceMs, intervalMs, lastSeenTtlMs, log, waitingMax = waitingMaxDefault, clock = Date.now } = options;
  const keys = keysOf(prefix);
  const places = new OwnSessions();
  const online = new OwnSessions();
  const followed = new Set<string>();
  /** Version of the last change told of a room this node follows. */
  const toldOf = new Map<string, number>();
  const watched = new Watched((status) => redis.contain(() => events.statusChanged(status)));
  let stopped = false;
  /** How often something was missed: the last time counts. */
  let missed = 0;

  const written = new Written({
    ...options, keys, waitingMax, clock,
    left(room, isLast) {
      if (isLast) graces.begin(room);
      graces.lookAtRoom(room);
    },
    wentOffline: (user) => graces.lookAtUser(user),
    dropped: () => saying.beginAnew(),
  });
  const dirty = new Due<string>(intervalMs, tell);
  const graces: Graces = new Graces({
    graceMs,
    contain: (callback) => redis.contain(callback),
    endRoom: (room) => written.endGraces(room),
    endUser: (user) => written.endUserGrace(user),
    // What has nothing of this node any more is not among what it would leave behind.
    roomOver: (room) => void (places.has(room) || followed.has(room) || written.unlistRoom(room)),
    userOver: (user) => void (online.hasUser(nowhere, user) || written.unlistUser(user)),
  });
  const remains = new Remains({
    redis, keys, node, log,
    dropRoom: async (room, gone) => {
      await written.dropRoom(room, gone);
      // Graces that had begun there are nobody else's to end.
      graces.lookAtRoom(room);
    },
    dropUser: async (user, gone) => {
      await written.dropUser(user, gone);
      graces.lookAtUser(user);
    },
  });

  await redis.subscribe(keys.channel, onMessage);
  // Whatever an earlier process of this name has left.
  const isBehind = await remains.takeBack(node).then(() => false, () => true);
  await written.markAlive();
  const saying: Saying = new Saying({ ...options, isBehind, written, remains, waitingMax, places, online, followed, sayRoom, sayUser });
  redis.onMissed(() => void askWhatWasMissed(++missed));

  // --------------------------------------------------------------------------- what is said

  function sayRoom(room: string, afresh: boolean): void {
    written.listRoom(room);
    // Graces that Redis has there may be nobody else's to end.
    if (afresh) graces.lookAtRoom(room);
    // What changed while nobody was known to follow was told to nobody.
    if (followed.has(room)) (follow(room), doubt(room));
    else if (afresh) written.unfollow(room);
  }

  function sayUser(user: string, afresh: boolean): void {
    if (afresh) written.offlineAll(user);
    written.listUser(user);
  }

  function follow(room: string): void {
    written.listRoom(room);
    written.follow(room);
    // Something may be untold for want of somebody to tell it.
    dirty.put(room);
  }

  function doubt(room: string): void {
    written.doubt(room);
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
      redis.contain(() => events.roomChanged(room, change));
    } else {
      const { version, ...status } = news;
      watched.told(status, version);
    }
  }

  /** Rooms are told that they have to ask again, statuses are read: some at a time, each when those before are answered. */
  async function askWhatWasMissed(time: number, rooms = [...followed], users = [...watched.known()]): Promise<void> {
    try {
      while (rooms.length > 0 || users.length > 0) {
        if (stopped || time !== missed) return;
        if (!redis.up) throw new RedisAway("it is asked again later");
        if (rooms.length > 0) await doubtAll(rooms.slice(0, askedMax));
        else await readAgain(users.slice(0, askedMax));
        (rooms.length > 0 ? rooms : users).splice(0, askedMax);
      }
    } catch {
      // Not only when the channels are heard again: what is asked goes over another connection.
      setTimeout(() => void askWhatWasMissed(time, rooms, users), askAgainMs).unref();
    }
  }

  async function doubtAll(rooms: readonly string[]): Promise<void> {
    for (const room of rooms) if (followed.has(room)) doubt(room);
    await written.settled();
  }

  /** One that Redis refuses to answer does not keep the others from being asked. */
  async function readAgain(users: readonly string[]): Promise<void> {
    for (const [i, read] of (await written.readUsers(users)).entries()) if (!(read instanceof Error)) statusOf(users[i]!, read);
  }

  /** What could not be told has to be told later. */
  async function tell(room: string): Promise<void> {
    if ((await written.tell(room)) === null && !stopped && followed.has(room)) dirty.put(room);
  }

  // --------------------------------------------------------------------------- what is asked

  async function page(room: string, query: MembersQuery): Promise<RoomPresence> {
    let read: RoomPresence;
    let reads = 0;
    do {
      read = pageOf(await written.readRoom(room, query.after === "" ? 0 : query.after, query.limit === 0 ? 0 : query.limit + 1), query);
      // Told meanwhile, it would be newer than what is answered behind it.
    } while (read.version < (toldOf.get(room) ?? 0) && ++reads < readsMax);
    return read;
  }

  async function statusesOf(users: readonly string[]): Promise<Status[]> {
    const all: Status[] = [];
    for (const some of pagesOf(users, askedMax)) {
      for (const [i, read] of (await written.readUsers(some)).entries()) {
        if (read instanceof Error) throw read;
        all.push(statusOf(some[i]!, read));
      }
    }
    return all;
  }

  function statusOf(user: string, [isOnline, seen, version]: readonly (string | null)[]): Status {
    const at = isOnline === "1" ? 0 : Number(seen ?? 0);
    const status = { user, online: isOnline === "1", lastSeen: at + lastSeenTtlMs > clock() ? at : 0 };
    return watched.read(status, Number(version ?? 0));
  }

  return {
    enter(room, user, session) {
      const isNew = !places.has(room);
      if (!places.add(room, user, session)) return;
      if (isNew) written.listRoom(room);
      written.enter(room, user, session);
    },

    leave(room, user, session) {
      if (places.remove(room, user, session)) written.leave(room, user, session);
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
      written.unfollow(room);
      graces.lookAtRoom(room);
    },

    members(room, query, done) {
      if (!/^\d{0,15}$/.test(query.after)) return done({ error: "bad_request" });
      redis.answer(page(room, query), done);
    },

    online(user, session) {
      if (!online.add(nowhere, user, session)) return;
      written.listUser(user);
      written.online(user, session);
    },

    offline(user, session) {
      if (online.remove(nowhere, user, session)) written.offline(user, session);
    },

    statuses(users, done) {
      written.flush();
      redis.answer(statusesOf(users), done);
    },

    watch: (user) => watched.watch(user),
    unwatch: (user) => watched.unwatch(user),

    usage() {
      return { rooms: new Set([...places.names(), ...graces.rooms()]).size, members: places.members + graces.members, users: online.members };
    },

    nodeGone: (gone) => remains.nodeGone(gone),
    nodeBack: (back) => remains.nodeBack(back),

    async stop() {
      stopped = true;
      remains.stop();
      saying.stop();
      graces.stop();
      dirty.clear();
      for (const room of followed) written.unfollow(room);
      await written.stop();
      // Graces that have begun are the others' to end.
      if (redis.up) await redis.run("publish", keys.channel, JSON.stringify({ gone: node })).catch(() => undefined);
      places.clear();
      online.clear();
    },
  };
}

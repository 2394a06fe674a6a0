/**
 * The presence of all nodes on one Redis. Redis has the members of a room, its unannounced changes, and its version.
 * Nodes write who enters and leaves, check when a grace or an interval is over, and receive changes over a channel. One
 * of the other nodes removes the entries of a dead node. A node that was declared dead writes all its entries again,
 * and so does one whose Redis has lost everything.
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
import type { Subject } from "../../facts/facts.ts";
import { Expiries } from "./expiries.ts";
import type { MembersQuery, Presence, PresenceEvents, RoomPresence, Status, WantedFacts } from "../presence.ts";
import { pagesOf } from "./scan.ts";
import { Saying } from "./saying.ts";
import { Watched } from "./watched.ts";
import { Written } from "./written.ts";

export interface RedisPresenceOptions extends Omit<MemoryPresenceOptions, "lastSeenMax"> {
  readonly redis: RedisLink;
  readonly prefix: string;
  /** This node. */
  readonly node: string;
  /** How often the node checks that it is not declared dead, and renews its mark. */
  readonly aliveMs: number;
  readonly log: { warn(fields: object, text: string): void };
  /** What webhooks tell. */
  readonly facts?: RedisPresenceFacts;
  /** Writes that wait, while Redis is unavailable or slower than they come. */
  readonly waitingMax?: number;
}

export interface RedisPresenceFacts extends WantedFacts {
  /** There may be facts of the subject. @param gone a dead node, whose entries this node has cleaned up */
  look(subject: Subject, gone?: string): void;
  /** Whether facts of the subject may wait: then it stays on this node's lists, for those who clean up after it. */
  has(subject: Subject): boolean;
}

const noFacts: RedisPresenceFacts = { ofRoom: () => "", ofUsers: "", sessionTtlMs: 0, isFull: () => false, refused() {}, look() {}, has: () => false };

export interface RedisPresence extends Presence {
  /** No facts of the subject wait any more. */
  factsTold(subject: Subject): void;
  /**
   * A node is gone, or is back. The entries of a node that is gone are removed, unless another node is already doing
   * so.
   */
  nodeGone(node: string): void;
  nodeBack(node: string): void;
}

const waitingMaxDefault = 100_000;
/** A page is read again at most so often when changes are announced meanwhile. */
const readsMax = 5;
/** Rooms or users in one request to Redis. */
const askedMax = 100;
/** Retry interval for missed changes that could not be requested. */
const askAgainMs = 1_000;

export async function createRedisPresence(options: RedisPresenceOptions, events: PresenceEvents): Promise<RedisPresence> {
  const { redis, prefix, node, graceMs, intervalMs, lastSeenTtlMs, log, waitingMax = waitingMaxDefault, clock = Date.now, facts = noFacts } = options;
  const keys = keysOf(prefix);
  const places = new OwnSessions();
  const online = new OwnSessions();
  /** By user and socket, the session behind it. Empty where no facts tell of sessions. */
  const ids = new Map<string, string>();
  const followed = new Set<string>();
  /** Version of the last announced change of each followed room. */
  const announcedOf = new Map<string, number>();
  const watched = new Watched((status) => redis.contain(() => events.statusChanged(status)));
  let stopped = false;
  /** How often messages were missed. Only the latest catch-up continues. */
  let missed = 0;

  const written = new Written({
    ...options, keys, waitingMax, clock,
    wanted: facts,
    onFacts: (subject) => facts.look(subject),
    left(room, isLast) {
      // It went off the list while this was under way.
      if (written.unlisted.room.has(room)) written.listRoom(room);
      if (isLast) graces.begin(room);
      graces.lookAtRoom(room);
    },
    wentOffline(user) {
      if (written.unlisted.user.has(user)) written.listUser(user);
      graces.lookAtUser(user);
      if (facts.ofUsers !== "") expiries.put(user, facts.sessionTtlMs);
    },
    dropped: () => saying.beginAnew(),
  });
  const dirty = new Due<string>(intervalMs, tell);
  const graces: Graces = new Graces({
    graceMs,
    contain: (callback) => redis.contain(callback),
    endRoom: (room) => written.endGraces(room),
    endUser: (user) => written.endUserGrace(user),
    // Rooms without entries of this node go off its list of rooms to clean up.
    roomOver: (room) => unlistRoom(room),
    userOver: (user) => unlistUser(user),
  });
  const expiries: Expiries = new Expiries({ endSessions: (user) => written.endSessions(user), over: (user) => unlistUser(user) });
  const remains = new Remains({
    redis, keys, node, log,
    dropRoom: async (room, gone) => {
      await written.dropRoom(room, gone);
      // Graces that began there now belong to this node, and so do facts that it has not told.
      graces.lookAtRoom(room);
      if (facts.ofRoom(room) === "" || stopped) return;
      written.listRoom(room);
      facts.look(`r${room}`, gone);
    },
    dropUser: async (user, gone) => {
      await written.dropUser(user, gone);
      graces.lookAtUser(user);
      if (facts.ofUsers === "" || stopped) return;
      written.listUser(user);
      expiries.put(user, facts.sessionTtlMs);
      facts.look(`u${user}`, gone);
    },
  });

  await redis.subscribe(keys.channel, onMessage);
  // Removes the entries of an earlier process under this name.
  const isBehind = await remains.takeBack(node).then(() => false, () => true);
  await written.markAlive();
  const saying: Saying = new Saying({ ...options, isBehind, written, remains, waitingMax, places, online, followed, idOf: (user, socket) => ids.get(`${user}\n${socket}`) ?? "", sayRoom, sayUser });
  redis.onMissed(() => void askWhatWasMissed(++missed));

  // --------------------------------------------------------------------------- lists for those who clean up

  function unlistRoom(room: string): void {
    if (!places.has(room) && !followed.has(room) && !graces.has(room) && !facts.has(`r${room}`)) written.unlistRoom(room);
  }

  function unlistUser(user: string): void {
    if (!online.hasUser(nowhere, user) && !graces.hasUser(user) && !expiries.has(user) && !facts.has(`u${user}`)) written.unlistUser(user);
  }

  // --------------------------------------------------------------------------- entries written again

  function sayRoom(room: string, afresh: boolean): void {
    written.listRoom(room);
    // Redis may have graces there that no other node ends.
    if (afresh) graces.lookAtRoom(room);
    // Changes from before this node followed reached no member here.
    if (followed.has(room)) (follow(room), doubt(room));
    else if (afresh) written.unfollow(room);
  }

  function sayUser(user: string, afresh: boolean): void {
    if (afresh) {
      written.offlineAll(user);
      if (facts.ofUsers !== "") expiries.put(user, facts.sessionTtlMs);
    }
    written.listUser(user);
  }

  function follow(room: string): void {
    written.listRoom(room);
    written.follow(room);
    // Changes may be waiting for a follower to announce them.
    dirty.put(room);
  }

  function doubt(room: string): void {
    written.doubt(room);
    dirty.put(room);
  }

  // --------------------------------------------------------------------------- announcements

  function onMessage(text: string): void {
    // The link logs an unreadable message.
    const news = newsOf.parse(JSON.parse(text));
    if (stopped) return;
    if ("gone" in news) remains.nodeGone(news.gone);
    else if ("dirty" in news) {
      if (followed.has(news.dirty)) dirty.put(news.dirty);
    } else if ("room" in news) {
      const { room, ...change } = news;
      if (!followed.has(room)) return;
      announcedOf.set(room, change.version);
      redis.contain(() => events.roomChanged(room, change));
    } else {
      const { version, ...status } = news;
      watched.announced(status, version);
    }
  }

  /** Catches up on missed messages: marks rooms as doubtful, and reads statuses, one batch after the other. */
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
      // Retries by timer too, since these requests use another connection than the channels.
      setTimeout(() => void askWhatWasMissed(time, rooms, users), askAgainMs).unref();
    }
  }

  async function doubtAll(rooms: readonly string[]): Promise<void> {
    for (const room of rooms) if (followed.has(room)) doubt(room);
    await written.settled();
  }

  /** An error for one user does not stop the others. */
  async function readAgain(users: readonly string[]): Promise<void> {
    for (const [i, read] of (await written.readUsers(users)).entries()) if (!(read instanceof Error)) statusOf(users[i]!, read);
  }

  /** If the announcement fails, it is tried again later. */
  async function tell(room: string): Promise<void> {
    if ((await written.tell(room)) === null && !stopped && followed.has(room)) dirty.put(room);
  }

  // --------------------------------------------------------------------------- reads

  async function page(room: string, query: MembersQuery): Promise<RoomPresence> {
    let read: RoomPresence;
    let reads = 0;
    do {
      read = pageOf(await written.readRoom(room, query.after === "" ? 0 : query.after, query.limit === 0 ? 0 : query.limit + 1), query);
      // Read again: an announcement made meanwhile is newer than the page, but would reach the client before it.
    } while (read.version < (announcedOf.get(room) ?? 0) && ++reads < readsMax);
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
      announcedOf.delete(room);
      dirty.take(room);
      written.unfollow(room);
      graces.lookAtRoom(room);
    },

    members(room, query, done) {
      if (!/^\d{0,15}$/.test(query.after)) return done({ error: "bad_request" });
      redis.answer(page(room, query), done);
    },

    online(user, session, about) {
      if (!online.add(nowhere, user, session)) return;
      if (facts.ofUsers !== "" && about !== undefined) ids.set(`${user}\n${session}`, about.id);
      written.listUser(user);
      written.online(user, session, about);
    },

    offline(user, session, about) {
      if (!online.remove(nowhere, user, session)) return;
      ids.delete(`${user}\n${session}`);
      written.offline(user, session, about);
    },

    endLost(user) {
      if (facts.ofUsers === "") return;
      // So that another node tells it, should this one exit before.
      written.listUser(user);
      written.endLost(user);
    },

    factsTold(subject) {
      if (stopped) return;
      if (subject.startsWith("r")) unlistRoom(subject.slice(1));
      else unlistUser(subject.slice(1));
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
      expiries.stop();
      dirty.clear();
      for (const room of followed) written.unfollow(room);
      await written.stop();
      // The graces that have begun are left to the other nodes.
      if (redis.up) await redis.run("publish", keys.channel, JSON.stringify({ gone: node })).catch(() => undefined);
      places.clear();
      online.clear();
      ids.clear();
    },
  };
}

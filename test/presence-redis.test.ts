/** Presence of several nodes on one Redis: one room for all, and what becomes of what a node leaves behind. */
import t, { type Test } from "tap";
import { Due } from "../src/presence/due.ts";
import type { RoomChange, RoomPresence, Status } from "../src/presence/presence.ts";
import { createRedisPresence, type RedisPresence } from "../src/presence/redis/redis.ts";
import { readUser, tellRoom } from "../src/presence/redis/scripts.ts";
import { Unlisted } from "../src/presence/redis/unlisted.ts";
import { openRedis } from "../src/redis/open.ts";
import { RedisAway, type RedisLink } from "../src/redis/redis.ts";
import type { Script } from "../src/redis/scripts.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { startProxy } from "./support/proxy.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const server = await startRedis(t);
const quiet = { info() {}, warn() {} };
const limits = { graceMs: 20, intervalMs: 20, namedUsersMax: 100, namedChangesMax: 100, lastSeenTtlMs: 3_600_000 };

interface Joined {
  readonly presence: RedisPresence;
  readonly link: RedisLink;
  readonly changes: (RoomChange & { room: string })[];
  readonly statuses: Status[];
  members(room: string): Promise<string[]>;
}

async function join(t: Test, { url }: Pick<TestRedis, "url">, prefix: string, node: string, waitingMax = 1_000, graceMs = limits.graceMs): Promise<Joined> {
  const link = await openRedis({ target: readRedisTarget(url)!, answerMs: 1_000, log: quiet });
  const changes: Joined["changes"] = [];
  const statuses: Status[] = [];
  const events = { roomChanged: (room: string, change: RoomChange) => void changes.push({ room, ...change }), statusChanged: (status: Status) => void statuses.push(status) };
  const presence = await createRedisPresence({ ...limits, graceMs, redis: link, prefix, node, aliveMs: 100, log: quiet, waitingMax }, events);
  t.teardown(async () => {
    await presence.stop();
    await link.close();
  });
  const page = (room: string) => new Promise<RoomPresence | null>((resolve) => presence.members(room, { after: "", limit: 100, bytesMax: 1e6, bytesEach: 0 }, (answer) => resolve("value" in answer ? answer.value : null)));
  const members = async (room: string) => ((await page(room))?.members ?? []).map(({ user, sessions }) => `${user} ${sessions}`).sort();
  return { presence, link, changes, statuses, members };
}

const joinAll = (t: Test, nodes: readonly string[], redis = server, prefix = freshPrefix()) => Promise.all(nodes.map((node) => join(t, redis, prefix, node)));

async function becomes(node: Joined, room: string, members: string[], what: string): Promise<void> {
  await until(async () => (await node.members(room)).join() === members.join(), what);
}

t.test("members are those of all nodes, a user on two nodes is one", async (t) => {
  const [a, b] = await joinAll(t, ["a", "b"]);
  a!.presence.enter("r", "ann", "1");
  b!.presence.enter("r", "ann", "1");
  b!.presence.enter("r", "bob", "2");
  for (const node of [a!, b!]) await becomes(node, "r", ["ann 2", "bob 1"], "both nodes' members");
  a!.presence.leave("r", "ann", "1");
  for (const node of [a!, b!]) await becomes(node, "r", ["ann 1", "bob 1"], "one session less");
  b!.presence.leave("r", "ann", "1");
  for (const node of [a!, b!]) await becomes(node, "r", ["bob 1"], "ann to be gone");
});

t.test("all nodes that follow a room are told the same, each change once", async (t) => {
  const [a, b, c] = await joinAll(t, ["a", "b", "c"]);
  for (const { presence } of [a!, b!]) presence.follow("r");
  await until(async () => (await server.client.keys("*room:{r}:f")).length > 0, "it to be followed");
  for (let i = 0; i < 30; i++) {
    const { presence } = [a!, b!, c!][i % 3]!;
    presence.enter("r", `u${i}`, "s");
    if (i % 5 === 0) presence.leave("r", `u${i}`, "s");
    if (i % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 15));
  }
  const apply = ({ changes }: Joined) => {
    const here = new Set<string>();
    for (const { joined, left } of changes) {
      for (const user of joined) here.add(user);
      for (const user of left) here.delete(user);
    }
    return here.size;
  };
  for (const node of [a!, b!]) await until(() => apply(node) === 24, "all to be told");
  t.same(a!.changes, b!.changes);
  t.same(c!.changes, [], "who does not follow is told nothing");
  const versions = a!.changes.map(({ version }) => version);
  t.same(versions, versions.map((_, i) => versions[0]! + i), "one after the other");
});

t.test("a user who goes from one node to another within the grace has not been away", async (t) => {
  const [a, b] = await joinAll(t, ["a", "b"]);
  b!.presence.follow("r");
  a!.presence.enter("r", "ann", "1");
  await until(() => b!.changes.some(({ joined }) => joined.includes("ann")), "ann to come");
  a!.presence.leave("r", "ann", "1");
  b!.presence.enter("r", "ann", "1");
  await becomes(a!, "r", ["ann 1"], "ann to be on the other node");
  b!.presence.enter("r", "bob", "1");
  await until(() => b!.changes.some(({ joined }) => joined.includes("bob")), "bob to come");
  t.notOk(b!.changes.some(({ left }) => left.includes("ann")));
});

t.test("a node whose user goes, and is still on another, has nothing of that user and the room any more", async (t) => {
  const prefix = freshPrefix();
  const [a, b] = await joinAll(t, ["a", "b"], server, prefix);
  for (const { presence } of [a!, b!]) {
    presence.follow("r");
    presence.enter("r", "ann", "1");
    presence.online("ann", "1");
  }
  await becomes(b!, "r", ["ann 2"], "ann to be on both");
  a!.presence.leave("r", "ann", "1");
  a!.presence.offline("ann", "1");
  await becomes(b!, "r", ["ann 1"], "ann to be on one");
  a!.presence.unfollow("r");
  await until(async () => (await server.client.keys(`${prefix}*-of:a`)).length === 0, "it to be off the lists of what the node would leave behind");
  t.equal((await server.client.keys(`${prefix}*-of:b`)).length, 2);
});

t.test("what a dead node has left is taken back, with a grace, once; users elsewhere stay", async (t) => {
  const prefix = freshPrefix();
  const [a, b] = await joinAll(t, ["a", "b"], server, prefix);
  const dead = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 1_000, log: quiet });
  const gone = await createRedisPresence({ ...limits, redis: dead, prefix, node: "gone", aliveMs: 60_000, log: quiet }, { roomChanged() {}, statusChanged() {} });
  a!.presence.follow("r");
  a!.presence.watch("ann");
  a!.presence.watch("bob");
  for (const user of ["ann", "bob"]) {
    gone.enter("r", user, user);
    gone.online(user, user);
  }
  b!.presence.enter("r", "bob", "b");
  b!.presence.online("bob", "b");
  await becomes(a!, "r", ["ann 1", "bob 2"], "all to be there");
  await until(() => a!.statuses.filter(({ online }) => online).length === 2, "both to be online");
  await dead.close();
  for (const { presence } of [a!, b!]) presence.nodeGone("gone");
  await becomes(b!, "r", ["bob 1"], "ann to be gone, bob not");
  await until(() => a!.changes.some(({ left }) => left.includes("ann")), "it to be told");
  await until(() => a!.statuses.some(({ user, online }) => user === "ann" && !online), "ann to be offline");
  t.notOk(a!.changes.some(({ left }) => left.includes("bob")));
  t.notOk(a!.statuses.some(({ user, online }) => user === "bob" && !online));
  t.equal(a!.changes.filter(({ left }) => left.includes("ann")).length, 1);
  await until(async () => (await server.client.keys(`${prefix}*-of:gone`)).length === 0, "nothing of it to be left");
});

t.test("a large room of a dead node is taken back in slices, its graces end a bounded number at once, and all of them", async (t) => {
  const own = await startRedis(t);
  const prefix = freshPrefix();
  const [a] = await joinAll(t, ["a"], own, prefix);
  const dead = await openRedis({ target: readRedisTarget(own.url)!, answerMs: 5_000, log: quiet });
  const gone = await createRedisPresence({ ...limits, redis: dead, prefix, node: "gone", aliveMs: 60_000, log: quiet }, { roomChanged() {}, statusChanged() {} });
  for (let i = 0; i < 3_000; i++) gone.enter("r", `u${i}`, `s${i}`);
  a!.presence.enter("r", "ann", "1");
  const sessions = () => own.client.scard(`${prefix}room:{r}:s`);
  await until(async () => (await sessions()) === 3_001, "all to be there");
  await dead.close();
  await own.client.config("RESETSTAT");
  a!.presence.nodeGone("gone");
  await until(async () => (await own.client.zcard(`${prefix}room:{r}:n`)) === 1, "all of them to have gone, with their graces");
  t.equal(await sessions(), 1);
  const stats = await own.client.info("commandstats");
  t.notMatch(stats, /cmdstat_smembers:/, "no script reads the room as a whole");
  const calls = (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
  t.ok(calls("sscan") >= 6, `${calls("sscan")} slices`);
  t.ok(calls("zrangebyscore") >= 6, `${calls("zrangebyscore")} scripts that end graces`);
});

t.test("of what falls due at the same time no more than 100 are under way, and all have their turn", async (t) => {
  const answers: (() => void)[] = [];
  let done = 0;
  const due = new Due<number>(1, async () => {
    await new Promise<void>((resolve) => answers.push(resolve));
    done++;
  });
  t.teardown(() => due.clear());
  for (let i = 0; i < 450; i++) due.put(i);
  for (let turns = 1; done < 450; turns++) {
    await until(() => answers.length >= Math.min(100, 450 - done), `turn ${turns}`);
    await new Promise((resolve) => setTimeout(resolve, 5)); // another turn, if there were one
    t.ok(answers.length <= 100, `${answers.length} under way`);
    for (const answer of answers.splice(0)) answer();
    await new Promise((resolve) => setImmediate(resolve));
  }
  due.put(0);
  await until(() => answers.length === 1, "what is put later");
});

t.test("what may have been missed is asked for a bounded number at once", async (t) => {
  const own = await startRedis(t);
  const [a] = await joinAll(t, ["a"], own);
  const { link, presence } = a!;
  const users = Array.from({ length: 400 }, (_, i) => `u${i}`);
  for (const user of users) presence.watch(user);
  for (const user of users) presence.follow(`r${user}`);
  await new Promise<void>((resolve) => presence.statuses(users, () => resolve()));
  await until(async () => (await own.client.keys("*:f")).length === users.length, "all rooms to be followed");
  const runAll = link.runAll.bind(link);
  let underWay = 0;
  let most = 0;
  let asked = 0;
  let isLost = true;
  link.runAll = async (commands) => {
    const asks = (script: Script) => commands.filter(([what]) => what === script).length;
    const statuses = asks(readUser);
    const evals = statuses + asks(tellRoom);
    if (statuses > 0 && isLost) {
      isLost = false;
      throw new RedisAway("the connection for commands was lost just then, and that for channels was not");
    }
    asked += evals;
    underWay += evals;
    most = Math.max(most, underWay);
    return runAll(commands).finally(() => (underWay -= evals));
  };
  await own.client.client("KILL", "TYPE", "pubsub");
  await until(() => asked >= 2 * users.length, "each room and user to be asked about");
  t.ok(most <= 200, `${most} at once`);
});

t.test("what a dead node has left is taken back though Redis was away just then, unless the node is back by then", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  const [a, back] = await joinAll(t, ["a", "back"], redis, prefix);
  const dead = await openRedis({ target: readRedisTarget(redis.url)!, answerMs: 1_000, log: quiet });
  const gone = await createRedisPresence({ ...limits, redis: dead, prefix, node: "gone", aliveMs: 60_000, log: quiet }, { roomChanged() {}, statusChanged() {} });
  a!.presence.follow("r");
  gone.enter("r", "ann", "1");
  back!.presence.enter("r", "bob", "2");
  await becomes(a!, "r", ["ann 1", "bob 1"], "both to be there");
  await dead.close();
  redis.pause();
  for (const node of ["gone", "back"]) a!.presence.nodeGone(node);
  await until(() => !a!.link.up, "it to be noticed");
  a!.presence.nodeBack("back");
  redis.resume();
  await becomes(a!, "r", ["bob 1"], "ann to be gone");
  t.notOk(a!.changes.some(({ left }) => left.includes("bob")), "bob was never away");
});

t.test("what a dead node has left is taken back though the node that began to died over it", async (t) => {
  const prefix = freshPrefix();
  const [a] = await joinAll(t, ["a"], server, prefix);
  const dead = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 1_000, log: quiet });
  const gone = await createRedisPresence({ ...limits, redis: dead, prefix, node: "gone", aliveMs: 60_000, log: quiet }, { roomChanged() {}, statusChanged() {} });
  gone.enter("r", "ann", "1");
  await becomes(a!, "r", ["ann 1"], "ann to be there");
  await dead.close();
  await server.client.set(`${prefix}lease:gone`, "another", "PX", 300);
  a!.presence.nodeGone("gone");
  await becomes(a!, "r", [], "ann to be gone when the lease is over");
});

/** Another process of this name has left so many rooms, one session in each: they are read in several pages. */
async function leftBehind(prefix: string, node: string, rooms = 3_000): Promise<() => Promise<number>> {
  const link = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: quiet });
  const presence = await createRedisPresence({ ...limits, redis: link, prefix, node, aliveMs: 60_000, log: quiet, waitingMax: 10 * rooms }, { roomChanged() {}, statusChanged() {} });
  for (let i = 0; i < rooms; i++) presence.enter(`r${i}`, "ann", "1");
  const left = async () => (await server.client.keys(`${prefix}room:*:s`)).length;
  await until(async () => (await left()) === rooms, "all rooms to be written");
  await link.close();
  return left;
}

t.test("what an earlier process of this name has left is taken back though Redis went away while that was done", async (t) => {
  const prefix = freshPrefix();
  const left = await leftBehind(prefix, "a");
  const all = await left();
  const way = await startProxy(t, server.port);
  way.delay(100);
  const starting = join(t, { url: `redis://127.0.0.1:${way.port}` }, prefix, "a");
  await until(async () => (await left()) < all, "it to be begun");
  way.cut();
  t.ok((await left()) > 0, "it is not done with");
  way.delay(0);
  await starting;
  await until(async () => (await left()) === 0, "the rest to be taken back");
});

t.test("a node that is back keeps what was not taken back yet, and is to say again what was", async (t) => {
  const prefix = freshPrefix();
  const left = await leftBehind(prefix, "back");
  const all = await left();
  const way = await startProxy(t, server.port);
  const a = await join(t, { url: `redis://127.0.0.1:${way.port}` }, prefix, "a");
  way.delay(100);
  a.presence.nodeGone("back");
  await until(async () => (await left()) < all, "it to be begun");
  a.presence.nodeBack("back");
  await until(async () => (await server.client.exists(`${prefix}lease:back`)) === 0, "it to be ended");
  t.ok((await left()) > 0, "what is left stays");
  t.equal(await server.client.scard(`${prefix}rooms-of:back`), all, "and could be found again");
  t.equal(await server.client.exists(`${prefix}alive:back`), 0, "upon which a node says all again");
});

t.test("a node that is back and gone again while it was seen to is seen to after all", async (t) => {
  const prefix = freshPrefix();
  const left = await leftBehind(prefix, "back");
  const all = await left();
  const [a] = await joinAll(t, ["a"], server, prefix);
  a!.presence.nodeGone("back");
  await until(async () => (await left()) < all, "it to be begun");
  a!.presence.nodeBack("back");
  a!.presence.nodeGone("back");
  await until(async () => (await left()) === 0, "nothing to be left");
});

t.test("a node that was taken for dead and is not says again who is there", async (t) => {
  const prefix = freshPrefix();
  const [a, b] = await joinAll(t, ["a", "b"], server, prefix);
  a!.presence.enter("r", "ann", "1");
  a!.presence.online("ann", "1");
  await becomes(b!, "r", ["ann 1"], "ann to be there");
  // It may be there again before anybody has looked, so Redis tells what it has taken away.
  const takenBack: string[] = [];
  await server.client.config("SET", "notify-keyspace-events", "KEA");
  const listener = server.client.duplicate();
  t.teardown(() => listener.disconnect());
  listener.on("pmessage", (_pattern: string, key: string, what: string) => void (/del|rem/.test(what) && takenBack.push(key)));
  await listener.psubscribe(`__keyspace@0__:${prefix}room:{r}*`);
  b!.presence.nodeGone("a");
  await until(() => takenBack.length > 0, "it to be taken back");
  await becomes(b!, "r", ["ann 1"], "ann to be there again");
});

t.test("a Redis that comes back empty is told everything again, and answers unavailable meanwhile", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await joinAll(t, ["a", "b"], redis);
  b!.presence.follow("r");
  b!.presence.watch("ann");
  a!.presence.enter("r", "ann", "1");
  a!.presence.online("ann", "1");
  await becomes(b!, "r", ["ann 1"], "ann to be there");
  await redis.stop();
  await until(() => !a!.link.up && !b!.link.up, "it to be noticed");
  const answer = await new Promise((resolve) => b!.presence.members("r", { after: "", limit: 0, bytesMax: 1, bytesEach: 0 }, resolve));
  t.same(answer, { error: "unavailable" });
  a!.presence.enter("r", "late", "2");
  await redis.start();
  await until(() => a!.link.up && b!.link.up, "it to be back");
  await becomes(b!, "r", ["ann 1", "late 1"], "all to be said again");
  a!.presence.enter("r", "new", "3");
  // Of what may have been missed nobody is named, and that may be among it.
  await until(() => b!.changes.some(({ joined, countsOnly, users }) => joined.includes("new") || (countsOnly && users === 3)), "changes to be told again");
});

t.test("more than may wait to be written: all of it is there in the end, and again when Redis has forgotten it", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  const a = await join(t, redis, prefix, "a", 300);
  const sessions = 1_000;
  for (let i = 0; i < sessions; i++) {
    a.presence.enter("r", `u${i}`, "s");
    a.presence.online(`u${i}`, "s");
  }
  const isThere = async () => (await redis.client.scard(`${prefix}room:{r}:s`)) === sessions && (await redis.client.keys(`${prefix}user:*:s`)).length === sessions;
  await until(isThere, "all to be there");
  await redis.stop();
  await until(() => !a.link.up, "it to be noticed");
  await redis.start();
  await until(isThere, "all to be there again");
});

t.test("a Redis that comes back with what it was told some time ago is told what is so now", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await joinAll(t, ["a", "b"], redis);
  b!.presence.follow("r");
  for (const user of ["ann", "bob"]) {
    a!.presence.enter("r", user, user);
    a!.presence.online(user, user);
  }
  await becomes(b!, "r", ["ann 1", "bob 1"], "both to be there");
  await redis.save();
  a!.presence.leave("r", "bob", "bob");
  a!.presence.offline("bob", "bob");
  b!.presence.enter("r", "eve", "eve");
  b!.presence.online("eve", "eve");
  await becomes(b!, "r", ["ann 1", "eve 1"], "bob to be gone, and eve there");
  await redis.stop();
  await until(() => !a!.link.up && !b!.link.up, "it to be noticed");
  await redis.start({ saved: true });
  await becomes(a!, "r", ["ann 1", "eve 1"], "it to be so again");
  t.notOk(b!.changes.some(({ left }) => left.includes("ann")), "who was there all the time is not told to have left");
  const online = () => new Promise<string[]>((resolve) =>
    a!.presence.statuses(["ann", "bob", "eve"], (answer) => resolve("value" in answer ? answer.value.filter((status) => status.online).map(({ user }) => user) : [])));
  await until(async () => (await online()).join() === "ann,eve", "those to be online");
});

t.test("who left just before Redis was restarted with what it had some time ago is not there again", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  const a = await join(t, redis, prefix, "a", 1_000, 0);
  const users = Array.from({ length: 50 }, (_, i) => `u${i}`);
  for (const user of users) {
    a.presence.enter(`r-${user}`, user, "s");
    a.presence.online(user, "s");
  }
  const left = async () => (await redis.client.keys(`${prefix}*:s`)).length;
  await until(async () => (await left()) === 2 * users.length, "all to be there");
  await redis.save();
  // Their graces are ended at different moments: before Redis goes, while it is away, when it is back.
  const going = users.map(async (user, i) => {
    await new Promise((resolve) => setTimeout(resolve, i));
    a.presence.leave(`r-${user}`, user, "s");
    a.presence.offline(user, "s");
  });
  await new Promise((resolve) => setTimeout(resolve, users.length / 2));
  await redis.stop();
  await Promise.all(going);
  await redis.start({ saved: true });
  await until(async () => (await left()) === 0, "all to be gone");
});

t.test("nobody is seen to leave a room that is larger than can be said again within the grace", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  const users = 2_000;
  const [a, b] = await Promise.all(["a", "b"].map((node) => join(t, redis, prefix, node, 10_000, 0)));
  for (let i = 0; i < users; i++) a!.presence.enter("r", `u${i}`, "s");
  a!.presence.enter("r", "gone", "s");
  await until(async () => (await redis.client.scard(`${prefix}room:{r}:s`)) === users + 1, "all to be there");
  await redis.save();
  a!.presence.leave("r", "gone", "s");
  await until(async () => (await redis.client.scard(`${prefix}room:{r}:s`)) === users, "one to be gone");
  b!.presence.follow("r");
  // Users are said behind all rooms.
  a!.presence.online("last", "s");
  await until(async () => (await redis.client.exists(`${prefix}user:{last}:u`)) === 1, "it to be written");
  await redis.stop();
  await until(() => !a!.link.up && !b!.link.up, "it to be noticed");
  const before = b!.changes.length;
  await redis.start({ saved: true });
  await until(async () => (await redis.client.exists(`${prefix}user:{last}:u`)) === 1, "all to be said again");
  await until(() => b!.changes.length > before && b!.changes.at(-1)!.users === users, "who is gone to be gone");
  t.same(b!.changes.slice(before).filter((change) => change.users < users), [], "nobody else was");
});

t.test("a node that is the last to notice that Redis has forgotten everything is told what came before it noticed", async (t) => {
  const prefix = freshPrefix();
  const [a, b] = await joinAll(t, ["a", "b"], server, prefix);
  b!.presence.follow("r");
  a!.presence.enter("r", "ann", "1");
  await until(() => b!.changes.length > 0, "ann to come");
  await server.client.del(await server.client.keys(`${prefix}*`));
  a!.presence.enter("r", "bob", "2");
  await becomes(b!, "r", ["ann 1", "bob 1"], "all to be said again");
  await until(() => b!.changes.some(({ joined, countsOnly }) => joined.includes("bob") || countsOnly), "b to be told of bob");
});

t.test("a watched user's status is told on every node", async (t) => {
  const [a, b] = await joinAll(t, ["a", "b"]);
  b!.presence.watch("ann");
  a!.presence.online("ann", "1");
  a!.presence.online("bob", "1");
  await until(() => b!.statuses.length > 0, "ann to come");
  a!.presence.offline("ann", "1");
  await until(() => b!.statuses.length > 1, "ann to go");
  t.match(b!.statuses, [{ user: "ann", online: true, lastSeen: 0 }, { user: "ann", online: false, lastSeen: Number }]);
  t.equal(b!.statuses.length, 2);
});

t.test("of what went off a list lately the first are forgotten where there is too much of it, and all after a while", async (t) => {
  const unlisted = new Unlisted(3);
  for (const name of ["a", "b", "c", "c", "d"]) unlisted.add(name);
  t.same(unlisted.names(), ["b", "c", "d"]);
  unlisted.pass();
  for (const name of ["e", "f", "g", "h"]) unlisted.add(name);
  t.same(unlisted.names(), ["f", "g", "h", "b", "c", "d"]);
  unlisted.pass();
  unlisted.pass();
  t.same(unlisted.names(), []);
});

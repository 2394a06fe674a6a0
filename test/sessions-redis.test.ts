/** Sessions of several nodes on one Redis: whose a session is, what a disconnect ends, and what an outage costs. */
import t, { type Test } from "tap";
import { createRedisMessages } from "../src/messages/redis.ts";
import { createRedisPresence } from "../src/presence/redis/redis.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { createRedisRegistry } from "../src/registry/redis.ts";
import { createRedisSessions } from "../src/sessions/redis/redis.ts";
import type { SessionHere, SessionsHere } from "../src/sessions/sessions.ts";
import { none } from "./support/only.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { value } from "../src/contracts/answers.ts";
import { factsOf } from "../src/contracts/registry.ts";
import { promised, record } from "../src/contracts/sessions.ts";
import { until } from "./support/until.ts";

const server = await startRedis(t);

async function storesOn(t: Test, redis: TestRedis, nodes: readonly string[], waitingMax = 1_000, sockets?: SessionsHere) {
  const prefix = freshPrefix();
  return Promise.all(nodes.map(async (node) => {
    const warnings: string[] = [];
    const log = { info() {}, warn: (_: object, text: string) => void warnings.push(text) };
    const link = await openRedis({ target: readRedisTarget(redis.url)!, answerMs: 1_000, log });
    const forgotten: (string | null)[] = [];
    const lost: { id: string; generation: number }[] = [];
    const store = createRedisSessions({ redis: link, prefix, node, ttlMs: 60_000, log, waitingMax, onForgotten: (id) => void forgotten.push(id), onTaken: (id, generation) => void lost.push({ id, generation }), ...(sockets && node !== "a" && { sockets }) });
    t.teardown(async () => {
      await store.stop();
      await link.close();
    });
    return { ...promised(store), store, link, forgotten, lost, warnings, prefix };
  }));
}

/** Everything that was written is in Redis. */
async function written({ store, link }: Awaited<ReturnType<typeof storesOn>>[number]): Promise<void> {
  await until(() => store.writes().waiting === 0, "everything to be sent");
  await link.run("ping");
}

t.test("a Redis that comes back with what it was told some time ago is told again whose sessions are, and where they are", async (t) => {
  const redis = await startRedis(t);
  const here: SessionHere[] = [];
  const [a, b] = await storesOn(t, redis, ["a", "b"], 1_000, { here: () => here, end() {} });
  const first = { ...record("s"), node: "a" };
  a!.store.put(first);
  await written(a!);
  await redis.save();
  const { generation } = await b!.taken("s");
  here.push({ id: "s", socketId: "1", userKey: "u", issuedAt: 0 });
  const second = { ...first, node: "b", generation, rooms: [] };
  b!.store.put(second);
  await written(b!);
  await redis.stop();
  await until(() => !b!.link.up, "it to be noticed");
  await redis.start({ saved: true });
  await until(() => a!.link.up && b!.forgotten.includes(null), "b to be asked for all of its sessions");
  b!.store.put(second);
  await written(b!);
  t.same((await a!.taken("s")).answer, { value: second }, "it is b's, as it was");
});

t.test("a session that was taken while Redis was away stays that node's when the one before writes all of its sessions anew", async (t) => {
  const redis = await startRedis(t);
  const here: SessionHere[] = [{ id: "s", socketId: "1", userKey: "u", issuedAt: 0 }];
  const [older, newer, third] = await storesOn(t, redis, ["older", "newer", "third"], 1_000, { here: () => here, end() {} });
  const first = { ...record("s"), node: "older" };
  older!.store.put(first);
  await written(older!);
  await redis.stop();
  await until(() => !older!.link.up && !newer!.link.up, "it to be noticed");
  t.same(await newer!.taken("s", 4), { answer: { error: "unavailable" }, generation: 5 });
  const second = { ...first, node: "newer", generation: 5, rooms: [] };
  newer!.store.put(second);
  await redis.start();
  await until(() => [older!, newer!].every(({ forgotten }) => forgotten.includes(null)), "both to be asked for all of their sessions");
  await written(newer!);
  older!.store.put(first);
  await written(older!);
  await until(() => older!.lost.length > 0, "the older to be told that it has lost it");
  older!.store.end("s", 0);
  await written(older!);
  newer!.store.put(second);
  await written(newer!);
  t.same(newer!.lost, []);
  await until(() => third!.link.up, "the third to be back");
  t.same((await third!.taken("s")).answer, { value: second });
});

t.test("a session that was taken since Redis was restarted stays that node's when the one before writes all of its sessions anew", async (t) => {
  const redis = await startRedis(t);
  const here: SessionHere[] = [{ id: "s", socketId: "1", userKey: "u", issuedAt: 0 }];
  const [older, newer] = await storesOn(t, redis, ["older", "newer"], 1_000, { here: () => here, end() {} });
  older!.store.put(record("s"));
  await written(older!);
  await redis.save();
  await redis.stop();
  await until(() => !older!.link.up && !newer!.link.up, "it to be noticed");
  await redis.start({ saved: true });
  await until(() => [older!, newer!].every(({ forgotten }) => forgotten.includes(null)), "both to be asked for all of their sessions");
  const { generation } = await newer!.taken("s");
  older!.store.put(record("s"));
  await until(() => older!.lost.length > 0, "the older to be told that it has lost it");
  t.same(older!.lost, [{ id: "s", generation: generation + 1 }]);
});

t.test("a session that an earlier version has written is taken, written and kept alive", async (t) => {
  const [a, b] = await storesOn(t, server, ["a", "b"]);
  const key = `${a!.prefix}session:s`;
  await server.client.hset(key, { text: '["acme","user-of-s","phone","a",["chat:one","e",1]]', node: "a", began: "1", takes: "3" });
  a!.store.keep("s", 0);
  await until(() => a!.forgotten.length > 0, "it to be asked for");
  a!.store.put({ ...record("s"), node: "a" });
  await written(a!);
  t.same(a!.lost, []);
  await server.client.hdel(key, "life");
  t.match(await b!.taken("s"), { answer: { value: { node: "a", rooms: record("s").rooms } }, generation: 1 });
});

t.test("a disconnected user's sessions are over on every node, those that are written late too; later ones are not", async (t) => {
  const [a, b] = await storesOn(t, server, ["a", "b"]);
  const of = (id: string) => ({ ...record(id), tenant: "t", user: "ann" });
  a!.store.put(of("old"));
  a!.store.put({ ...of("red"), tenant: "red" });
  await written(a!);
  b!.store.endAll("t", "ann");
  await written(b!);
  a!.store.put({ ...of("old"), rooms: [] });
  a!.store.keep("old", 0);
  await written(a!);
  t.equal(value(await b!.take("old")), null);
  t.equal(value(await a!.take("old")), null);
  t.ok(value(await b!.take("red")));
  b!.store.put(of("new"));
  await written(b!);
  t.ok(value(await a!.take("new")));
});

t.test("an exception where an answer of Redis is used is logged and counted; the node and what waits behind it go on", async (t) => {
  const rejections: unknown[] = [];
  const onRejection = (error: unknown) => void rejections.push(error);
  process.on("unhandledRejection", onRejection);
  t.teardown(() => process.off("unhandledRejection", onRejection));
  const warnings: string[] = [];
  const link = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 1_000, log: { info() {}, warn: (_, text) => void warnings.push(text) } });
  const fails = () => {
    throw new Error("of a callback");
  };
  const prefix = freshPrefix();
  const store = createRedisSessions({ redis: link, prefix, node: "a", ttlMs: 60_000, log: link, onForgotten: fails, onTaken: fails } as never);
  const presence = await createRedisPresence(
    { graceMs: 20, intervalMs: 20, namedUsersMax: 100, namedChangesMax: 100, lastSeenTtlMs: 1_000, redis: link, prefix, node: "a", aliveMs: 10_000, log: { warn() {} } },
    { roomChanged: fails, statusChanged: fails },
  );
  t.teardown(async () => {
    await presence.stop();
    await store.stop();
    await link.close();
  });
  store.take("s", 0, fails);
  store.signedOutAt("u", fails);
  store.cursor("u", "d", fails);
  presence.members("r", { after: "", limit: 1, bytesMax: 1_000, bytesEach: 0 }, fails);
  presence.statuses(["u"], fails);
  store.keep("nobody's", 0); // of which Redis says that it is forgotten
  await until(() => link.exceptions === 6, "one of each");
  store.put(record("s"));
  t.match((await promised(store).taken("s")).answer, { value: { id: "s" } }, "what is asked behind it is answered");
  const channel = (name: string, message: object) => server.client.publish(`${prefix}${name}`, JSON.stringify(message));
  await createRedisMessages({ redis: link, prefix, id: "a", log: { warn() {} } }, { received: fails });
  await channel("node:a", { from: "b", message: { kind: "taken", session: "s", generation: 1 } });
  await until(() => link.exceptions === 7, "the one of a message");
  const registry = await createRedisRegistry(
    { redis: link, prefix, id: "a", facts: () => factsOf(1), heartbeatMs: 60_000, deadMs: 120_000, log: { error() {} } },
    { nodeChanged: fails },
  );
  t.teardown(() => registry.stop());
  await channel("gateway:events", { kind: "up", node: "b", entry: JSON.stringify({ ...factsOf(2), state: "up", last_heartbeat: 1 }) });
  await until(() => link.exceptions === 8, "the one of another node's change");
  presence.follow("r");
  presence.enter("r", "ann", "1");
  await until(() => link.exceptions > 8, "the one of a room's change");
  await new Promise((resolve) => setImmediate(resolve));
  t.same(rejections, []);
  const said = (text: string) => warnings.filter((warning) => warning.startsWith(text)).length;
  t.equal(said("exception while"), 1, "once in ten seconds");
  t.equal(said("something was published"), 0, "what was published is not blamed");
});

t.test("sign-outs and cursors are every node's", async (t) => {
  const [a, b] = await storesOn(t, server, ["a", "b"]);
  a!.store.signOut("u", 500);
  a!.store.acknowledge("u", "phone", { epoch: "e", seq: 5 });
  await written(a!);
  b!.store.signOut("u", 400);
  b!.store.acknowledge("u", "phone", { epoch: "e", seq: 4 });
  await written(b!);
  t.equal(value(await b!.signedOutAt("u")), 500);
  t.same(value(await b!.cursor("u", "phone")), { epoch: "e", seq: 5 });
});

t.test("a user with too many devices loses the place of the quietest, and no more is kept", async (t) => {
  const [a] = await storesOn(t, server, ["a"], 5_000);
  await server.client.hset(`${a!.prefix}cursor:u`, "quiet", "7:1:e");
  for (let i = 0; i < 1_010; i++) a!.store.acknowledge("u", `device ${i}`, { epoch: "e", seq: i });
  await written(a!);
  t.equal(await server.client.hlen(`${a!.prefix}cursor:u`), 1_000);
  t.equal(value(await a!.cursor("u", "quiet")), null);
  t.same(value(await a!.cursor("u", "device 1009")), { epoch: "e", seq: 1_009 });
});

t.test("a session that is kept alive and is not there any more is asked for", async (t) => {
  const [a] = await storesOn(t, server, ["a"]);
  a!.store.put(record("there"));
  a!.store.put(record("lost"));
  await written(a!);
  await server.client.del(`${a!.prefix}session:lost`);
  a!.store.keep("there", 0);
  a!.store.keep("lost", 0);
  await until(() => a!.forgotten.length > 0, "it to be asked for");
  t.same(a!.forgotten, ["lost"]);
});

t.test("while Redis is away reading is answered unavailable at once, and what was written is there when it is back", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await storesOn(t, redis, ["a", "b"]);
  a!.store.put(record("s"));
  await written(a!);
  await redis.stop();
  await until(() => !a!.link.up && !b!.link.up, "it to be noticed");
  t.same(await a!.taken("s"), { answer: { error: "unavailable" }, generation: 1 });
  t.same(await a!.cursor("u", "phone"), { error: "unavailable" });
  t.same(await a!.signedOutAt("u"), { error: "unavailable" });
  for (let i = 0; i < 100; i++) a!.store.put({ ...record("s"), device: `${i}` });
  a!.store.signOut("u", 500);
  a!.store.acknowledge("u", "phone", { epoch: "e", seq: 5 });
  a!.store.acknowledge("u", "phone", { epoch: "e", seq: 4 });
  t.equal(a!.store.writes().waiting, 3, "of what was written again and again, the last");
  await redis.start();
  await until(() => a!.link.up && b!.link.up, "it to be back");
  await written(a!);
  t.equal(value(await b!.take("s"))?.device, "99");
  t.equal(value(await b!.signedOutAt("u")), 500);
  t.same(value(await b!.cursor("u", "phone")), { epoch: "e", seq: 5 });
  t.equal(a!.store.writes().dropped, 0);
});

t.test("a Redis that stands still is away after a bounded wait, and what was under way is written when it goes on", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await storesOn(t, redis, ["a", "b"]);
  redis.pause();
  a!.store.put(record("s"));
  t.same((await b!.taken("s")).answer, { error: "unavailable" });
  await until(() => !a!.link.up, "it to be noticed");
  redis.resume();
  await until(() => a!.link.up && b!.link.up, "it to be back");
  await written(a!);
  t.ok(value(await b!.take("s")));
});

t.test("what does not fit while Redis is away is dropped, counted, said once, and asked for again", async (t) => {
  const redis = await startRedis(t);
  const [a] = await storesOn(t, redis, ["a"], 10);
  // The same Redis comes back: another one is told everything anyway.
  redis.pause();
  t.same(await a!.take("s0"), { error: "unavailable" });
  await until(() => !a!.link.up, "it to be noticed");
  for (let i = 0; i < 30; i++) a!.store.put(record(`s${i}`));
  t.same(a!.store.writes(), { waiting: 10, dropped: 20 });
  t.equal(a!.warnings.filter((text) => text.includes("dropped")).length, 1);
  redis.resume();
  await until(() => a!.forgotten.length > 0, "the others to be asked for");
  t.same(a!.forgotten, [null]);
  await written(a!);
  t.ok(value(await a!.take("s9")));
  t.equal(value(await a!.take("s10")), null);
});

t.test("a session that was resumed while Redis was away is that node's when it is back", async (t) => {
  const redis = await startRedis(t);
  const [a, b, c] = await storesOn(t, redis, ["a", "b", "c"]);
  redis.pause();
  t.same((await b!.taken("s")).answer, { error: "unavailable" });
  redis.resume();
  await until(() => a!.link.up && b!.link.up && c!.link.up, "it to be back");
  a!.store.put({ ...record("s"), node: "a" });
  await written(a!);
  b!.store.put({ ...record("s"), node: "b", generation: 1, rooms: [] });
  await written(b!);
  a!.store.put({ ...record("s"), node: "a" });
  await written(a!);
  t.match(value(await c!.take("s")), { node: "b", rooms: none });
});

const refusingStates: { name: string; begin: (redis: TestRedis) => Promise<unknown>; end: (redis: TestRedis) => Promise<unknown> }[] = [
  { name: "is full", begin: ({ client }) => client.config("SET", "maxmemory", "1"), end: ({ client }) => client.config("SET", "maxmemory", "0") },
  { name: "has too few replicas", begin: ({ client }) => client.config("SET", "min-replicas-to-write", "1"), end: ({ client }) => client.config("SET", "min-replicas-to-write", "0") },
  { name: "is not a primary any more", begin: ({ client }) => client.replicaof("127.0.0.1", 1), end: ({ client }) => client.replicaof("NO", "ONE") },
];

/** How many commands Redis has refused, whatever for. */
async function refusals({ client }: TestRedis): Promise<number> {
  return [...(await client.info("errorstats")).matchAll(/count=(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
}

for (const { name, begin, end } of refusingStates) {
  t.test(`a Redis that ${name} and refuses writes: they wait, in their order, it is said once, and are there when it takes them`, async (t) => {
    const redis = await startRedis(t);
    const [a, b] = await storesOn(t, redis, ["a", "b"]);
    a!.store.put({ ...record("s"), tenant: "", user: "u" });
    await written(a!);
    const refusedBefore = await refusals(redis);
    await begin(redis);
    a!.store.put({ ...record("late"), tenant: "", user: "u" });
    a!.store.signOut("u", 500);
    a!.store.endAll("", "u");
    a!.store.acknowledge("u", "phone", { epoch: "e", seq: 5 });
    // Four writes wait, so ten refusals are of more than two tries.
    await until(async () => (await refusals(redis)) >= refusedBefore + 10, "more than two tries to be refused");
    t.equal(a!.store.writes().dropped, 0);
    t.equal(a!.warnings.filter((text) => text.startsWith("Redis refused")).length, 1, a!.warnings.join());
    await end(redis);
    await until(() => a!.link.up && b!.link.up, "it to be there");
    await until(async () => value(await b!.signedOutAt("u").catch(() => ({ value: 0 }))) === 500, "the sign-out");
    await written(a!);
    t.equal(value(await b!.take("s")), null, "its user was disconnected");
    t.equal(value(await b!.take("late")), null);
    t.same(value(await b!.cursor("u", "phone")), { epoch: "e", seq: 5 });
  });
}

t.test("what does not fit while Redis refuses writes is asked for again when it takes them, though it never was away", async (t) => {
  const redis = await startRedis(t);
  const [a] = await storesOn(t, redis, ["a"], 10);
  await redis.client.config("SET", "maxmemory", "1");
  for (let i = 0; i < 30; i++) a!.store.put(record(`s${i}`));
  await until(() => a!.warnings.some((text) => text.startsWith("Redis refused")), "it to be refused");
  t.same(a!.forgotten, []);
  await redis.client.config("SET", "maxmemory", "0");
  await until(() => a!.forgotten.length > 0, "the others to be asked for");
  t.same(a!.forgotten, [null]);
  t.equal(a!.link.returns, 0);
  t.ok(a!.store.writes().dropped > 0);
});

t.test("a write that Redis can make nothing of is dropped and said, and those behind it are written", async (t) => {
  const [a] = await storesOn(t, server, ["a"]);
  await server.client.set(`${a!.prefix}session:bad`, "not a hash");
  a!.store.put(record("bad"));
  a!.store.put(record("good"));
  await written(a!);
  t.equal(value(await a!.take("good"))?.id, "good");
  t.equal(a!.warnings.length, 1);
  t.equal(a!.store.writes().waiting, 0);
});

t.test("a read that fails puts nothing older in the place of what was written meanwhile", async (t) => {
  const redis = await startRedis(t);
  const [a] = await storesOn(t, redis, ["a"]);
  redis.pause();
  a!.store.acknowledge("u", "phone", { epoch: "e", seq: 5 });
  const cursor = a!.cursor("u", "phone");
  a!.store.acknowledge("u", "phone", { epoch: "e", seq: 9 });
  a!.store.put(record("s"));
  const take = a!.take("s");
  a!.store.end("s", 0);
  t.same(await cursor, { error: "unavailable" });
  t.same(await take, { error: "unavailable" });
  redis.resume();
  await until(() => a!.link.up, "it to be back");
  await written(a!);
  t.same(value(await a!.cursor("u", "phone")), { epoch: "e", seq: 9 });
  t.equal(value(await a!.take("s")), null, "it was ended");
});

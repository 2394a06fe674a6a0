/** Redis Cluster and Sentinel: whatever nodes share works there, too, and a new primary is found. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { Redis } from "ioredis";
import t, { type Test } from "tap";
import { openRedis } from "../src/redis/open.ts";
import type { RedisLink } from "../src/redis/redis.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { createRedisRegistry } from "../src/registry/redis.ts";
import { createRedisMessages } from "../src/messages/redis.ts";
import type { PresenceEvents } from "../src/presence/presence.ts";
import { createRedisPresence } from "../src/presence/redis/redis.ts";
import { createRedisSessions } from "../src/sessions/redis/redis.ts";
import { messagesContract } from "../src/contracts/messages.ts";
import { presenceContract, type PresenceOptions } from "../src/contracts/presence.ts";
import { factsOf, registryContract } from "../src/contracts/registry.ts";
import { startRedisCluster } from "./support/rediscluster.ts";
import { startReceiver } from "./support/receiver.ts";
import { freshPrefix, passInRedis, startRedis, type TestRedis } from "./support/redis.ts";
import { value } from "../src/contracts/answers.ts";
import { promised, record, sessionsContract } from "../src/contracts/sessions.ts";
import { freePort } from "../src/node/ports.ts";
import { until } from "./support/until.ts";
import { startWebhookNode } from "./support/webhooknode.ts";

const slotMax = 16_383;
const quiet = { info() {}, warn() {}, error() {} };

async function connect(t: Pick<Test, "teardown">, address: string, answerMs = 2_000): Promise<RedisLink> {
  const link = await openRedis({ target: readRedisTarget(address)!, answerMs, log: quiet });
  t.teardown(() => link.close());
  return link;
}

/** Three servers, each with a third of the slots: keys of different slots are refused in one command. */
const third = Math.ceil(slotMax / 3);
const cluster = await startRedisCluster(t, [[0, third], [third + 1, 2 * third], [2 * third + 1, slotMax]]);
const clusterAddress = `redis+cluster://127.0.0.1:${cluster[0]!.port}`;

registryContract(t, "cluster", () => {
  const prefix = freshPrefix();
  return {
    shared: true,
    join: async (options, events) => createRedisRegistry({ ...options, heartbeatMs: 60_000, deadMs: 120_000, prefix, redis: await connect(t, clusterAddress), log: quiet }, events),
  };
});

sessionsContract(t, "cluster", async ({ ttlMs }, clock, t) => {
  const prefix = freshPrefix();
  const redis = await connect(t, clusterAddress);
  const sessions = createRedisSessions({ redis, prefix, node: "n", ttlMs, log: quiet, onForgotten() {}, onTaken() {} });
  clock.slackMs = 20_000;
  clock.pass = async (ms) => {
    await until(() => sessions.writes().waiting === 0, "everything to be sent");
    await redis.run("get", `${prefix}nothing`);
    await Promise.all(cluster.map((server) => passInRedis(server, prefix, ms)));
  };
  return sessions;
}, false);

const joinPresence = async (t: Test, options: PresenceOptions, events: PresenceEvents, clock: () => number) =>
  createRedisPresence({ ...options, clock, redis: await connect(t, clusterAddress), prefix: freshPrefix(), node: "n", aliveMs: 60_000, log: quiet }, events);

presenceContract(t, "cluster", (options, events, clock, t) => joinPresence(t, options, events, clock), false);

messagesContract(t, "cluster", (t) => {
  const prefix = freshPrefix();
  return { shared: true, join: async (id, events) => createRedisMessages({ redis: await connect(t, clusterAddress), prefix, id, log: quiet }, events) };
});

t.test("webhooks on a cluster: rooms and users in different slots, an endpoint that refuses and one that is gone, a node that dies", async (t) => {
  const receiver = await startReceiver(t);
  receiver.answer = ({ path, data }, res) => void res.writeHead(path === "/a" && data.room === "chat:7" ? 400 : 204).end();
  const prefix = freshPrefix();
  const [one, dead] = await Promise.all(["one", "dead"].map((name) => startWebhookNode(t, clusterAddress, prefix, name, receiver)));
  for (let i = 0; i < 12; i++) {
    dead!.presence.enter(`chat:${i}`, `\u001fuser${i}`, "1");
    dead!.presence.online(`\u001fuser${i}`, "1", { id: `S${i}`, isNew: true });
  }
  one!.presence.enter("chat:0", "\u001fann", "1");
  // Two endpoints: rooms and members, users and sessions; rooms alone.
  await until(() => receiver.asked.length === 12 * 4 + 1 + 12, "all to have come");
  await dead!.kill();
  one!.presence.nodeGone("dead");
  const events = 12 * 4 + 1 + 12 + 12 * 3 + 11 * 2;
  const different = () => new Set(receiver.asked.map(({ path, id }) => `${path} ${id}`)).size;
  await until(() => different() >= events && receiver.asked.filter(({ type }) => type === "session.ended").length >= 12, "all to have gone");
  t.equal(different(), events, "each once, by endpoint and id");
  t.notOk(receiver.asked.some(({ type, data }) => type === "room.vacated" && data.room === "chat:0"));
  for (let i = 0; i < 12; i++) {
    const numbers = [...new Set(receiver.asked.filter(({ path, data }) => path === "/a" && data.room === `chat:${i}`).map(({ data }) => data.number))];
    t.strictSame(numbers, [...numbers].sort((a, b) => a - b), `in order: room ${i}`);
  }
  receiver.answer = 204;
  // A dead letter is written after its answer.
  await until(async () => (await one!.webhooks.failed(10))[0]?.count === 4, "what was refused to be kept");
  t.match(await one!.webhooks.replay("a", 10), { told: 4, left: 0, problem: "" });
  receiver.answer = 410;
  one!.presence.enter("chat:gone", "\u001fann", "1");
  await until(async () => (await one!.webhooks.failed(10)).every(({ isDisabled }) => isDisabled), "both endpoints to be disabled");
});

t.test("a user's sessions of before a disconnect are over, and those of after it are not, whichever server of a cluster is slow", async (t) => {
  const [slow, other] = cluster as [TestRedis, TestRedis];
  const prefix = freshPrefix();
  const redis = await connect(t, clusterAddress, 20_000);
  const sessions = createRedisSessions({ redis, prefix, node: "n", ttlMs: 60_000, log: quiet, onForgotten() {}, onTaken() {} });
  t.teardown(() => sessions.stop());
  const { take } = promised(sessions);
  /** A name whose key is one of the server's slots. */
  const nameOn = async (server: TestRedis, keyOf: (name: string) => string) => {
    for (let i = 0; ; i++) if (await server.client.exists(prefix + keyOf(`name${i}`)).then(() => true, () => false)) return `name${i}`;
  };
  const session = (name: string) => `session:${name}`;
  const mark = (user: string) => `ended:acme\u001f${user}`;
  const [before, ann] = [await nameOn(slow, session), await nameOn(other, mark)];
  const [after, bob] = [await nameOn(other, session), await nameOn(slow, mark)];
  const beside = `beside-${await nameOn(other, (name) => session(`beside-${name}`))}`;
  const key = prefix + (await nameOn(other, (name) => name));
  /** What is sent to the other server by now is done then. */
  const sent = async () => {
    await turn();
    await turn();
    await redis.run("get", key);
  };

  slow.pause();
  sessions.put({ ...record(before), tenant: "acme", user: ann });
  sessions.endAll("acme", ann);
  await sent();
  slow.resume();
  t.equal(value(await take(before)), null, "one whose write took long");

  slow.pause();
  sessions.endAll("acme", bob);
  sessions.put({ ...record(after), tenant: "acme", user: bob });
  await sent();
  sessions.put({ ...record(beside), tenant: "acme", user: ann });
  t.ok(value(await take(beside)), "others do not wait for it");
  slow.resume();
  t.ok(value(await take(after)), "one that was put while the mark took long");
  t.ok(value(await take(after)), "then, too");
});

t.test("sessions of a user who is disconnected again and again in a cluster are over up to the last time", async (t) => {
  const redis = await connect(t, clusterAddress, 20_000);
  const options = { redis, prefix: freshPrefix(), node: "n", ttlMs: 60_000, log: quiet, onForgotten() {}, onTaken() {} };
  const sessions = createRedisSessions(options);
  const { take } = promised(sessions);
  const mine = { tenant: "acme", user: "ann" };
  for (let i = 0; i < 20; i++) {
    sessions.put({ ...record(`s${i}`), ...mine });
    sessions.endAll("acme", "ann");
  }
  for (const id of ["left", "stays", "kept"]) sessions.put({ ...record(id), ...mine });
  sessions.end("left", 0);
  t.equal(value(await take("left")), null, "one that ended before it was written");
  t.ok(value(await take("stays")));
  for (let i = 0; i < 20; i++) t.equal(value(await take(`s${i}`)), null, `s${i}`);
  sessions.endAll("acme", "ann");
  sessions.put({ ...record("last"), ...mine });
  await sessions.stop();
  const another = createRedisSessions({ ...options, node: "another" });
  t.teardown(() => another.stop());
  t.ok(value(await promised(another).take("last")), "what waits for a mark is written at the end");
  t.equal(value(await promised(another).take("kept")), null);
});

t.test("a slot that moves from one server of a cluster to another is followed", async (t) => {
  const [from, to, third] = cluster.map(({ client }) => client) as [Redis, Redis, Redis];
  const redis = await connect(t, clusterAddress);
  const isMovable = async (key: string) => {
    const slot = Number(await from.cluster("KEYSLOT", key));
    return (await from.set(key, "").catch(() => "MOVED")) === "OK" && (await from.del(key)) === 1 && Number(await from.cluster("COUNTKEYSINSLOT", slot)) === 0;
  };
  let room = "";
  for (let i = 0; room === ""; i++) if (await isMovable(`room${i}`)) room = `room${i}`;
  const limits = { graceMs: 5, intervalMs: 5, namedUsersMax: 10, namedChangesMax: 10, lastSeenTtlMs: 60_000, lastSeenMax: 10 };
  const presence = await joinPresence(t, limits, { roomChanged() {}, statusChanged() {} }, Date.now);
  t.teardown(() => presence.stop());
  const owner = String(await to.cluster("MYID"));
  // Who gets it first: a slot that is nobody's for a moment would be a hole.
  for (const server of [to, from, third]) await server.call("CLUSTER", "SETSLOT", await from.cluster("KEYSLOT", room), "NODE", owner);
  await t.rejects(from.get(room), /^MOVED/);
  presence.enter(room, "ann", "1");
  t.equal(await redis.run("set", room, "1"), "OK");
  t.equal(await to.get(room), "1");
  await until(async () => (await to.keys(`*room:{${room}}:*`)).length > 0, "who is there to be written");
});

t.test("a cluster is another when one of its servers was restarted, and not when it was only away", async (t) => {
  const half = slotMax >> 1;
  const servers = await startRedisCluster(t, [[0, half], [half + 1, slotMax]]);
  const redis = await connect(t, `redis+cluster://127.0.0.1:${servers[0]!.port}`, 200);
  let others = 0;
  redis.onAnother(() => others++);
  for (let i = 0; i < 4; i++) {
    for (const server of servers) server.pause();
    await t.rejects(redis.run("get", "a key"));
    await until(() => !redis.up, "it to be noticed");
    const { returns } = redis;
    for (const server of servers) server.resume();
    await until(() => redis.returns > returns, "it to be back");
  }
  t.equal(others, 0);
  await servers[1]!.stop();
  await servers[1]!.start();
  await until(() => others > 0, "it to be noticed");
  t.equal(others, 1);
});

t.test("Sentinels name the primary, and another one after a failover, to which everything is written again", async (t) => {
  const primary = await startRedis(t);
  const replica = await startRedis(t, { args: ["--replicaof", "127.0.0.1", String(primary.port)] });
  await until(async () => (await replica.client.info("replication")).includes("master_link_status:up"), "the replica to follow");
  const port = await startSentinel(t, primary.port);
  let isOver = false;
  const sentinel = new Redis({ port, host: "127.0.0.1", retryStrategy: () => (isOver ? null : 20), maxRetriesPerRequest: null });
  sentinel.on("error", () => undefined); // it may not listen yet
  t.teardown(() => {
    isOver = true;
    sentinel.disconnect();
  });
  await until(async () => String(await sentinel.call("SENTINEL", "replicas", "main")).includes(String(replica.port)), "the Sentinel to know the replica", 30_000);
  const prefix = freshPrefix();
  const redis = await connect(t, `redis+sentinel://127.0.0.1:${port}/main`);
  const told: string[] = [];
  const times = { heartbeatMs: 200, deadMs: 20_000 };
  const join = async (id: string) => {
    const registry = await createRedisRegistry({ id, facts: () => factsOf(1), prefix, redis: id === "a" ? redis : await connect(t, `redis+sentinel://127.0.0.1:${port}/main`), ...times, log: quiet }, { nodeChanged: ({ kind, node }) => void told.push(`${kind} ${node.id}`) });
    t.teardown(() => registry.stop());
    await registry.announce("up");
    return registry;
  };
  const [a, b] = [await join("a"), await join("b")];
  const store = createRedisSessions({ redis, prefix, node: "a", ttlMs: 60_000, log: quiet, onForgotten() {}, onTaken() {} });
  t.teardown(() => store.stop());
  store.put(record("s"));
  t.ok(value(await promised(store).take("s")));
  await primary.stop();
  await until(() => !redis.up, "it to be noticed");
  store.put(record("later"));
  await sentinel.call("SENTINEL", "failover", "main").catch(() => undefined); // it may have begun one by itself
  await until(() => redis.up && !a.stale && !b.stale, "the new primary to be found", 60_000);
  await until(async () => (await replica.client.hlen(`${prefix}gateway:nodes`)) === 2, "both to be written there");
  await until(async () => (await replica.client.exists(`${prefix}session:later`)) === 1, "the session to be written there");
  t.notOk(told.some((event) => event.startsWith("down")), told.join());
  await until(() => a.nodes().length === 2 && b.nodes().length === 2, "both");
});

/** Its port, once it knows the primary. */
async function startSentinel(t: Test, primaryPort: number): Promise<number> {
  const port = await freePort();
  const file = join(t.testdir(), "sentinel.conf");
  writeFileSync(file, [
    `port ${port}`, "bind 127.0.0.1", `sentinel monitor main 127.0.0.1 ${primaryPort} 1`, "sentinel down-after-milliseconds main 500", "sentinel failover-timeout main 3000", "",
  ].join("\n"));
  const child = spawn("redis-server", [file, "--sentinel"], { stdio: "ignore" });
  await once(child, "spawn");
  t.teardown(async () => {
    const exit = once(child, "exit");
    child.kill("SIGKILL");
    await exit;
  });
  return port;
}

/** The registry: the contract over each implementation, and what the one on Redis does when Redis does not. */
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import * as z from "zod";
import { openRedis } from "../src/redis/open.ts";
import type { RedisLink } from "../src/redis/redis.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { createMemoryRegistry } from "../src/registry/memory.ts";
import { createRedisRegistry } from "../src/registry/redis.ts";
import type { Registry } from "../src/registry/registry.ts";
import { factsOf, registryContract, type Joining } from "../src/contracts/registry.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const server = await startRedis(t);
const quiet = { info() {}, warn() {}, error() {} };
/** So short that a test need not wait, so long that a busy machine does not miss one; longer than a link takes to come back. */
const patient = { heartbeatMs: 200, deadMs: 2_500 };
const impatient = { heartbeatMs: 200, deadMs: 800 };

async function connect(t: { teardown(end: () => Promise<void>): void }, { url }: TestRedis, log: Partial<typeof quiet> = {}): Promise<RedisLink> {
  const link = await openRedis({ target: readRedisTarget(url)!, answerMs: 1_000, log: { ...quiet, ...log } });
  t.teardown(() => link.close());
  return link;
}

const implementations: { name: string; make: (t: { teardown(end: () => Promise<void>): void }) => Joining | Promise<Joining> }[] = [
  { name: "memory", make: () => ({ shared: false, join: (options) => createMemoryRegistry(options) }) },
  {
    name: "redis",
    make: (t) => {
      const prefix = freshPrefix();
      return {
        shared: true,
        join: async (options, events) => createRedisRegistry({ ...options, heartbeatMs: 60_000, deadMs: 120_000, prefix, redis: await connect(t, server), log: quiet }, events),
      };
    },
  },
];

for (const { name, make } of implementations) registryContract(t, name, make);

interface Joined {
  readonly registry: Registry;
  readonly told: string[];
  readonly link: RedisLink;
  readonly errors: string[];
  ids(): string[];
}

/** Heartbeats in which a silent node would be dead, and half as many again. */
const patience = (1.5 * patient.deadMs) / patient.heartbeatMs;

/** Waits until Redis has refused as many heartbeats. */
async function refused({ client }: TestRedis): Promise<void> {
  const count = async () => Number(/errorstat_OOM:count=(\d+)/.exec(await client.info("errorstats"))?.[1] ?? 0);
  const before = await count();
  await until(async () => (await count()) >= before + 3 * patience, "its heartbeats to be refused");
}

/** Waits for as many more of each node. */
async function beats({ client }: TestRedis, names: readonly string[], prefix = "*"): Promise<void> {
  const [key = "none"] = await client.keys(`${prefix}gateway:nodes`);
  const read = () => Promise.all(names.map(async (name) => ((JSON.parse((await client.hget(key, name)) ?? "{}")) as { last_heartbeat?: number }).last_heartbeat));
  for (let i = 0; i < patience; i++) {
    const before = await read();
    await until(async () => (await read()).every((at, n) => at !== undefined && at !== before[n]), "another heartbeat of each");
  }
}

/** Nodes that beat fast on one Redis, all announced and known to each other. */
async function nodesOn(t: { teardown(end: () => Promise<void>): void }, redis: TestRedis, names: string[], prefix = freshPrefix(), times = patient): Promise<Joined[]> {
  const joined: Joined[] = [];
  for (const id of names) {
    const told: string[] = [];
    const errors: string[] = [];
    const link = await connect(t, redis, { warn: (_: object, text: string) => void errors.push(text) } as Partial<typeof quiet>);
    const log = { error: (_: object, text: string) => void errors.push(text) };
    const registry = await createRedisRegistry({ id, facts: () => factsOf(1), prefix, redis: link, ...times, log }, { nodeChanged: ({ kind, node }) => void told.push(`${kind} ${node.id}`) });
    t.teardown(() => registry.stop());
    await registry.announce("up");
    joined.push({ registry, told, link, errors, ids: () => registry.nodes().map((node) => `${node.id} ${node.state}`) });
  }
  for (const { registry } of joined) await until(() => registry.nodes().length === names.length, "all of them");
  return joined;
}

t.test("redis: heartbeats go on, and what is written is what operators are told to look for", async (t) => {
  const prefix = freshPrefix();
  const [a] = await nodesOn(t, server, ["a"], prefix);
  const read = async () => JSON.parse((await server.client.hget(`${prefix}gateway:nodes`, "a"))!) as Record<string, unknown>;
  const first = await read();
  t.match(first, { ...factsOf(1), state: "up", last_heartbeat: Number });
  await until(async () => (await read()).last_heartbeat !== first.last_heartbeat, "another heartbeat");
  await a!.registry.stop();
  t.equal(await server.client.hget(`${prefix}gateway:nodes`, "a"), null, "who leaves takes its entry along");
});

t.test("redis: a node that was killed is down after its time, is up when it is back, and is forgotten once when it is not", async (t) => {
  const prefix = freshPrefix();
  const key = `${prefix}gateway:nodes`;
  const [a, b] = await nodesOn(t, server, ["a", "b"], prefix, impatient);
  const ghost = (last_heartbeat: number) => server.client.hset(key, "ghost", JSON.stringify({ ...factsOf(3), state: "up", last_heartbeat }));
  await ghost(1);
  for (const { told } of [a!, b!]) await until(() => told.includes("up ghost"), "it is up");
  for (const { told } of [a!, b!]) await until(() => told.includes("down ghost"), "it is down");
  t.same(a!.ids(), ["a up", "b up", "ghost down"]);
  await ghost(2);
  for (const one of [a!, b!]) await until(() => one.ids().includes("ghost up"), "it is back");
  const events: string[] = [];
  const listening = server.client.duplicate();
  t.teardown(() => listening.disconnect());
  listening.on("message", (_, message: string) => events.push(message));
  await listening.subscribe(`${prefix}gateway:events`);
  for (const { told } of [a!, b!]) await until(() => told.includes("left ghost"), "it is forgotten", 60_000);
  t.equal(await server.client.hexists(key, "ghost"), 0);
  t.same(a!.ids(), ["a up", "b up"]);
  t.equal(events.filter((event) => event.includes('"left"')).length, 1, "one of them took it out");
});

t.test("redis: stopped and started again empty, it finds everybody where they were, and nobody was dead", async (t) => {
  const redis = await startRedis(t);
  const nodes = await nodesOn(t, redis, ["a", "b", "c"]);
  await redis.stop();
  for (const { registry } of nodes) await until(() => registry.stale, "it to be noticed");
  await sleep(1.5 * patient.deadMs); // nobody can beat: there is nothing to count
  for (const { ids, told } of nodes) {
    t.same([...ids()].sort(), ["a up", "b up", "c up"], "what was known stays");
    t.notOk(told.some((event) => event.startsWith("down")));
  }
  await redis.start();
  for (const { registry } of nodes) await until(() => !registry.stale, "it to heal");
  await until(async () => (await redis.client.hlen((await redis.client.keys("*gateway:nodes"))[0] ?? "none")) === 3, "all to be written again");
  await beats(redis, ["a", "b", "c"]);
  for (const { ids, told, errors, link } of nodes) {
    t.same([...ids()].sort(), ["a up", "b up", "c up"]);
    t.notOk(told.some((event) => event.startsWith("down") || event.startsWith("left")), told.join());
    t.equal(errors.length, 1, "one line of the log says so");
    t.equal(link.returns, 1);
  }
});

t.test("redis: paused, it is away within its time, and nobody was dead", async (t) => {
  const redis = await startRedis(t);
  const nodes = await nodesOn(t, redis, ["a", "b"]);
  redis.pause();
  for (const { registry } of nodes) await until(() => registry.stale, "it to be noticed");
  for (const { link } of nodes) await until(() => !link.up, "the link to be taken for away");
  await sleep(1.5 * patient.deadMs); // as above
  await nodes[0]!.registry.announce("draining");
  redis.resume();
  for (const { registry } of nodes) await until(() => !registry.stale, "it to heal");
  await until(() => nodes[1]!.ids().includes("a draining"), "what was announced meanwhile");
  for (const { told } of nodes) t.notOk(told.some((event) => event.startsWith("down") || event.startsWith("left")), told.join());
});

t.test("redis: a Redis that is read and refuses writes is stale, nobody was dead or doubled, and what was announced is made good", async (t) => {
  const redis = await startRedis(t);
  const nodes = await nodesOn(t, redis, ["a", "b", "c"]);
  await redis.client.config("SET", "maxmemory", "1");
  for (const { registry } of nodes) await until(() => registry.stale, "it to be noticed");
  await nodes[0]!.registry.announce("draining");
  await refused(redis);
  for (const { registry, link, errors } of nodes) {
    t.ok(link.up && registry.stale);
    t.equal(errors.length, 1, errors.join());
    t.match(errors[0], /Redis refuses this node's heartbeats/);
  }
  await redis.client.config("SET", "maxmemory", "0");
  for (const { registry } of nodes) await until(() => !registry.stale, "it to heal");
  await until(() => nodes[1]!.ids().includes("a draining"), "what was announced meanwhile");
  await beats(redis, ["a", "b", "c"]);
  for (const { told, errors } of nodes) {
    t.notOk(told.some((event) => event.startsWith("down") || event.startsWith("left")), told.join());
    t.equal(errors.length, 1, errors.join());
  }
});

t.test("redis: a node that was paused and declared dead is up again when it goes on, and takes nobody for dead", async (t) => {
  const prefix = freshPrefix();
  const [a, b] = await nodesOn(t, server, ["a", "b"], prefix);
  // What a pause of the whole process looks like from inside: nothing runs, then everything does.
  const end = performance.now() + 1.5 * patient.deadMs;
  while (performance.now() < end);
  await beats(server, ["a", "b"], prefix);
  t.same(a!.ids(), ["a up", "b up"]);
  t.same([...a!.told, ...b!.told], ["up b", "up a"]);
});

t.test("redis: two nodes of one name are told so", async (t) => {
  const prefix = freshPrefix();
  const [first] = await nodesOn(t, server, ["same"], prefix);
  const link = await connect(t, server);
  const errors: string[] = [];
  const log = { error: (_: object, text: string) => void errors.push(text) };
  const second = await createRedisRegistry({ id: "same", facts: () => factsOf(2), prefix, redis: link, ...patient, log }, { nodeChanged() {} });
  t.teardown(() => second.stop());
  await second.announce("up");
  await until(() => first!.errors.length + errors.length > 0, "one of them to notice", 30_000);
  t.match([...first!.errors, ...errors][0], /node id same is used by another node, too: give each node its own --node-id/);
});

t.test("redis: a gateway of another prefix is another gateway", async (t) => {
  const [a] = await nodesOn(t, server, ["a"]);
  const [b] = await nodesOn(t, server, ["b"]);
  t.same([a!.ids(), b!.ids()], [["a up"], ["b up"]]);
});

// ------------------------------------------------------------------------------- the release before

/** As the release before --placement wrote an entry, and what it required of the entries of others. */
const entryBefore = '{"ip":"10.0.0.9","port":8080,"url":"ws://10.0.0.9:8080/ws","region":"","version":"0.1.0","started":1795323651843,"load":0.01,"cpu":0.02,"rss":90000000,"sockets":3,"reactors":2,"state":"up","last_heartbeat":1795323651900}';
const entryRead = z.object({
  ip: z.string(), port: z.number(), url: z.string(), region: z.string(), load: z.number(), cpu: z.number(), rss: z.number(),
  reactors: z.number(), state: z.enum(["up", "draining"]), version: z.string(), sockets: z.number(), started: z.number(),
  last_heartbeat: z.number(),
});

t.test("a node of the release before and a new one list each other", async (t) => {
  const prefix = freshPrefix();
  const key = `${prefix}gateway:nodes`;
  await server.client.hset(key, "old", entryBefore);
  const registry = await createRedisRegistry({
    id: "new", prefix, redis: await connect(t, server), ...patient, log: quiet,
    facts: () => ({ ...factsOf(1), tcpUrl: "tcp://10.0.0.1:9", handshakesPerSecond: 10, weight: 2, placement: "hash", partitions: 1024 }),
  }, { nodeChanged() {} });
  t.teardown(() => registry.stop());
  await registry.announce("up");
  t.match(registry.nodes(), [{ id: "new", weight: 2, placement: "hash", partitions: 1024 }, { id: "old", state: "up", url: "ws://10.0.0.9:8080/ws", sockets: 3 }]);
  t.equal(registry.nodes()[1]?.weight, undefined);
  t.match(entryRead.parse(JSON.parse((await server.client.hget(key, "new"))!)), { state: "up", url: "ws://10.0.0.1:1/ws" });
});

t.test("nonsense in a field that a node need not report costs the field, not the node", async (t) => {
  const prefix = freshPrefix();
  const nonsense = { tcpUrl: 7, handshakesPerSecond: "many", weight: "heavy", placement: null, partitions: [] };
  await server.client.hset(`${prefix}gateway:nodes`, "odd", JSON.stringify({ ...(JSON.parse(entryBefore) as object), ...nonsense }));
  const registry = await createRedisRegistry({ id: "new", prefix, redis: await connect(t, server), ...patient, log: quiet, facts: () => factsOf(1) }, { nodeChanged() {} });
  t.teardown(() => registry.stop());
  t.match(registry.nodes(), [{ id: "odd", state: "up" }]);
  for (const field of ["tcpUrl", "handshakesPerSecond", "weight", "placement", "partitions"] as const) t.equal(registry.nodes()[0]![field], undefined, field);
});

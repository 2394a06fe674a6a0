/** Scripts leave by their hash once Redis has them. A Redis that forgets them, at whatever moment, costs no write and no order. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { Redis } from "ioredis";
import t, { type Test } from "tap";
import { createRedisPresence } from "../src/presence/redis/redis.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { createRedisSessions } from "../src/sessions/redis/redis.ts";
import { value } from "../src/contracts/answers.ts";
import { promised, record } from "../src/contracts/sessions.ts";
import { startRedisCluster } from "./support/rediscluster.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { root } from "./support/root.ts";
import { until } from "./support/until.ts";

const quiet = { info() {}, warn() {} };
const server = await startRedis(t);
const cluster = await startRedisCluster(t, [[0, 8_191], [8_192, 16_383]]);

const kinds: [what: string, servers: readonly TestRedis[], address: string][] = [
  ["one server", [server], server.url],
  ["a cluster", cluster, `redis+cluster://127.0.0.1:${cluster[0]!.port}`],
];

async function joined(t: Test, address: string) {
  const link = await openRedis({ target: readRedisTarget(address)!, answerMs: 5_000, log: quiet });
  t.teardown(() => link.close());
  const prefix = freshPrefix();
  const sessions = createRedisSessions({ redis: link, prefix, node: "n", ttlMs: 60_000, log: quiet, onForgotten() {}, onTaken() {} });
  const limits = { graceMs: 60_000, intervalMs: 20, namedUsersMax: 100, namedChangesMax: 100, lastSeenTtlMs: 60_000, aliveMs: 60_000 };
  const presence = await createRedisPresence({ ...limits, redis: link, prefix, node: "n", log: quiet }, { roomChanged() {}, statusChanged() {} });
  t.teardown(() => presence.stop());
  return { link, prefix, sessions, presence };
}

/** How often a script was not known. */
async function unknown(servers: readonly TestRedis[]): Promise<number> {
  const counts = await Promise.all(servers.map(async ({ client }) => Number(/errorstat_NOSCRIPT:count=(\d+)/.exec(await client.info("errorstats"))?.[1] ?? 0)));
  return counts.reduce((sum, count) => sum + count);
}

const flush = (servers: readonly TestRedis[]) => Promise.all(servers.map(({ client }) => client.script("FLUSH")));

async function keysOf(servers: readonly TestRedis[], pattern: string): Promise<string[]> {
  return (await Promise.all(servers.map(({ client }) => client.keys(pattern)))).flat();
}

for (const [what, servers, address] of kinds) {
  t.test(`${what}: somebody who enters and leaves as the scripts are forgotten has left`, async (t) => {
    const { presence, prefix } = await joined(t, address);
    const rooms = Array.from({ length: 20 }, (_, i) => `r${i}`);
    for (const room of rooms) presence.enter(room, "ann", "first");
    await until(async () => (await keysOf(servers, `${prefix}*:s`)).length === rooms.length, "the script of entering to be known");
    const before = await unknown(servers);
    await flush(servers);
    // Entering is sent by its hash, leaving whole: the one is refused, and what is behind it is done.
    for (const room of rooms) {
      presence.enter(room, "bob", "second");
      presence.leave(room, "bob", "second");
      presence.leave(room, "ann", "first");
    }
    await until(async () => (await keysOf(servers, `${prefix}*:s`)).length === 0, "all to have left");
    if (servers.length === 1) t.ok((await unknown(servers)) > before, "scripts were not known");
  });

  t.test(`${what}: scripts that are forgotten again and again while writes are pipelined lose none, and change no order`, async (t) => {
    const { presence, sessions, prefix } = await joined(t, address);
    const before = await unknown(servers);
    // To a cluster scripts leave whole: none is unknown.
    let rounds = 0;
    for (; rounds < 60 || (servers.length === 1 && (await unknown(servers)) < before + 5); rounds++) {
      const flushed = flush(servers);
      for (let i = 0; i < 20; i++) {
        sessions.put(record(`s${rounds}-${i}`));
        presence.enter(`r${i}`, "ann", `${rounds}`);
        presence.online(`u${i}`, `${rounds}`);
        if (rounds % 3 > 0) presence.leave(`r${i}`, "ann", `${rounds}`);
        if (rounds % 3 > 0) sessions.end(`s${rounds}-${i}`, 0);
        if (i % 7 === 0) await turn();
      }
      await flushed;
    }
    await sessions.stop();
    const left = (await keysOf(servers, `${prefix}session:*`)).map((key) => Number(/s(\d+)-/.exec(key)![1]));
    t.equal(left.length, 20 * Math.ceil(rounds / 3));
    t.ok(left.every((round) => round % 3 === 0));
    const members = async () => Promise.all((await keysOf(servers, `${prefix}*:s`)).filter((key) => key.includes("{r")).map(async (key) => {
      for (const { client } of servers) {
        const found = await client.scard(key).catch(() => -1);
        if (found >= 0) return found;
      }
      return -1;
    }));
    await until(async () => (await members()).join() === Array(20).fill(Math.ceil(rounds / 3)).join(), "those to be there who stay");
  });

  t.test(`${what}: a session is taken as it was put just before, though the script was forgotten in between`, async (t) => {
    const { sessions } = await joined(t, address);
    const { take } = promised(sessions);
    for (let i = 0; i < 10; i++) sessions.put(record(`known${i}`));
    t.ok(value(await take("known0")));
    await until(() => sessions.writes().waiting === 0, "the scripts to be known");
    t.ok(value(await take("known9")));
    for (const isUnderWay of [false, true]) {
      await flush(servers);
      const id = `s${isUnderWay}`;
      sessions.put({ ...record(id), rooms: [] });
      if (isUnderWay) await turn();
      if (isUnderWay) await turn();
      t.ok(value(await take(id)), isUnderWay ? "it was under way" : "it was waiting");
    }
    await flush(servers);
    sessions.put(record("last"));
    await sessions.stop();
    t.ok(value(await take("last")), "what is written at the end is written");
  });
}

t.test("a call of a script is its arguments, once Redis has it", async (t) => {
  const { sessions, link } = await joined(t, server.url);
  const bytesOf = async (work: () => void) => {
    const read = async () => Number(/total_net_input_bytes:(\d+)/.exec(await server.client.info("stats"))![1]);
    const before = await read();
    work();
    await until(() => sessions.writes().waiting === 0, "it to be sent");
    await link.run("ping");
    return (await read()) - before;
  };
  const put = () => {
    for (let i = 0; i < 100; i++) sessions.put(record(`s${i}`));
  };
  const whole = await bytesOf(put);
  const known = await bytesOf(put);
  t.ok(known < whole - 90 * 600, `${known} bytes after ${whole}`);
});

t.test("ioredis' own way of sending a script again changes the order, which is why it is not used", async (t) => {
  const client = new Redis(server.port, "127.0.0.1");
  t.teardown(() => client.disconnect());
  const key = freshPrefix();
  client.defineCommand("first", { numberOfKeys: 1, lua: 'return redis.call("RPUSH", KEYS[1], "first")' });
  client.defineCommand("second", { numberOfKeys: 1, lua: 'return redis.call("RPUSH", KEYS[1], "second")' });
  const defined = client as unknown as Record<"first" | "second", (key: string) => Promise<unknown>>;
  await defined.first("known");
  await client.script("FLUSH");
  await Promise.all([defined.first(key), defined.second(key)]);
  t.same(await client.lrange(key, 0, -1), ["second", "first"], "where this fails ioredis keeps the order: use defineCommand then (src/redis/sending.ts)");
});

t.test("the build has every script", async (t) => {
  const files = (folder: string) => readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".lua")).sort();
  t.ok(files("src").length > 20);
  t.same(files("dist"), files("src"));
  for (const file of files("src")) t.equal(readFileSync(join(root, "dist", file), "utf8"), readFileSync(join(root, "src", file), "utf8"), file);
});

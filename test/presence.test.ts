import t from "tap";
import { createMemoryPresence } from "../src/presence/memory.ts";
import { createRedisPresence } from "../src/presence/redis/redis.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { presenceContract, type MakePresence } from "../src/contracts/presence.ts";

const implementations: { name: string; make: MakePresence }[] = [
  { name: "memory", make: (options, events, clock) => createMemoryPresence({ ...options, clock }, events) },
];

for (const { name, make } of implementations) presenceContract(t, name, make);

const server = await startRedis(t);
const quiet = { info() {}, warn() {} };
presenceContract(t, "redis", async (options, events, clock, t) => {
  const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 10_000, log: quiet });
  t.teardown(() => redis.close());
  return createRedisPresence({ ...options, clock, redis, prefix: freshPrefix(), node: "n", aliveMs: 60_000, log: quiet }, events);
}, false);

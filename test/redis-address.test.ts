/** Addresses of Redis: what they mean, which are refused, and that no password in them is ever shown. */
import t from "tap";
import { ConfigError, jsonValue, resolveConfig, showValue } from "../src/config/config.ts";
import { readRedisTarget, redisServer, showRedisAddress } from "../src/redis/target.ts";

const none = { tls: false, user: "", password: "", db: 0, name: "" };

t.test("one server, Sentinels, a cluster", async (t) => {
  const read: [string, object][] = [
    ["redis://localhost", { ...none, kind: "single", hosts: [{ host: "localhost", port: 6379 }] }],
    ["redis://10.0.0.5:7000/3", { ...none, kind: "single", hosts: [{ host: "10.0.0.5", port: 7000 }], db: 3 }],
    ["redis://h/", { ...none, kind: "single", hosts: [{ host: "h", port: 6379 }] }],
    ["rediss://me:p%40ss%3A@[::1]:1", { ...none, kind: "single", tls: true, user: "me", password: "p@ss:", hosts: [{ host: "::1", port: 1 }] }],
    ["redis://:pass@h", { ...none, kind: "single", password: "pass", hosts: [{ host: "h", port: 6379 }] }],
    ["redis+sentinel://:p@a,b:5/main/2", { ...none, kind: "sentinel", password: "p", hosts: [{ host: "a", port: 26_379 }, { host: "b", port: 5 }], name: "main", db: 2 }],
    ["rediss+cluster://a:1,b", { ...none, kind: "cluster", tls: true, hosts: [{ host: "a", port: 1 }, { host: "b", port: 6379 }] }],
  ];
  for (const [address, target] of read) t.same(readRedisTarget(address), target, address);
});

t.test("what is none is refused, without its password", async (t) => {
  const wrong = [
    "localhost:6379", "http://h", "redis://", "redis://a,b", "redis://h:0", "redis://h:70000", "redis://h/x", "redis://h/1/2", "redis://h?db=1",
    "redis+sentinel://a", "redis+sentinel://a/", "redis+cluster://a/1", "redis://secret@h", "redis://:sec%zzret@h", "redis://:se/cret@h", "redis://h h", "redis+other://h",
  ];
  for (const redis of wrong) {
    t.equal(readRedisTarget(redis), undefined, redis);
    try {
      resolveConfig({ flags: { redis } });
      t.fail(redis);
    } catch (error) {
      t.ok(error instanceof ConfigError);
      t.match((error as Error).message, /^--redis: must be an address such as redis:/);
      t.notMatch((error as Error).message, /sec%|se\/cret|secret@/);
    }
  }
});

t.test("a password is shown nowhere", async (t) => {
  const { config } = resolveConfig({ env: { FLUX_REDIS: "redis://me:hush@h:1/2" } });
  t.equal(config.redis, "redis://me:hush@h:1/2");
  t.equal(showValue(config, "redis"), "redis://me:[hidden]@h:1/2");
  t.equal(jsonValue(config, "redis"), "redis://me:[hidden]@h:1/2");
  t.equal(showRedisAddress("redis+cluster://:hush@a,b"), "redis+cluster://:[hidden]@a,b");
  t.equal(redisServer("redis+sentinel://me:hush@a,b/main"), "redis+sentinel://a,b/main");
});

t.test("a node that is dead after one late heartbeat is refused", async (t) => {
  t.throws(() => resolveConfig({ flags: { nodeHeartbeatMs: "10s" } }), /--node-heartbeat-ms: .*15000 ms is less than 2 ×/);
  t.throws(() => resolveConfig({ flags: { nodeDeadMs: "9s" } }), /--node-dead-ms: /);
  t.throws(() => resolveConfig({ flags: { nodeUrl: "http://h/" } }), /--node-url: must be an address such as wss:/);
});

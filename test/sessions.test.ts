import t from "tap";
import { createDiskSessions } from "../src/sessions/disk.ts";
import { createMemorySessions } from "../src/sessions/memory.ts";
import { createRedisSessions } from "../src/sessions/redis.ts";
import { openRedis } from "../src/redis/redis.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { freshPrefix, passInRedis, startRedis } from "./support/redis.ts";
import { sessionsContract, sharedSessionsContract, type MakeSessions } from "../src/contracts/sessions.ts";
import { until } from "./support/until.ts";

const quiet = { info() {}, warn() {}, error() {} };
const implementations: { name: string; make: MakeSessions }[] = [
  { name: "memory", make: (options, clock) => createMemorySessions({ ...options, clock: () => clock.time }) },
  {
    name: "disk",
    make: (options, clock, t) =>
      createDiskSessions({ ...options, clock: () => clock.time, folder: t.testdir(), sync: true, uncommittedBytesMax: 1024 * 1024, log: quiet }),
  },
];

for (const { name, make } of implementations) sessionsContract(t, name, make);

const server = await startRedis(t);
const onRedis: MakeSessions = async ({ ttlMs }, clock, t) => {
  const prefix = freshPrefix();
  const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: quiet });
  t.teardown(() => redis.close());
  const sessions = createRedisSessions({ redis, prefix, node: "node-1", ttlMs, log: quiet, onForgotten() {}, onTaken() {} });
  clock.slackMs = 20_000;
  clock.pass = async (ms) => {
    await until(() => sessions.writes().waiting === 0, "everything to be sent");
    await redis.run("ping");
    await passInRedis(server, prefix, ms);
  };
  return sessions;
};
sessionsContract(t, "redis", onRedis, false);
sharedSessionsContract(t, "redis", async (nodes, t) => {
  const prefix = freshPrefix();
  return Promise.all(nodes.map(async (node) => {
    const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: quiet });
    const lost: string[] = [];
    const sessions = createRedisSessions({ redis, prefix, node, ttlMs: 60_000, log: quiet, onForgotten() {}, onTaken: (id) => void lost.push(id) });
    t.teardown(async () => {
      await sessions.stop();
      await redis.close();
    });
    const settled = async () => {
      await until(() => sessions.writes().waiting === 0, "everything to be sent");
      await redis.run("ping");
    };
    return { sessions, lost, settled };
  }));
});

/**
 * Which of a session's sockets has it, where nodes could not tell each other: the newest stays, and every older one is
 * closed with 3010, whatever Redis has forgotten and whichever node finds back to it first.
 */
import t, { type Test } from "tap";
import { startNode } from "./support/node.ts";
import { startProxy, type Proxy } from "./support/proxy.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { resumeOf, written } from "./support/resume.ts";
import { open, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";
import type { Gateway } from "../dist/index.js";

// They wait, mostly.
t.jobs = 3;

interface CutNode {
  readonly node: Gateway;
  readonly way: Proxy;
}

/** Two nodes, each with a way of its own to Redis. What has a socket is kept alive every three seconds. */
async function start(t: Test): Promise<{ redis: TestRedis; a: CutNode; b: CutNode }> {
  const redis = await startRedis(t);
  const common = { reactors: 1, redisPrefix: freshPrefix(), redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 60_000, sessionTtlMs: 12_000, resumeSecret: "s".repeat(32) };
  const [a, b] = await Promise.all(["a", "b"].map(async (nodeId) => {
    const way = await startProxy(t, redis.port);
    return { node: await startNode(t, { ...common, nodeId, redis: `redis://127.0.0.1:${way.port}` }), way };
  })) as [CutNode, CutNode];
  for (const { node } of [a, b]) await until(() => node.nodes().nodes.length === 2, "both to be there");
  return { redis, a, b };
}

async function cutOff({ node, way }: CutNode): Promise<void> {
  way.refuse(true);
  way.cut();
  await until(() => node.nodes().stale, "it to be noticed");
}

async function letBack({ node, way }: CutNode): Promise<void> {
  way.refuse(false);
  await until(() => !node.nodes().stale, "it to be back");
}

async function staysWithNewest(t: Test, redis: TestRedis, older: readonly TestSession[], newest: TestSession): Promise<void> {
  for (const session of older) t.match(await session.closed(), { code: 3010 }, "an older socket");
  await newest.join("chat:last");
  await written(redis, newest, "chat:last");
  t.ok((await newest.request({ ping: {} })).pong, "the newest");
}

for (const first of ["older", "newer"] as const) {
  t.test(`nobody heard that a session was taken, and Redis comes back empty; the node of its ${first} socket is back first`, async (t) => {
    const { redis, a, b } = await start(t);
    const older = await open(a.node);
    await older.join("chat:one");
    await written(redis, older, "chat:one");
    await cutOff(a);
    const newer = await open(b.node, { hello: resumeOf(older) });
    t.match(newer.ready, { resumed: true, rooms: ["chat:one"] });
    await redis.stop();
    await cutOff(b);
    await redis.start();
    for (const one of first === "older" ? [a, b] : [b, a]) {
      await letBack(one);
      await until(async () => (await redis.client.keys("*session:*")).length === 1, "the session to be written");
    }
    await staysWithNewest(t, redis, [older], newer);
  });
}

t.test("a socket whose node was cut off while its session went on elsewhere is closed when the node is back", async (t) => {
  const { redis, a, b } = await start(t);
  const older = await open(b.node);
  await older.join("chat:one");
  await written(redis, older, "chat:one");
  await cutOff(b);
  const newer = await open(a.node, { hello: resumeOf(older) });
  t.match(newer.ready, { resumed: true, rooms: ["chat:one"] });
  await letBack(b);
  await staysWithNewest(t, redis, [older], newer);
});

t.test("a session that was resumed at a node that was cut off, and then where Redis was there, is not taken back by what that node has still to write", async (t) => {
  const { redis, a, b } = await start(t);
  const first = await open(a.node);
  const { position } = await first.join("chat:one");
  await written(redis, first, "chat:one");
  await cutOff(b);
  const at = [{ room: "chat:one", position }];
  const second = await open(b.node, { hello: resumeOf(first, at) });
  t.match(second.ready, { resumed: true, rooms: ["chat:one"] });
  const third = await open(a.node, { hello: resumeOf(second, at) });
  t.match(third.ready, { resumed: true, rooms: ["chat:one"] });
  await third.join("chat:two");
  await written(redis, third, "chat:two");
  await letBack(b);
  await staysWithNewest(t, redis, [first, second], third);
});

for (const back of ["empty", "as it was"] as const) {
  t.test(`a session that went to and fro while Redis was away is where it went last when Redis is back ${back}`, async (t) => {
    const { redis, a, b } = await start(t);
    const first = await open(a.node);
    await first.join("chat:one");
    await written(redis, first, "chat:one");
    await redis.save();
    await redis.stop();
    await Promise.all([cutOff(a), cutOff(b)]);
    const second = await open(b.node, { hello: resumeOf(first) });
    const third = await open(a.node, { hello: resumeOf(second) });
    for (const { ready } of [second, third]) t.match(ready, { resumed: true, session: first.ready!.session });
    await redis.start({ saved: back === "as it was" });
    await letBack(a);
    await letBack(b);
    await staysWithNewest(t, redis, [first, second], third);
  });
}

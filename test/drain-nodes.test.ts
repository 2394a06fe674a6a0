/** What other nodes see of one that drains, and where its clients go. */
import t, { type Test } from "tap";
import type { NodeMessage } from "../src/messages/messages.ts";
import { createMemoryRegistry } from "../src/registry/memory.ts";
import { RemoteDrain } from "../src/node/peers/remotedrain.ts";
import { command } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);

/** Which kinds of messages are said on these channels from now on. */
async function hear(t: Pick<Test, "teardown">, { client }: TestRedis, ...channels: string[]): Promise<string[]> {
  const said: string[] = [];
  const ears = client.duplicate();
  t.teardown(() => ears.disconnect());
  ears.on("message", (_: string, text: string) => void said.push((JSON.parse(text) as { message: NodeMessage }).message.kind));
  await ears.subscribe(...channels);
  return said;
}

t.test("the others see it draining, then gone", async (t) => {
  const shared = { redis: redis.url, redisPrefix: freshPrefix(), nodeHeartbeatMs: 60_000, nodeDeadMs: 180_000, reactors: 1 };
  const a = await startNode(t, { ...shared, nodeId: "a" });
  const b = await startNode(t, { ...shared, nodeId: "b", drainMs: 3_600_000 });
  const others = () => a.nodes().nodes.slice(1).map(({ id, state }) => `${id} ${state}`);
  await until(() => others().join() === "b up", "both to know each other");
  const session = await open(b);
  void b.drain();
  // Heartbeats are a minute apart: it is told at once.
  await until(() => others().join() === "b draining", "a to be told");
  await session.bye();
  await until(() => others().length === 0, "it to be gone");
});

t.test("clients that are sent to another node go there", async (t) => {
  const [from, to] = [await startNode(t), await startNode(t)];
  const clients = Array.from({ length: 10 }, () => startClient(t, from.url));
  await Promise.all(clients.map(isReady));
  const nodes = new Set(clients.map(({ session }) => session?.node));
  t.same([...nodes], [from.config.nodeId]);
  await from.drain({ windowMs: 300, url: to.url });
  await until(() => clients.every(({ state, session }) => state === "ready" && session?.node === to.config.nodeId), "all of them");
});

t.test("any node can be asked to have another one drain", async (t) => {
  const shared = { redis: redis.url, redisPrefix: freshPrefix(), nodeHeartbeatMs: 200, nodeDeadMs: 180_000, reactors: 1 };
  const a = await startNode(t, { ...shared, nodeId: "a" });
  const b = await startNode(t, { ...shared, nodeId: "b", drainMs: 3_600_000 });
  await until(() => a.nodes().nodes.length === 2, "both to know each other");
  const session = await open(b);
  const post = (node: string) => fetch(`http://127.0.0.1:${a.adminPort}/drain`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ node, windowMs: 0 }),
  });
  const nobody = await post("c");
  t.equal(nobody.status, 404);
  t.match(await nobody.text(), /unknown node \\"c\\"/);
  const lines = (await (await post("b")).text()).trim().split("\n").map((line) => JSON.parse(line) as { state: string; left: number });
  t.match(lines.at(-1), { state: "over", left: 0 });
  await b.ended;
  t.match(await session.closed(), { code: 3001 });
  t.ok((await open(a)).ready, "the one that was asked serves on");
});

t.test("the command shows how far another node is and over how long, as that node counts", async (t) => {
  // Heartbeats are a minute apart: what they say of the sockets is old.
  const shared = { redis: redis.url, redisPrefix: freshPrefix(), nodeHeartbeatMs: 60_000, nodeDeadMs: 180_000, reactors: 1 };
  const a = await startNode(t, { ...shared, nodeId: "a" });
  const b = await startNode(t, { ...shared, nodeId: "b", drainMs: 3_600_000 });
  await until(() => a.nodes().nodes.length === 2, "both to know each other");
  const sessions = await Promise.all(Array.from({ length: 3 }, () => open(b)));
  const lines: { state: string; sessions: number; left: number; windowMs: number }[] = [];
  const answer = await fetch(`http://127.0.0.1:${a.adminPort}/drain`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"node":"b"}' });
  const read = (async () => {
    for await (const chunk of answer.body!) {
      for (const line of Buffer.from(chunk as Uint8Array).toString().trim().split("\n")) lines.push(JSON.parse(line) as (typeof lines)[number]);
    }
  })();
  await until(() => lines.at(-1)?.windowMs === 3_600_000 && lines.at(-1)?.left === 3, "its window and its sessions");
  await sessions[0]!.bye();
  await until(() => lines.at(-1)?.left === 2, "one less");
  await Promise.all(sessions.slice(1).map((session) => session.bye()));
  await read;
  t.match(lines.at(-1), { state: "over", sessions: 3, left: 0, windowMs: 3_600_000 });
});

t.test("a node that dies in the middle has left behind what it had", async (t) => {
  const facts = { ip: "", port: 0, url: "", region: "", version: "", load: 0, cpu: 0, rss: 0, started: 0, reactors: 1, sockets: 9 };
  let state: "up" | "draining" | "down" = "up";
  const registry = { nodes: () => [{ id: "b", ...facts, state, last_heartbeat: 1, silentMs: 0 }], stale: false, announce: async () => {}, stop: async () => {} };
  const messages = { send() {}, sendAll() {}, stop: async () => {} };
  const drain = new RemoteDrain({ id: "b", registry, messages, look: async () => ({ sessions: 9, left: 4, windowMs: 100, elapsedMs: 7 }) });
  const over = drain.begin({});
  await until(() => drain.progress().left === 4, "the node to say how far it is");
  t.same(drain.progress(), { state: "draining", sessions: 9, left: 4, windowMs: 100, elapsedMs: 7 });
  state = "down";
  await over;
  t.match(drain.progress(), { state: "over", sessions: 9, left: 4 });
});

/** One that hears nothing, and how it is asked. */
async function drainOfDeaf(askAgainMs: number) {
  const facts = { ip: "", port: 0, url: "", region: "", version: "", load: 0, cpu: 0, rss: 0, started: 0, reactors: 1, sockets: 3 };
  const registry = createMemoryRegistry({ id: "deaf", facts: () => ({ ...facts }) });
  await registry.announce("up");
  const sent: NodeMessage[] = [];
  const messages = { send: (_: string, message: NodeMessage) => void sent.push(message), sendAll() {}, stop: async () => {} };
  return { drain: new RemoteDrain({ id: "deaf", registry, messages, look: async () => null, askAgainMs }), sent, facts };
}

t.test("a node that hears nothing of it is asked a few times, and goes on", async (t) => {
  const { drain, sent } = await drainOfDeaf(10);
  const over = drain.begin({ windowMs: 7 });
  t.match(drain.progress(), { state: "draining", sessions: 3, left: 3, windowMs: 7 });
  await over;
  t.match(drain.progress(), { state: "serving", left: 3 });
  t.same(sent, Array.from({ length: 5 }, () => ({ kind: "drain", started: 0, windowMs: 7 })));
});

t.test("another node under the same name is not asked: the one that was meant is gone", async (t) => {
  const { drain, sent, facts } = await drainOfDeaf(10);
  const over = drain.begin({});
  facts.started = 7;
  await over;
  t.match(drain.progress(), { state: "over", sessions: 3, left: 0 });
  t.same(sent, [{ kind: "drain", started: 0 }]);
});

t.test("while Redis is unavailable another node cannot be asked, which is said at once; when it is back that node goes on", async (t) => {
  const own = await startRedis(t);
  const redisPrefix = freshPrefix();
  const shared = { redis: own.url, redisPrefix, redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 180_000, reactors: 1 };
  const a = await startNode(t, { ...shared, nodeId: "a" });
  const b = await startNode(t, { ...shared, nodeId: "b" });
  await until(() => a.nodes().nodes.length === 2 && b.nodes().nodes.length === 2, "both to know each other");
  await own.stop();
  await until(() => a.nodes().stale && b.nodes().stale, "it to be noticed");
  const post = () => fetch(`http://127.0.0.1:${a.adminPort}/drain`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ node: "b", windowMs: 0 }),
  });
  const refused = await post();
  t.equal(refused.status, 503);
  t.match(await refused.json(), { error: { code: "unavailable", text: /Redis is unavailable.*own admin port/ } });
  t.match(await command(["drain", "b", "--admin-port", String(a.adminPort)]), { code: 1, err: /503.*Redis is unavailable/ });
  // This has to hold, and is said when Redis is back; behind the drain, had that been kept.
  void a.disconnect("nobody");
  await own.start();
  const said = await hear(t, own, `${redisPrefix}node:*`, `${redisPrefix}node:b`);
  await until(() => said.includes("disconnect"), "it to be heard");
  t.notOk(said.includes("drain"));
  t.match(b.nodes().nodes[0], { id: "b", state: "up" });
});

t.test("a drain is for the life of the node that is meant: one that has begun since goes on", async (t) => {
  const redisPrefix = freshPrefix();
  const b = await startNode(t, { redis: redis.url, redisPrefix, reactors: 1, nodeId: "b", drainMs: 0 });
  const started = b.nodes().nodes[0]!.started;
  const say = (kind: NodeMessage["kind"], said: object) => redis.client.publish(`${redisPrefix}node:b`, JSON.stringify({ from: "a", message: { kind, ...said } }));
  const said = await hear(t, redis, `${redisPrefix}node:a`);
  for (const another of [{ started: started - 1 }, {}]) await say("drain", another);
  await say("question", { question: { kind: "health" }, replyTo: { node: "a", survey: "s" } });
  await until(() => said.includes("answer"), "what was said last to be heard");
  t.match(b.nodes().nodes, [{ id: "b", state: "up" }]);
  await say("drain", { started });
  await b.ended;
});

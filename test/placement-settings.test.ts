/** The weight of a running node is changed: who moves, who is sent where, and what is refused. And `any` sends clients by work. */
import t from "tap";
import { factsOf } from "../src/contracts/registry.ts";
import { OtherNodes } from "../src/node/peers/peers.ts";
import { xxh32 } from "../src/placement/hash.ts";
import { ownersOf } from "../src/placement/ring.ts";
import type { Gateway } from "../dist/index.js";
import { command } from "./support/command.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);
const partitions = 64;

async function startPair(): Promise<{ a: Gateway; b: Gateway; redisPrefix: string }> {
  const redisPrefix = freshPrefix();
  const common: NodeOptions = {
    reactors: 1, redis: redis.url, redisPrefix, redisAnswerMs: 60_000, resumeSecret: "r".repeat(32), nodeHeartbeatMs: 100, nodeDeadMs: 600_000,
    placement: "hash", placementPartitions: partitions, placementStableMs: 0, placementCalmMs: 0, placementMovesPerSecond: 10_000,
  };
  const [a, b] = await Promise.all(["a", "b"].map((nodeId) => startNode(t, { ...common, nodeId })));
  await until(() => [a!, b!].every((node) => node.nodes().nodes.length === 2), "both to know both");
  return { a: a!, b: b!, redisPrefix };
}

const settings = (node: Gateway, body?: object) => fetch(`http://127.0.0.1:${node.adminPort}/settings`, body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const located = async (node: { port: number }): Promise<string> => ((await (await fetch(`http://127.0.0.1:${node.port}/api/connection-url`)).json()) as { node: string }).node;
/** The nodes that many answers name. */
const named = async (node: { port: number }) => [...new Set(await Promise.all(Array.from({ length: 40 }, () => located(node))))].sort();

const { a, b, redisPrefix } = await startPair();

/** Members and their partitions, as both nodes know them. */
async function members(): Promise<string> {
  const known = await Promise.all([a, b].map(async ({ adminPort }) => ((await (await fetch(`http://127.0.0.1:${adminPort}/placement`)).json()) as { members: { id: string; weight: number; partitions: number }[] }).members));
  const [one, other] = known.map((all) => all.map(({ id, weight, partitions }) => `${id} ${weight} ${partitions}`).join(", "));
  return one === other ? one! : "they disagree";
}

const ownersAt = (weightOfB: number) => ownersOf([{ id: "a", weight: 1 }, { id: "b", weight: weightOfB }], partitions);
const shareOf = (owners: Int32Array, index: number) => owners.filter((owner) => owner === index).length;

t.test("hash: a weight that is changed at any node moves the sessions that have another owner, and no other", async (t) => {
  const [even, heavy] = [ownersAt(1), ownersAt(3)];
  await until(async () => (await members()) === `a 1 ${shareOf(even, 0)}, b 1 ${shareOf(even, 1)}`, "the table of both");
  const sessions = await Promise.all(Array.from({ length: 60 }, (_, i) => open(i % 2 === 0 ? a : b)));
  const partitionOf = (user: string) => xxh32(user) % partitions;
  const answer = await settings(a, { node: "b", weight: 3 });
  t.equal(answer.status, 200);
  t.strictSame(await answer.json(), { node: "b", weight: 3, maxPartitions: 0 });
  t.strictSame(await (await settings(b)).json(), { node: "b", weight: 3, maxPartitions: 0 });
  t.strictSame(await (await settings(a)).json(), { node: "a", weight: 1, maxPartitions: 0 });
  await until(async () => (await members()) === `a 1 ${shareOf(heavy, 0)}, b 3 ${shareOf(heavy, 1)}`, "the table with the weight");
  const moving = sessions.filter(({ ready }) => even[partitionOf(ready!.user!)] !== heavy[partitionOf(ready!.user!)]);
  t.ok(moving.length > 3 && moving.length < 30, `${moving.length} of 60 move`);
  for (const session of moving) {
    t.match(await session.closed(), { code: 3002 });
    const owner = heavy[partitionOf(session.ready!.user!)] === 0 ? "a" : "b";
    t.not(session.ready!.node, owner);
    t.equal(new URL(session.events.find((event) => event.reconnect)!.reconnect!.url!).searchParams.get("node"), owner);
  }
  const staying = sessions.filter((session) => !moving.includes(session));
  for (const session of staying) t.notOk(session.events.some((event) => event.reconnect ?? event.closed), "nobody told it anything");
  await Promise.all(staying.map((session) => session.bye()));
});

t.test("hash: a node of weight 0 owns nothing, and the command changes it back", async (t) => {
  t.strictSame(await (await settings(b, { weight: 0 })).json(), { node: "b", weight: 0, maxPartitions: 0 }, "its own, without its name");
  await until(async () => (await members()) === `a 1 ${partitions}`, "the table without it");
  const admin = ["--admin-port", String(a.adminPort)];
  t.match(await command(["nodes", "weight", "b", "1", ...admin]), { code: 0, out: "node b has weight 1 until it exits\n", err: "" });
  await until(async () => (await members()) === `a 1 ${shareOf(ownersAt(1), 0)}, b 1 ${shareOf(ownersAt(1), 1)}`, "the table of both again");
  t.match(await command(["nodes", "weight", "b", "17", ...admin]), { code: 1, err: /^error: <weight>: must be a whole number from 0 to 16, not "17"/ });
});

t.test("what another node passes on is checked again, and was meant for this life of the node", async (t) => {
  const started = b.nodes().nodes.find(({ id }) => id === "b")!.started;
  const say = (message: object) => redis.client.publish(`${redisPrefix}node:b`, JSON.stringify({ from: "x", message: { kind: "settings", replyTo: { node: "x", survey: "s" }, ...message } }));
  const replies: string[] = [];
  const ears = redis.client.duplicate();
  t.teardown(() => ears.disconnect());
  await ears.subscribe(`${redisPrefix}node:x`);
  ears.on("message", (_: string, text: string) => void replies.push(text));
  for (const wrong of [{ weight: 17 }, { weight: -1 }, { weight: 0.5 }, { weight: "5" }, { weight: 5, started: started - 1 }, { weight: 5, started: "now" }]) await say({ started, ...wrong });
  await say({ started, weight: 2 });
  await until(() => replies.length > 0, "the answer");
  t.equal(replies.length, 1, "to the last alone: messages of one channel keep their order");
  t.match(JSON.parse(replies[0]!), { message: { kind: "answer", survey: "s", node: "b", answer: { kind: "settings", weight: 2 } } });
  t.equal((await settings(b, { weight: 1 })).status, 200);
});

t.test("a node that is unknown, of an older release, or out of reach as Redis is: each has its answer", async (t) => {
  const own = await startRedis(t);
  const prefix = freshPrefix();
  const node = await startNode(t, { reactors: 1, nodeId: "a", redis: own.url, redisPrefix: prefix, redisAnswerMs: 1_000, nodeHeartbeatMs: 100, nodeDeadMs: 600_000 });
  const refused = async (body: object, status: number, code: string, text: RegExp) => {
    const answer = await settings(node, body);
    t.equal(answer.status, status);
    t.match(await answer.json(), { error: { code, text } });
  };
  await own.client.hset(`${prefix}gateway:nodes`, "old", JSON.stringify({ ...factsOf(1), state: "up", last_heartbeat: 1 }));
  await until(() => node.nodes().nodes.length === 2, "the older node to be known");
  await Promise.all([
    refused({ node: "nobody", weight: 2 }, 404, "not_found", /unknown node "nobody"/),
    refused({ node: "old", weight: 2 }, 503, "unavailable", /node "old" did not answer, .*older release/),
  ]);
  await own.stop();
  await until(() => node.nodes().stale, "it to be noticed");
  await refused({ node: "old", weight: 2 }, 503, "unavailable", /Redis is unavailable/);
  t.equal((await settings(node, { weight: 2 })).status, 200, "its own weight it can change");
});

t.test("any: the node with less work gets the clients, however many sockets it has; and one of weight 0 none", async (t) => {
  const prefix = freshPrefix();
  const flags = ["--reactors", "1", "--redis", redis.url, "--redis-prefix", prefix, "--resume-secret", "r".repeat(32), "--node-heartbeat-ms", "200", "--node-dead-ms", "600s", "--commands-per-second", "0"];
  // Processes of their own: nodes in one process have one main thread, which works for both.
  const [working, idle] = (await Promise.all(["a", "b"].map((id) => startNodeProcess([...flags, "--node-id", id])))) as [NodeProcess, NodeProcess];
  t.teardown(() => Promise.all([working, idle].map((node) => node.kill())));
  const sockets = await Promise.all(Array.from({ length: 40 }, () => open(idle)));
  const members = await Promise.all(Array.from({ length: 10 }, () => open(working, { keep: false })));
  for (const member of members) await member.join("chat:work");
  let isOver = false;
  // Deliveries make the work: the node has some to do at any time.
  const publishing = Promise.all(members.map(async (member) => {
    while (!isOver) await member.publish("chat:work", Buffer.alloc(512));
  }));
  const known = async () => new Map(((await (await fetch(`${idle.adminUrl}/nodes`)).json()) as { nodes: { id: string; load: number; sockets: number }[] }).nodes.map((node) => [node.id, node]));
  const isRight = async () => {
    const nodes = await known();
    const [busy, quiet] = [nodes.get("a")!, nodes.get("b")!];
    return busy.sockets === 10 && quiet.sockets === 40 && busy.load > quiet.load + 0.05 && (await named(idle)).join() === "b";
  };
  await until(isRight, "all to be sent to the idle node, which has more sockets");
  const admin = await fetch(`${working.adminUrl}/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"node":"b","weight":0}' });
  t.equal(admin.status, 200);
  await until(async () => (await named(idle)).join() === "a", "all to be sent to the other, busy as it is");
  isOver = true;
  await publishing;
  await Promise.all([...sockets, ...members].map((session) => session.bye()));
});

t.test("a node that has left is not announced again by a change that comes late", async (t) => {
  const announced: string[] = [];
  const others = new OtherNodes();
  others.know({ announce: async (state) => void announced.push(state), nodes: () => [], stale: false, stop: async () => void announced.push("left") });
  await others.announce("up");
  await others.announceAgain();
  await others.leave();
  await others.announceAgain();
  t.same(announced, ["up", "up", "left"]);
});

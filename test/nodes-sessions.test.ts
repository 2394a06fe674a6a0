/** Sessions of two nodes on one Redis: resumed on another node, ended on all of them, and what happens without Redis. */
import t from "tap";
import { userKey } from "../src/protocol/roomkeys.ts";
import { follow } from "./support/follow.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { none } from "./support/only.ts";
import { startProxy } from "./support/proxy.ts";
import { freshPrefix, startRedis, type TestRedis } from "./support/redis.ts";
import { lose, resumeOf, written } from "./support/resume.ts";
import { fate, open, type TestSession } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";
import type { Gateway } from "../dist/index.js";

const redis = await startRedis(t);
const secret = "s".repeat(32);

async function twoNodes(t: Parameters<typeof startNode>[0], { url }: TestRedis = redis, more: NodeOptions = {}): Promise<[Gateway, Gateway]> {
  const common = { reactors: 1, redis: url, redisPrefix: freshPrefix(), redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 5_000, ...more };
  const nodes: [Gateway, Gateway] = [await startNode(t, { ...common, nodeId: "a" }), await startNode(t, { ...common, nodeId: "b" })];
  for (const node of nodes) await until(() => node.nodes().nodes.length === 2, "both to be there");
  return nodes;
}

const rooms = (session: TestSession) => [...(session.ready?.rooms ?? [])].sort();

t.test("a session that lost its socket goes on at another node, in its rooms", async (t) => {
  const [a, b] = await twoNodes(t);
  const first = await open(a);
  await first.join("chat:one");
  await first.join("live:two");
  await lose(first);
  const back = await open(b, { hello: resumeOf(first) });
  t.match(back.ready, { resumed: true, session: first.ready?.session, user: first.ready?.user, node: "b" });
  t.same(rooms(back), ["chat:one", "live:two"]);
  await back.waitFor(() => back.events.filter(({ joined }) => joined).length === 2, "both to be joined");
  const beside = await open(b);
  await beside.join("chat:one");
  await beside.publish("chat:one", '"here"');
  await back.waitFor(() => back.publications.some(({ payload }) => payload.toString() === '"here"'), "what is live there");
});

t.test("the socket that is still at the first node is closed with 3010, and what it says last harms nobody", async (t) => {
  const [a, b] = await twoNodes(t);
  for (let round = 0; round < 5; round++) {
    const older = await open(a);
    await older.join("chat:one");
    await written(redis, older, "chat:one");
    const newer = await open(b, { hello: resumeOf(older) });
    t.equal(newer.ready?.resumed, true);
    older.send({ leave: { room: "chat:one" } }, 0).catch(() => undefined); // it is being closed meanwhile
    older.send({ bye: {} }, 0).catch(() => undefined);
    const { code } = (await older.closed()) as { code: number };
    t.ok(code === 3010 || code === 1000, `${code}`);
    t.ok((await newer.request({ ping: {} })).pong);
    await lose(newer);
    const again = await open(a, { hello: resumeOf(newer) });
    t.equal(again.ready?.resumed, true, "it was not ended by the older socket");
    t.same(rooms(again), ["chat:one"]);
    await again.bye();
  }
});

t.test("a session that goes to and fro stays one, and ends once", async (t) => {
  const nodes = await twoNodes(t);
  let last = await open(nodes[0]);
  await last.join("chat:one");
  await written(redis, last, "chat:one");
  for (let i = 1; i <= 10; i++) {
    const next = await open(nodes[i % 2]!, { hello: resumeOf(last) });
    t.equal(next.ready?.session, last.ready?.session);
    t.match(await last.closed(), { code: 3010 });
    last = next;
  }
  t.same(rooms(last), ["chat:one"]);
  await last.bye();
  for (const node of nodes) t.equal((await open(node, { hello: resumeOf(last) })).ready?.resumed, false);
});

t.test("a session that goes to and fro is one also when Redis has forgotten how often it went", async (t) => {
  const own = await startRedis(t);
  const nodes = await twoNodes(t, own);
  let last = await open(nodes[0]);
  for (let i = 1; i <= 3; i++) last = await open(nodes[i % 2]!, { hello: resumeOf(last) });
  await last.join("chat:one");
  await own.stop();
  await own.start();
  const metrics = async ({ adminPort }: Gateway) => (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
  for (const node of nodes) await until(async () => sumOf(await metrics(node), "flux_redis_connected") === 1, "Redis to be answered and heard again");
  await written(own, last, "chat:one");
  const next = await open(nodes[0], { hello: resumeOf(last) });
  t.match(next.ready, { resumed: true, session: last.ready!.session });
  t.match(await last.closed(), { code: 3010 });
});

t.test("sessions of a node that was killed go on at another", async (t) => {
  const prefix = freshPrefix();
  const flags = ["--redis", redis.url, "--redis-prefix", prefix, "--reactors", "1"];
  const b = await startNode(t, { reactors: 1, nodeId: "b", redis: redis.url, redisPrefix: prefix });
  const a = await startNodeProcess([...flags, "--node-id", "a"]);
  t.teardown(() => a.kill());
  const sessions = await Promise.all(Array.from({ length: 20 }, () => open(a)));
  for (const session of sessions) await session.join("chat:one");
  for (const session of sessions) await written(redis, session, "chat:one");
  await a.kill();
  const back = await Promise.all(sessions.map((session) => open(b, { hello: resumeOf(session) })));
  for (const session of back) {
    t.equal(session.ready?.resumed, true);
    t.same(rooms(session), ["chat:one"]);
  }
});

t.test("who is disconnected on one node is disconnected on all, with a socket or without", async (t) => {
  const [a, b] = await twoNodes(t, redis, { authSecret: secret });
  const hello = { token: await token({ sub: "ann" }, secret) };
  const here = await open(a, { hello });
  const there = await open(b, { hello });
  const away = await open(b, { hello });
  const bob = await open(b, { hello: { token: await token({ sub: "bob" }, secret) } });
  await lose(away);
  await until(async () => (await a.survey({ kind: "user", user: "ann" })).sessions === 2, "the loss to be noticed");
  t.strictSame(await a.disconnect("ann"), { sessions: 2, answers: [{ node: "a", sessions: 1 }, { node: "b", sessions: 1 }], unanswered: [], complete: true });
  t.match(await here.closed(), { code: 3504 });
  t.match(await there.closed(), { code: 3504 });
  for (const session of [here, there, away]) {
    for (const node of [a, b]) t.equal((await open(node, { hello: { ...hello, ...resumeOf(session) } })).ready?.resumed, false);
  }
  t.ok((await bob.request({ ping: {} })).pong);
  const again = await open(b, { hello });
  await lose(again);
  t.equal((await open(a, { hello: { ...hello, ...resumeOf(again) } })).ready?.resumed, true, "what began later can be resumed");
});

t.test("who is disconnected while another node hears nothing is disconnected there when it hears again; who came later stays", async (t) => {
  const own = await startRedis(t);
  const [a, b] = await twoNodes(t, own, { authSecret: secret });
  const hello = { token: await token({ sub: "ann" }, secret) };
  const [ann, bob] = [await open(b, { hello }), await open(b, { hello: { token: await token({ sub: "bob" }, secret) } })];
  await ann.join("chat:one");
  await written(own, ann, "chat:one");
  await own.client.client("KILL", "TYPE", "pubsub");
  const told = a.disconnect("ann", { timeoutMs: 100 });
  await until(async () => (await own.client.keys("*ended:*")).length === 1, "the mark to be written");
  const later = await open(b, { hello });
  t.match(await ann.closed(), { code: 3504 });
  t.strictSame(await told, { sessions: 0, answers: [{ node: "a", sessions: 0 }], unanswered: ["b"], complete: false });
  t.equal((await open(b, { hello: { ...hello, ...resumeOf(ann) } })).ready?.resumed, false);
  await own.client.client("KILL", "TYPE", "pubsub");
  await until(async () => ((await own.client.client("LIST")) as string).split("\n").filter((line) => line.includes("sub=") && !line.includes(" sub=0")).length === 2, "both to hear again");
  t.ok((await later.request({ ping: {} })).pong);
  t.ok((await bob.request({ ping: {} })).pong);
});

t.test("who is disconnected while Redis is away is disconnected on a node that finds back to it later, even if it came back empty", async (t) => {
  const own = await startRedis(t);
  const proxy = await startProxy(t, own.port);
  const common = { reactors: 1, redisPrefix: freshPrefix(), redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 60_000, authSecret: secret };
  const a = await startNode(t, { ...common, nodeId: "a", redis: own.url });
  const b = await startNode(t, { ...common, nodeId: "b", redis: `redis://127.0.0.1:${proxy.port}` });
  const [hello, ofBob] = [{ token: await token({ sub: "ann" }, secret) }, { token: await token({ sub: "bob" }, secret) }];
  const [ann, bob] = [await open(b, { hello }), await open(b, { hello: ofBob })];
  await own.stop();
  proxy.refuse(true);
  await until(() => a.nodes().stale && b.nodes().stale, "it to be noticed");
  t.match(await a.disconnect("ann"), { sessions: 0, unanswered: ["b"] });
  await own.start();
  const ears = own.client.duplicate();
  t.teardown(() => ears.disconnect());
  let said = 0;
  ears.on("message", (_channel, text: string) => void (text.includes('"disconnect"') && said++));
  await ears.subscribe(`${common.redisPrefix}node:*`);
  // As soon as a is there, what has waited is said: b does not hear it.
  await until(async () => (await own.client.keys("*ended:*")).length === 1, "the mark to be written");
  proxy.refuse(false);
  t.match(await ann.closed(), { code: 3504 });
  t.ok((await bob.request({ ping: {} })).pong);
  const again = await open(b, { hello });
  // It is said up to five times more, and not heard again.
  const before = said;
  await until(() => said > before || said >= 5, "it to be said once more");
  t.ok((await again.request({ ping: {} })).pong, "who came later stays");
});

t.test("who is disconnected by the mark and comes back stays, though the node hears of it again only then", async (t) => {
  const own = await startRedis(t);
  const proxies = [await startProxy(t, own.port), await startProxy(t, own.port)] as const;
  const common = { reactors: 1, redisPrefix: freshPrefix(), redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 60_000, authSecret: secret };
  const start = (nodeId: string, { port }: { port: number }) => startNode(t, { ...common, nodeId, redis: `redis://127.0.0.1:${port}` });
  const [a, b] = [await start("a", proxies[0]), await start("b", proxies[1])];
  await until(() => a.nodes().nodes.length === 2, "both to be there");
  const hello = { token: await token({ sub: "ann" }, secret) };
  const ann = await open(b, { hello });
  await ann.join("chat:one");
  await written(own, ann, "chat:one");
  // Both are cut off from a Redis that lives on.
  for (const proxy of proxies) {
    proxy.refuse(true);
    proxy.cut();
  }
  await until(() => a.nodes().stale && b.nodes().stale, "it to be noticed");
  void a.disconnect("ann");
  proxies[0].refuse(false);
  await until(async () => (await own.client.keys("*ended:*")).length === 1, "the mark to be written");
  proxies[1].refuse(false);
  t.match(await ann.closed(), { code: 3504 });
  const again = await open(b, { hello });
  const ears = own.client.duplicate();
  t.teardown(() => ears.disconnect());
  let said = 0;
  ears.on("message", (_channel, text: string) => void (text.includes('"disconnect"') && said++));
  await ears.subscribe(`${common.redisPrefix}node:*`);
  await until(() => said > 0, "it to be said once more");
  // On the same channel, so behind it.
  t.match(await a.survey({ kind: "user", user: "ann" }, { timeoutMs: 20_000 }), { sessions: 1, unanswered: none });
  t.ok((await again.request({ ping: {} })).pong, "who came later stays");
});

t.test("who is signed out on one node needs a newer token on all", async (t) => {
  const [a, b] = await twoNodes(t, redis, { authSecret: secret });
  const old = await token({ sub: "amy", iat: Math.floor(Date.now() / 1000) - 100 }, secret);
  const there = await open(b, { hello: { token: old } });
  t.match(await a.disconnect("amy", { signOut: true }), { sessions: 1, unanswered: none });
  t.match(await there.closed(), { code: 3504 });
  t.equal(await fate(b, { token: old }), 3504);
  t.equal(await fate(b, resumeOf(there)), 3504);
  t.equal(await fate(b, { token: await token({ sub: "amy", iat: Math.floor(Date.now() / 1000) + 2 }, secret) }), "ready");
});

t.test("a Redis that comes back empty gets the sign-outs back that nodes remember: a node that starts later refused no old token", async (t) => {
  const own = await startRedis(t);
  const common = { redisPrefix: freshPrefix(), authSecret: secret };
  const [a] = await twoNodes(t, own, common);
  const old = await token({ sub: "zed", iat: Math.floor(Date.now() / 1000) - 100 }, secret);
  await a.disconnect("zed", { signOut: true });
  await own.stop();
  await until(() => a.nodes().stale, "it to be noticed");
  await own.start();
  await until(async () => (await own.client.keys("*signedout:*zed")).length === 1, "the sign-out to be written again");
  const later = await startNode(t, { ...common, reactors: 1, redis: own.url, nodeId: "c" });
  t.equal(await fate(later, { token: old }), 3504);
});

t.test("without Redis sessions go on, are resumed by their token, and are whole again when it is back empty", async (t) => {
  const own = await startRedis(t);
  const [a, b] = await twoNodes(t, own, { sessionTtlMs: 8_000 });
  const staying = await open(a);
  await staying.join("chat:stay");
  const moving = await open(a);
  const { position } = await moving.join("chat:move");
  await own.stop();
  await until(() => a.nodes().stale && b.nodes().stale, "it to be noticed");
  t.ok((await staying.publish("chat:stay", '"on"')).seq > 0, "rooms go on");
  t.ok((await open(b)).ready?.session, "and whoever comes is let in");
  await lose(moving);
  const back = await open(b, { hello: resumeOf(moving, [{ room: "chat:move", position }]) });
  t.match(back.ready, { resumed: true, session: moving.ready?.session });
  t.same(rooms(back), ["chat:move"], "where the client says it was");
  await own.start();
  await until(() => !a.nodes().stale && !b.nodes().stale, "it to be back");
  await until(async () => (await own.client.keys("*session:*")).length >= 3, "sessions with a socket to be written anew");
  await lose(staying);
  await lose(back);
  for (const [session, node, room] of [[staying, b, "chat:stay"], [back, a, "chat:move"]] as const) {
    const again = await open(node, { hello: resumeOf(session) });
    t.equal(again.ready?.resumed, true);
    t.same(rooms(again), [room]);
  }
});

t.test("a session that was resumed while Redis was away keeps the rooms it joined since, though the node of its older socket is back later", async (t) => {
  const own = await startRedis(t);
  const way = await startProxy(t, own.port);
  const common = { reactors: 1, redisPrefix: freshPrefix(), redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 60_000, resumeSecret: secret };
  const a = await startNode(t, { ...common, redis: `redis://127.0.0.1:${way.port}`, nodeId: "a" });
  const b = await startNode(t, { ...common, redis: own.url, nodeId: "b" });
  for (const node of [a, b]) await until(() => node.nodes().nodes.length === 2, "both to be there");
  const older = await open(a);
  await older.join("chat:old");
  await written(own, older, "chat:old");
  await own.stop();
  await until(() => a.nodes().stale && b.nodes().stale, "it to be noticed");
  const newer = await open(b, { hello: resumeOf(older) });
  t.equal(newer.ready?.resumed, true);
  await newer.join("chat:new");
  way.refuse(true);
  await own.start();
  await written(own, newer, "chat:new");
  way.refuse(false);
  t.match(await older.closed(), { code: 3010 }, "its session is elsewhere");
  await newer.join("chat:newer");
  await written(own, newer, "chat:newer");
  await lose(newer);
  const back = await open(a, { hello: resumeOf(newer) });
  t.ok(["chat:new", "chat:newer"].every((room) => rooms(back).includes(room)), rooms(back).join());
});

t.test("the stream of a token ends where another node has signed its user out, also if its message was lost", async (t) => {
  const own = await startRedis(t);
  const node = await startNode(t, { reactors: 1, redis: own.url, redisPrefix: "out:", authSecret: secret, namespaces: { live: { durable: false } } });
  const old = await token({ sub: "amy", iat: Math.floor(Date.now() / 1000) - 100 }, secret);
  const stream = await follow(t, `/rooms/live:a/stream?token=${old}`, { at: node.apiPort });
  await until(() => stream.events.some(({ event }) => event === "open"), "the stream to be open");
  await own.client.set(`out:signedout:${userKey("", "amy")}`, String(Date.now()));
  await until(() => stream.events.some(({ event, data }) => event === "end" && data?.reason === "disconnected"), "its end");
});

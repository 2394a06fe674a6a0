/** The program's calls over two nodes that share Redis and NATS: both do their part, whichever of them is called. */
import t from "tap";
import { ApiError, type Gateway } from "../dist/index.js";
import { ask } from "./support/api.ts";
import { startNats } from "./support/nats.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { startProxy } from "./support/proxy.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { lose, resumeOf, written } from "./support/resume.ts";
import { listen, startClient, type Heard } from "./support/sdk.ts";
import { open, type TestSession } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);
const nats = await startNats(t);

const namespaces = { chat: { durable: true, presence: "members" }, live: {} } as const;
const shared = () => ({
  reactors: 1, authSecret: secret, namespaces, commandsPerSecond: 0, roomsPerSessionMax: 5, nats: [nats.url], natsPrefix: `n${freshPrefix().replace(/\W/g, "")}`,
  redis: redis.url, redisPrefix: freshPrefix(), redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 5_000,
});
const start = (t: Parameters<typeof startNode>[0], common: NodeOptions, nodeId: string, more: NodeOptions = {}) => startNode(t, { ...common, nodeId, ...more });
const areTwo = (...nodes: Gateway[]) => until(() => nodes.every((node) => node.nodes().nodes.filter(({ state }) => state === "up").length === 2), "both to be there");

const come = async (gateway: Gateway, sub: string, json = false) => open(gateway, { json, hello: { token: await token({ sub, rooms: {} }, secret) } });
const codeOf = async (call: Promise<unknown>): Promise<string> => call.then(() => "ok", (error: unknown) => (error instanceof ApiError ? error.code : String(error)));
const told = ({ events }: TestSession, room: string) => events.flatMap(({ id, joined, left }) => {
  if (id) return [];
  return joined?.room === room ? [`joined ${joined.assigned === true}`] : left?.room === room ? [`left ${left.reason}`] : [];
});

const common = { ...shared(), redisAnswerMs: 30_000 };
const [a, b] = [await start(t, common, "a"), await start(t, common, "b")];
await areTwo(a, b);

t.test("join and leave, asked for on one node, reach the sessions on both, and those that come to either later", async (t) => {
  const sessions = [await come(a, "ann"), await come(b, "ann", true)];
  t.strictSame(await a.join("ann", "chat:a"), { sessions: 2, refused: 0, unanswered: [], complete: true });
  await b.publish("chat:a", 1);
  sessions.push(await come(a, "ann", true), await come(b, "ann"));
  for (const session of sessions) await session.waitFor(() => told(session, "chat:a").length === 1, "the room");
  await a.publish("chat:a", 2);
  for (const [i, session] of sessions.entries()) {
    await session.waitFor(() => session.publications.some(({ payload }) => payload.toString() === "2"), "what is published");
    t.equal(session.publications.length, i < 2 ? 2 : 1);
  }
  t.match(await b.room("chat:a"), { sessions: 4, complete: true });
  t.strictSame(await b.leave("ann", "chat:a"), { sessions: 4, unanswered: [], complete: true });
  await a.publish("chat:a", 3);
  for (const session of sessions) {
    await session.waitFor(() => told(session, "chat:a").length === 2, "the end");
    t.strictSame(told(session, "chat:a"), ["joined true", "left removed"]);
    t.notOk(session.publications.some(({ payload }) => payload.toString() === "3"));
  }
  t.match(await a.join("ann", "none:a").catch(({ code }: ApiError) => code), "unknown_namespace");
  for (const session of sessions) await session.bye();
});

t.test("of many joins and leaves on both nodes at once what is stored holds for every session", async () => {
  const sessions = [await come(a, "max"), await come(b, "max")];
  for (let round = 0; round < 10; round++) {
    await Promise.all([a.join("max", "live:x"), b.leave("max", "live:x"), b.join("max", "live:x"), a.leave("max", "live:x"), a.join("max", "live:y"), b.join("max", "live:x")]);
    const { joined } = await a.user("max");
    const isIn = joined!.includes("live:x") ? 2 : 0;
    await until(async () => (await b.room("live:x")).sessions === isIn, `${isIn} sessions in the room`);
  }
  for (const session of sessions) await session.bye();
});

t.test("the limit of a user counts on all nodes", async (t) => {
  const codes = await Promise.all(Array.from({ length: 10 }, (_, i) => codeOf((i % 2 === 0 ? a : b).join("lim", `live:${i}`))));
  t.strictSame([codes.filter((code) => code === "ok").length, codes.filter((code) => code === "too_many_rooms").length], [5, 5]);
});

t.test("exclude finds the session on the other node, in both formats and both kinds of rooms, and it sees no gap", async (t) => {
  for (const room of ["chat:ex", "live:ex"]) {
    for (const json of [false, true]) {
      const [out, other] = [await open(b, { json, hello: { token: await token({ sub: "out" }, secret) } }), await open(a, { json, hello: { token: await token({ sub: "other" }, secret) } })];
      for (const session of [out, other]) await session.join(room);
      await a.publish(room, 1);
      await a.publish(room, 2, { exclude: out.ready!.session! });
      await a.publish(room, 3);
      await other.waitFor(() => other.publications.length === 3, "all three");
      await out.waitFor(() => out.publications.length === 2, "two of them");
      t.strictSame(out.publications.map(({ payload }) => payload.toString()), ["1", "3"]);
      const published = out.events.find(({ id, published }) => !id && published != null)?.published;
      t.equal(Number(published?.position?.seq), out.publications[1]!.prev, "its position is where the next one follows");
      for (const session of [out, other]) await session.bye();
    }
  }
});

t.test("a session that is resumed on the other node is in its rooms from its position, without a right, and not in those it was removed from", async (t) => {
  for (const room of ["chat:keep", "chat:over"]) await a.join("rae", room);
  const before = await come(a, "rae");
  for (const room of ["chat:keep", "chat:over"]) {
    await before.waitFor(() => told(before, room).length === 1, room);
    await written(redis, before, room);
  }
  await a.publish("chat:keep", 1);
  await before.waitFor(() => before.publications.length === 1, "the first");
  const { epoch, seq } = before.publications[0]!;
  await lose(before);
  await a.publish("chat:keep", 2);
  await b.leave("rae", "chat:over");
  const after = await open(b, { hello: resumeOf(before, [{ room: "chat:keep", position: { epoch, seq } }]) });
  t.match(after.ready, { resumed: true, node: "b", rooms: ["chat:keep"], assigned: ["chat:keep"] });
  await after.waitFor(() => after.publications.length === 1, "what was missed");
  t.strictSame(after.publications.map(({ payload }) => payload.toString()), ["2"]);
  await after.bye();
});

t.test("users, rooms and reconnect count on both nodes", async (t) => {
  const [one, two] = [await open(a, { hello: { token: await token({ sub: "joe" }, secret), device: "phone" } }), await open(b, { hello: { token: await token({ sub: "joe" }, secret) } })];
  const names = ["list:1", "list:2", "list:3", "list:4"].map((name) => `live:${name}`);
  for (const name of names.slice(0, 3)) await one.join(name);
  for (const name of names.slice(1)) await two.join(name);
  const { sessions, ...rest } = await b.user("joe");
  t.strictSame(rest, { user: "joe", joined: [], unanswered: [], complete: true });
  t.strictSame([...sessions].sort((x, y) => (x.node < y.node ? -1 : 1)), [
    { session: one.ready!.session, node: "a", device: "phone", rooms: 3 }, { session: two.ready!.session, node: "b", device: "", rooms: 3 },
  ]);
  for (const limit of [1, 2, 3, 100]) {
    const read: { room: string; sessions: number }[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const page: Awaited<ReturnType<Gateway["rooms"]>> = await a.rooms({ prefix: "live:list:", limit, ...(cursor !== "" && { cursor }) });
      t.ok(page.complete && page.rooms.length <= limit);
      read.push(...page.rooms);
      cursor = page.next;
    }
    t.strictSame(read, names.map((room, i) => ({ room, sessions: i === 0 || i === 3 ? 1 : 2 })), `pages of ${limit}`);
  }
  t.match(await a.room("live:list:2"), { sessions: 2, nodes: [{ node: "a", sessions: 1 }, { node: "b", sessions: 1 }], complete: true });
  // By HTTP as well, whichever node is asked.
  for (const { apiPort } of [a, b]) t.match(await ask(apiPort, "/rooms/live:list:2"), { status: 200, json: { sessions: 2, complete: true, unanswered: [] } });
  t.match(await ask(b.apiPort, "/users/joe/rooms/chat:http", { method: "PUT" }), { status: 200, json: { sessions: 2, complete: true } });
  t.match(await ask(a.apiPort, "/users/joe/rooms/chat:http", { method: "DELETE" }), { status: 200, json: { sessions: 2, complete: true } });
  t.match(await a.reconnect("joe"), { sessions: 2, answers: [{ node: "a", sessions: 1 }, { node: "b", sessions: 1 }] });
  for (const session of [one, two]) t.match(await session.closed(), { code: 3001 });
});

t.test("the rooms outlive every node; a node that another Redis connection was cut off from learns what it missed", async (t) => {
  // A node without Redis stays in the list, and does not answer.
  const common = { ...shared(), nodeDeadMs: 60_000 };
  const proxy = await startProxy(t, Number(new URL(redis.url).port));
  const c = await start(t, common, "c");
  const d = await start(t, common, "d", { redis: `redis://127.0.0.1:${proxy.port}` });
  await areTwo(c, d);
  await c.join("ann", "chat:before");
  await c.join("sue", "chat:kept");
  const ann = await come(d, "ann");
  await ann.waitFor(() => told(ann, "chat:before").length === 1, "the room");
  const sue = startClient(t, d.url, { token: await token({ sub: "sue", rooms: {} }, secret) });
  const heard: Heard[][] = [];
  sue.on("joined", (room) => heard.push(listen(room)));
  await until(() => heard[0]?.length === 1, "her room");
  // d hears nothing of c now, and c is answered by nobody.
  proxy.refuse(true);
  proxy.cut();
  await until(async () => (await codeOf(d.join("ann", "chat:unheard"))) === "unavailable", "d to be without Redis");
  t.equal(await codeOf(d.leave("ann", "chat:before")), "unavailable");
  t.strictSame(told(ann, "chat:before"), ["joined true"], "nothing has happened");
  t.match(await d.user("ann"), { joined: null, complete: false });
  t.match(await ask(c.apiPort, "/users/ann"), { status: 200, json: { joined: Array, complete: false, unanswered: ["d"] } }, "the answer by HTTP says who is missing");
  t.match(await ask(d.apiPort, "/users/ann"), { status: 200, json: { joined: null, complete: false } });
  t.match(await ask(c.apiPort, "/users/nobody/sessions", { method: "DELETE" }), { status: 200, json: { sessions: 0, complete: false, unanswered: ["d"] } });
  t.match(await ask(d.apiPort, "/users/ann/rooms/chat:unheard", { method: "PUT" }), { status: 503, json: { code: "unavailable", retryable: true }, headers: { "retry-after": "1" } });
  const meanwhile = await come(d, "ann");
  t.strictSame([[...(meanwhile.ready?.assigned ?? [])], meanwhile.ready?.assignedUnread], [[], true], "it cannot be read");
  // The SDK's room does not end for that.
  await d.reconnect("sue");
  await until(() => sue.state === "ready" && sue.session?.session !== undefined, "it to be back");
  await c.join("ann", "chat:missed");
  await c.leave("ann", "chat:before");
  proxy.refuse(false);
  for (const session of [ann, meanwhile]) {
    await session.waitFor(() => told(session, "chat:missed").length === 1, "what it missed");
    t.strictSame(told(session, "chat:missed"), ["joined true"]);
  }
  await ann.waitFor(() => told(ann, "chat:before").length === 2, "the end that it missed");
  t.strictSame(told(meanwhile, "chat:before"), []);
  await until(() => heard[0]!.filter(({ kind }) => kind === "joined").length === 2, "her room to be joined again");
  await c.publish("chat:kept", "after it");
  await until(() => heard[0]!.some(({ what }) => what === "after it"), "what is published when Redis is back");
  t.equal(heard.length, 1, "it is the same room");
  t.strictSame(heard[0]!.filter(({ kind }) => kind === "left" || kind === "error"), []);
  await c.close();
  await d.close();
  const e = await start(t, common, "e");
  const later = await come(e, "ann");
  t.strictSame([...(later.ready?.assigned ?? [])], ["chat:missed"]);
});

t.test("what somebody else wrote into Redis is no room of another tenant, and no inbox", async (t) => {
  const key = `${common.redisPrefix}assigned:\u001feve`;
  await redis.client.sadd(key, "live:fine", "red\u001flive:secret", "@inbox", "", "none:a", "x".repeat(300), "live:\n");
  const eve = await come(a, "eve");
  t.strictSame([...(eve.ready?.assigned ?? [])].sort(), ["live:fine", "none:a"]);
  await eve.waitFor(() => told(eve, "live:fine").length === 1, "the one that is sound");
  t.strictSame(eve.events.filter(({ joined }) => joined != null).length, 1);
  await redis.client.del(key);
  await redis.client.set(key, "no set");
  const again = await come(a, "eve");
  t.strictSame([...(again.ready?.assigned ?? [])], [], "it cannot be read");
  t.equal(await codeOf(a.join("eve", "live:b")), "unavailable");
  await redis.client.del(key);
});

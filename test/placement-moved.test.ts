/**
 * The right node only: three nodes with `--placement hash`, and what becomes of clients that say hello at another node
 * than that of their user.
 */
import t from "tap";
import { PlaceTickets, placeTag, userTag } from "../src/auth/placetickets.ts";
import { xxh32 } from "../src/placement/hash.ts";
import { ownersOf } from "../src/placement/ring.ts";
import { factsOf } from "../src/contracts/registry.ts";
import { roomKey } from "../src/protocol/roomkeys.ts";
import type { Gateway } from "../dist/index.js";
import { startNode, type NodeOptions } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { connectTcp, within } from "./support/rawsocket.ts";
import { rawTcp } from "./support/rawtcp.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { closeWith, resumeOf, written } from "./support/resume.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { open, openOn, type OpenOptions, type TestSession } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);
const partitions = 64;
const common: NodeOptions = {
  reactors: 1, placement: "hash", placementPartitions: partitions, placementStableMs: 0, placementCalmMs: 0, placementMovesPerSecond: 10_000, authSecret: secret, allowAnonymous: true, resumeSecret: "r".repeat(32), tcpPort: 0,
  redis: redis.url, redisAnswerMs: 60_000, nodeHeartbeatMs: 100, nodeDeadMs: 600_000,
};
const ids = ["a", "b", "c"];

async function startFleet(names: readonly string[], more: NodeOptions = {}) {
  const redisPrefix = freshPrefix();
  const nodes = await Promise.all(names.map((nodeId) => startNode(t, { ...common, redisPrefix, nodeId, ...more })));
  const inTable = async (members: number) => {
    const table = await redis.client.hget(`${redisPrefix}gateway:ring`, "table");
    const { number = 0, members: there = [] } = JSON.parse(table ?? "{}") as { number?: number; members?: object[] };
    if (there.length !== members) return false;
    return (await Promise.all(nodes.map((node) => node.metrics()))).every((metrics) => sumOf(metrics, "flux_placement_table") === number);
  };
  return { nodes, redisPrefix, inTable };
}

const { nodes, redisPrefix, inTable } = await startFleet(ids);
await until(() => inTable(3), "the table of all three");
const [a, b, c] = nodes as [Gateway, Gateway, Gateway];
const tickets = new PlaceTickets("r".repeat(32));

const owners = ownersOf(ids.map((id) => ({ id, weight: 1 })), partitions);
const ownerOf = (user: string, tenant = ""): Gateway => nodes[owners[xxh32(roomKey(tenant, user)) % partitions]!]!;
const nameOf = (node: Gateway) => node.config.nodeId;
let users = 0;
/** A user of this node, named differently each time. */
function userOf(node: Gateway, name = (n: number) => `user-${n}`, tenant = ""): string {
  for (;;) {
    const user = name(users++);
    if (ownerOf(user, tenant) === node) return user;
  }
}

const metric = async (node: Gateway, name: string) => sumOf(await node.metrics(), `flux_placement_${name}_total`);

interface SentOn {
  readonly url: URL;
  readonly node: string;
  readonly ticket: string;
  readonly delayMs: number;
}

/** Says hello, and is sent on. */
async function sentOn(node: Gateway, user: string, { tenant = "", ...options }: OpenOptions & { tenant?: string } = {}): Promise<SentOn> {
  const session = await open(node, { ...options, hello: null });
  return moved(session, { ...options.hello, token: await token({ sub: user, ...(tenant !== "" && { tenant }) }, secret) });
}

async function moved(session: TestSession, hello: OpenOptions["hello"]): Promise<SentOn> {
  await session.send({ hello: { version: 1, client: "test", ...hello } }, 1);
  const closed = await session.closed();
  if (typeof closed === "string" || closed.code !== 3002) throw new Error(`closed with ${JSON.stringify(closed)}: ${JSON.stringify(session.events)}`);
  const reconnect = session.events.find((event) => event.reconnect)!.reconnect!;
  if (session.events.filter((event) => !event.closed).length !== 1 || reconnect.reason !== "moved") throw new Error(`told ${JSON.stringify(session.events)}`);
  const url = new URL(reconnect.url!);
  return { url, node: url.searchParams.get("node")!, ticket: url.searchParams.get("ticket")!, delayMs: reconnect.delayMs ?? 0 };
}

const pathOf = ({ url }: SentOn) => `${url.pathname}${url.search}`;
const served = async (node: Gateway, user: string, options: OpenOptions = {}, tenant = "") => open(node, { ...options, hello: { ...options.hello, token: await token({ sub: user, ...(tenant !== "" && { tenant }) }, secret) } });

t.test("a user of another node is sent there, and served there", async (t) => {
  const before = await metric(a, "sent_on");
  for (const json of [false, true]) {
    const user = userOf(b);
    const sent = await sentOn(a, user, { json });
    t.equal(sent.node, "b");
    t.equal(Number(sent.url.port), b.port);
    const session = await served(b, user, { json, path: pathOf(sent) });
    t.match(session.ready, { node: "b", user });
    await session.bye();
  }
  t.equal((await metric(a, "sent_on")) - before, 2);
  t.match(await a.metrics(), /flux_closes_total\{[^}]*code="3002"\} 2/);
});

t.test("users of any script and length up to 128 bytes, and users of tenants, belong on the node that other programs compute", async (t) => {
  const names = [(n: number) => `Jörg ${n}`, (n: number) => `李小龍${n}`, (n: number) => `🙂`.repeat(31) + `${n % 1000}`, (n: number) => `a%20b+c&d=${n}`, (n: number) => `${n}`.padEnd(128, "x"), (n: number) => `e\u0301${n}`];
  for (const name of names) {
    const user = userOf(c, name);
    t.equal((await sentOn(a, user)).node, "c", user);
    const session = await served(c, user);
    t.equal(session.ready?.user, user);
    await session.bye();
  }
  for (const tenant of ["acme", "Ärzte"]) {
    const user = userOf(b, undefined, tenant);
    t.equal((await sentOn(c, user, { tenant })).node, "b");
    t.match((await served(b, user, {}, tenant)).ready, { node: "b", user });
  }
  for (const user of ["", "x".repeat(129)]) {
    const session = await open(a, { hello: null });
    await session.send({ hello: { version: 1, token: await token({ sub: user }, secret) } }, 1);
    t.match(await session.closed(), { code: 3500 }, "no user at all: refused as ever");
  }
});

t.test("devices of one user meet on one node, wherever they knock", async (t) => {
  const user = userOf(c);
  const sessions = [];
  for (const node of nodes) {
    const at = node === c ? node : nodes.find((one) => nameOf(one) === "c")!;
    if (node !== c) t.equal((await sentOn(node, user, { hello: { device: nameOf(node) } })).node, "c");
    sessions.push(await served(at, user, { hello: { device: nameOf(node) } }));
  }
  t.same(sessions.map(({ ready }) => ready?.node), ["c", "c", "c"]);
});

t.test("an anonymous client gets a user of the node it came to, and keeps it when it resumes", async (t) => {
  for (const node of nodes) {
    for (let i = 0; i < 5; i++) {
      const session = await open(node);
      t.match(session.ready, { node: nameOf(node), user: /^anon-/ });
      t.equal(ownerOf(session.ready!.user!), node);
      if (i > 0) continue;
      await closeWith(session, 4000);
      const other = nodes.find((one) => one !== node)!;
      const sent = await moved(await open(other, { hello: null }), resumeOf(session));
      t.equal(sent.node, nameOf(node));
      const again = await open(node, { path: pathOf(sent), hello: resumeOf(session) });
      t.match(again.ready, { resumed: true, user: session.ready!.user });
    }
  }
});

t.test("a session that is resumed at another node keeps everything: it is resumed where its user belongs", async (t) => {
  const user = userOf(a);
  const session = await served(a, user);
  await session.join("chat:moved");
  await written(redis, session, "chat:moved");
  session.raw.destroy();
  const sent = await moved(await open(b, { hello: null }), resumeOf(session));
  t.equal(sent.node, "a");
  const again = await open(a, { path: pathOf(sent), hello: resumeOf(session) });
  t.match(again.ready, { resumed: true, session: session.ready!.session, rooms: ["chat:moved"] });
});

t.test("a client on raw TCP gets an address for raw TCP, and shows the ticket in hello", async (t) => {
  const user = userOf(b);
  const knock = async (node: Gateway) => openOn(rawTcp(await connectTcp(node.tcpPort!)), { hello: null });
  const sent = await moved(await knock(a), { token: await token({ sub: user }, secret) });
  t.equal(sent.url.protocol, "tcp:");
  t.equal(Number(sent.url.port), b.tcpPort);
  const session = await knock(b);
  t.match((await session.request({ hello: { version: 1, token: await token({ sub: user }, secret), ticket: sent.ticket } })).ready, { node: "b" });
  // The ticket of hello counts: one that names this node lets its user stay.
  const stays = await knock(c);
  const ticket = tickets.make(placeTag("c"), userTag("", user), 0, 1, false);
  t.match((await stays.request({ hello: { version: 1, token: await token({ sub: user }, secret), ticket } })).ready, { node: "c" });
});

t.test("a node serves a user whose ticket names it, whatever its table says; and no other ticket", async (t) => {
  const user = userOf(b);
  const before = await metric(a, "ticket");
  const at = (ticket: string) => `/ws?ticket=${encodeURIComponent(ticket)}`;
  const session = await served(a, user, { path: at(tickets.make(placeTag("a"), userTag("", user), 0, 0, false)) });
  t.match(session.ready, { node: "a", user });
  t.equal((await metric(a, "ticket")) - before, 1);
  const others = {
    "for another user": tickets.make(placeTag("a"), userTag("", "somebody else"), 0, 0, false),
    "for nobody in particular": tickets.make(placeTag("a"), 0, 0, 0, false),
    "for a user of that name in a tenant": tickets.make(placeTag("a"), userTag("acme", user), 0, 0, false),
    "of another node": tickets.make(placeTag("c"), userTag("", user), 0, 0, false),
    "signed with another secret": new PlaceTickets("x".repeat(32)).make(placeTag("a"), userTag("", user), 0, 0, false),
    "nonsense": "ticket",
    "too long": "A".repeat(5_000),
  };
  for (const [what, ticket] of Object.entries(others)) t.equal((await sentOn(a, user, { path: at(ticket) })).node, "b", what);
});

t.test("a client that does not arrive is sent on twice and no more", async (t) => {
  const user = userOf(c);
  const before = await metric(a, "hops");
  let path = "/ws";
  for (const [hop, node] of [a, b].entries()) {
    const sent = await sentOn(node, user, { path });
    t.equal(tickets.read(sent.ticket)?.hops, hop + 1);
    path = pathOf(sent);
  }
  const session = await served(a, user, { path });
  t.match(session.ready, { node: "a", user });
  t.equal((await metric(a, "hops")) - before, 1);
});

t.test("the SDK follows, and frames that it sent behind hello are not lost", async (t) => {
  const user = userOf(b);
  const client = startClient(t, a.url, { token: await token({ sub: user }, secret) });
  const seen: unknown[] = [];
  client.join("chat:sdk").on("publication", ({ data }) => seen.push(data));
  await client.publish("chat:sdk", "through");
  await isReady(client);
  await until(() => seen.length === 1, "the publication");
  t.equal(client.session?.node, "b");
});

t.test("nobody is sent to a node that does not answer", async (t) => {
  const ghost = await startFleet(["a"]);
  const [node] = ghost.nodes;
  const beat = (last_heartbeat: number) => redis.client.hset(`${ghost.redisPrefix}gateway:nodes`, "ghost", JSON.stringify({ ...factsOf(1), ip: "127.0.0.1", port: 1, state: "up", placement: "hash", partitions, weight: 1, last_heartbeat }));
  let beats = 0;
  await until(async () => (await beat(++beats)) === 0 && (await ghost.inTable(2)), "it to be in the table");
  const view = ownersOf([{ id: "a", weight: 1 }, { id: "ghost", weight: 1 }], partitions);
  const user = Array.from({ length: 100 }, (_, i) => `user-${i}`).find((one) => view[xxh32(one) % partitions] === 1)!;
  const sessions = await Promise.all(Array.from({ length: 5 }, () => served(node!, user)));
  for (const session of sessions) t.match(session.ready, { node: "a", user });
  t.equal(await metric(node!, "unreachable"), 5);
  t.equal(await metric(node!, "sent_on"), 0);
});

t.test("without an owner nobody is sent away: a ring of none, and of one", async (t) => {
  const none = await startNode(t, { ...common, redis: "", nodeId: "none", weight: 0 });
  t.match((await open(none)).ready, { node: "none" });
  t.equal(await metric(none, "unknown"), 1);
  const one = await startNode(t, { ...common, redis: "", nodeId: "one" });
  await until(async () => sumOf(await one.metrics(), "flux_placement_table") === 1, "its table");
  t.match((await open(one)).ready, { node: "one" });
  t.equal(await metric(one, "unknown"), 0);
});

t.test("while Redis is away, users are sent by the last table", async (t) => {
  const own = await startRedis(t);
  const prefix = freshPrefix();
  const two = await Promise.all(["a", "b"].map((nodeId) => startNode(t, { ...common, redis: own.url, redisPrefix: prefix, redisAnswerMs: 1_000, nodeId })));
  const tables = async () => Promise.all(two.map(async (node) => sumOf(await node.metrics(), "flux_placement_owned_partitions")));
  await until(async () => (await tables()).reduce((sum, n) => sum + n, 0) === partitions && !(await tables()).includes(0), "both in the table");
  await own.stop();
  await until(() => two[0]!.nodes().stale, "it to be noticed");
  const view = ownersOf([{ id: "a", weight: 1 }, { id: "b", weight: 1 }], partitions);
  const user = Array.from({ length: 100 }, (_, i) => `user-${i}`).find((one) => view[xxh32(one) % partitions] === 1)!;
  const sent = await sentOn(two[0]!, user);
  t.equal(sent.node, "b");
  t.match((await served(two[1]!, user, { path: pathOf(sent) })).ready, { node: "b" });
});

t.test("a node with another number of partitions does not start, and names the option", async (t) => {
  const error = await within(startNode(t, { ...common, redisPrefix, nodeId: "d", placementPartitions: 128 }).catch((error: unknown) => error), "the error");
  t.match(String(error), /--placement-partitions 128: node [abc] uses 64.*set the same number on all nodes/);
  const old = JSON.stringify({ ...factsOf(1), state: "up", placement: "hash", partitions: 8, last_heartbeat: 1 });
  const prefix = freshPrefix();
  await redis.client.hset(`${prefix}gateway:nodes`, "crashed", old);
  const node = await startNode(t, { ...common, redisPrefix: prefix, nodeId: "d", nodeDeadMs: 1_000 });
  t.equal(node.nodes().nodes.find(({ id }) => id === "crashed")?.state, "down", "one that is dead keeps nobody from starting");
});

t.test("a fourth node that joins while clients connect gets the users that belong on it, and nobody else moves but by the table", async (t) => {
  const four = ownersOf([...ids, "d"].map((id) => ({ id, weight: 1 })), partitions);
  const at = (user: string) => [...ids, "d"][four[xxh32(user) % partitions]!]!;
  const names = Array.from({ length: 300 }, (_, i) => `late-${i}`);
  const bearers = await Promise.all(names.map((user) => token({ sub: user }, secret)));
  const clients = names.map((user, i) => ({ user, before: "", client: null as ReturnType<typeof startClient> | null, bearer: bearers[i]! }));
  const start = (some: typeof clients) => some.forEach((one) => (one.client = startClient(t, ownerOf(one.user).url, { token: one.bearer })));
  const ready = (some: typeof clients) => until(() => some.every(({ client }) => client?.state === "ready"), "their sessions");
  const settled = clients.slice(0, 150);
  start(settled);
  await ready(settled);
  for (const one of settled) one.before = one.client!.session!.session;
  const sockets = new Map<string, number>();
  for (const { client, user } of settled) client!.on("state", ({ state }) => void (state === "waiting" && sockets.set(user, (sockets.get(user) ?? 0) + 1)));
  const starting = startNode(t, { ...common, redisPrefix, nodeId: "d" });
  // The others come while it joins.
  for (const one of clients.slice(150)) {
    start([one]);
    await new Promise(setImmediate);
  }
  const d = await starting;
  await until(() => clients.every(({ client, user }) => client?.state === "ready" && client.session?.node === at(user)), "everybody to be where they belong");
  const moved = settled.filter(({ user }) => nameOf(ownerOf(user)) !== at(user));
  t.ok(moved.length > 15 && moved.length < 75, `${moved.length} of 150 moved`);
  t.same([...sockets.keys()].sort(), moved.map(({ user }) => user).sort(), "nobody else lost the socket");
  t.same(new Set(sockets.values()), new Set([1]), "and they once");
  for (const { client, before } of settled) t.equal(client!.session!.session, before, "with the same session") || t.fail();
  t.ok((await metric(d, "sent_on")) === 0);
});

t.test("a node that drains sends each session to the node its user belongs on then", async (t) => {
  const d = await startFleet(["d", "e"]);
  await until(() => d.inTable(2), "the table of both");
  const [leaving, staying] = d.nodes as [Gateway, Gateway];
  const sessions = await Promise.all(Array.from({ length: 40 }, () => open(leaving)));
  void leaving.drain({ windowMs: 60_000 });
  // The first in their turns go where they asked before: the table may still name this node. Then it names the other.
  const told = () => sessions.filter(({ events }) => events.some(({ reconnect }) => reconnect));
  await until(() => told().some(({ events }) => events.some(({ reconnect }) => reconnect?.url)), "the first that is told where to go");
  for (const session of told()) {
    t.match(await session.closed(), { code: 3001 });
    const { reason, url } = session.events.find((event) => event.reconnect)!.reconnect!;
    t.equal(reason, "drain");
    t.ok(!url || Number(new URL(url).port) === staying.port, url ?? "");
  }
  const session = told().find(({ events }) => events.some(({ reconnect }) => reconnect?.url))!;
  const { pathname, search } = new URL(session.events.find((event) => event.reconnect)!.reconnect!.url!);
  t.match((await open(staying, { path: `${pathname}${search}`, hello: resumeOf(session) })).ready, { resumed: true, user: session.ready!.user });
  await leaving.close();
});

/**
 * A real haproxy with the configuration that `flux-gateway lb` writes: the same thousand users arrive at the same node by
 * the nodes' own table, through the load balancer, and through haproxy. A node joins and leaves while they run.
 */
import { readFileSync } from "node:fs";
import t, { type Test } from "tap";
import { PlaceTickets, placeTag, userTag } from "../src/auth/placetickets.ts";
import { resolveConfig } from "../src/config/config.ts";
import { factsOf } from "../src/contracts/registry.ts";
import { watchHaproxy } from "../src/lb/haproxy/watch.ts";
import { Slots } from "../src/lb/haproxy/slots.ts";
import { freePort } from "../src/node/ports.ts";
import { Placement } from "../src/placement/placement.ts";
import { createRedisTables } from "../src/placement/redis.ts";
import { createPlacement, SharedPlacement } from "../src/placement/shared.ts";
import { createLogger } from "../src/platform/log/log.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { createRedisRegistry } from "../src/registry/redis.ts";
import { lbConfig, startBalancer, startFakeNode, whoAnswers } from "./support/balancer.ts";
import { checkHaproxy, startHaproxy } from "./support/haproxy.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const server = await startRedis(t);
const prefix = freshPrefix();
const beat = { heartbeatMs: 100, deadMs: 60_000 };
const quiet = { info() {}, warn() {}, error() {} };

/** What the nodes say of themselves. */
let mode: "hash" | "partition" = "hash";

/** A node as the others know it, with the table of a real one. Instead of sockets it has a server that says its name. */
async function startMember(t: Pick<Test, "teardown">, id: string) {
  const fake = await startFakeNode(t, id);
  const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: quiet });
  const facts = () => ({ ...factsOf(1), ip: "127.0.0.1", port: fake.port, placement: mode, partitions: 1024, weight: 1 });
  const registry = await createRedisRegistry({ redis, prefix, id, facts, ...beat, log: quiet }, { nodeChanged() {} });
  await registry.announce("up");
  const shared = createPlacement(1024);
  const placement = new Placement({
    mode: "hash", partitions: 1024, stableMs: 0, deadMs: beat.deadMs, heartbeatMs: beat.heartbeatMs, movesPerSecond: 100, calmMs: 0, natsAway: () => false, node: id, shared,
    tables: await createRedisTables({ redis, prefix, node: id }), registry, log: quiet,
  });
  await placement.start();
  const stop = async () => {
    await placement.stop();
    await registry.stop();
    await redis.close();
    await fake.stop();
  };
  return { id, fake, registry, placement, view: new SharedPlacement(shared, "hash", 1024), stop };
}

type Member = Awaited<ReturnType<typeof startMember>>;

/** A thousand users: plain, Unicode, with everything that a URL treats as its own, and of tenants. */
const odd = ["Zoë", "日本語", "😀", "a b", "50%", "%41", "1+1", "x&y=z", "a#b", "q?", "<>\"'", "ünï/çødé", "\u00a0", "a\\b", "e\u0301"];
const users = Array.from({ length: 1000 }, (_, i) => ({ tenant: i % 3 === 0 ? ["acme", "Größe & Co", "50%+"][i % 9 / 3]! : "", user: `${odd[i % odd.length]!}${i}` }));

function question({ tenant, user }: (typeof users)[number], i: number): string {
  // Both forms of a space are in use.
  const encoded = (text: string) => (i % 2 === 0 ? encodeURIComponent(text) : encodeURIComponent(text).replaceAll("%20", "+"));
  return `/who?${tenant === "" ? "" : `tenant=${encoded(tenant)}&`}user=${encoded(user)}`;
}

const [a, b] = [await startMember(t, "gateway-1"), await startMember(t, "gateway-2")];
t.teardown(() => Promise.all([a.stop(), b.stop()]));
await until(async () => {
  await a.placement.look();
  await b.placement.look();
  return a.view.nodes.length === 2 && a.view.owned > 400 && a.view.owned < 600;
}, "the nodes to agree");

const redis = { redis: server.url, redisPrefix: prefix, nodeHeartbeatMs: 100, nodeDeadMs: 60_000 };
const balancer = await startBalancer(t, { ...redis, policy: "hash", readyCheckMs: 1_000, dialMs: 60_000 });
const folder = t.testdir();
const port = await freePort();
// Haproxy's own checks are so slow here that a busy machine takes no node out.
const config = lbConfig({ ...redis, policy: "hash", port, firstBytesMs: 60_000, dialMs: 60_000, readyCheckMs: 60_000 });
const watching = await watchHaproxy(config, createLogger(config), { folder, slots: 0 });
t.teardown(() => watching.close());

/** Everybody asks, at the balancer and at haproxy; the answers that are not the table's. */
async function misplaced(members: readonly Member[], every = 1): Promise<string[]> {
  const wrong: string[] = [];
  const view = members[0]!.view;
  const ask = async (user: (typeof users)[number], i: number) => {
    const owner = view.nodes[view.ownerOf(user.tenant, user.user)]?.id;
    for (const [by, at] of [["lb", balancer.port], ["haproxy", port]] as const) {
      const who = await whoAnswers(at, question(user, i));
      if (who !== owner) wrong.push(`${by}: ${JSON.stringify(user)} belongs on ${owner} and came to ${who}`);
    }
  };
  const waiting = [...users.entries()].filter(([i]) => i % every === 0);
  await Promise.all(Array.from({ length: 16 }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await ask(next[1], next[0]);
  }));
  return wrong.slice(0, 5);
}

/** The members agree, and the balancer and haproxy have what they agree on. */
async function settled(members: readonly Member[]): Promise<void> {
  const ids = members.map(({ id }) => id);
  await until(async () => {
    for (const { placement } of members) await placement.look();
    await watching.look();
    const table = members[0]!.placement.table;
    const agreed = members.every(({ placement }) => placement.table?.number === table?.number) && table?.members.map(({ id }) => id).join() === ids.join();
    return agreed && balancer.usage().table === table?.number && balancer.usage().nodes.filter(({ usable }) => usable).length === ids.length;
  }, `a table of ${ids.join()}`);
}

const refusedBy = checkHaproxy(folder);
await startHaproxy(t, folder);

t.test("haproxy takes the configuration, and every user arrives where the nodes' table says", async (t) => {
  t.equal(refusedBy, "");
  await settled([a, b]);
  t.same(await misplaced([a, b]), []);
});

t.test("node= comes first, then a ticket, then the user in a token", async (t) => {
  const tickets = new PlaceTickets("a secret of the nodes, long enough");
  const userOf = ({ view }: Member) => Array.from({ length: 100 }, (_, i) => `user-${i}`).find((user) => view.ownerOf("acme", user) === view.self)!;
  for (const [member, other] of [[a, b], [b, a]] as const) {
    const [own, foreign] = [userOf(member), userOf(other)];
    for (const at of [balancer.port, port]) {
      const who = (query: string, headers?: string) => whoAnswers(at, `/who?${query}`, headers);
      t.equal(await who(`node=${member.id}&tenant=acme&user=${foreign}`), member.id, "node=");
      t.equal(await who(`ticket=${tickets.make(placeTag(member.id), userTag("acme", foreign), 0, 0, false)}`), member.id, "the node of a ticket");
      t.equal(await who(`ticket=${tickets.make(placeTag("gone"), userTag("acme", own), 0, 0, false)}`), member.id, "its user");
      const claims = await token({ sub: own, tenant: "acme" }, secret);
      t.equal(await who(`token=${claims}`), member.id, "a token in the URL");
      t.equal(await who("x=1", `Authorization: Bearer ${claims}\r\n`), member.id, "a token in the header");
    }
  }
});

t.test("a node joins and leaves while they run", async (t) => {
  const c = await startMember(t, "gateway-3");
  await settled([a, b, c]);
  t.same(await misplaced([a, b, c], 4), []);
  t.ok(c.fake.requests.length > 100, "it has got its share, through both");

  const answer = await whoAnswers(port, "/who?node=gateway-3");
  t.equal(answer, "gateway-3");
  await c.registry.announce("draining");
  await settled([a, b]);
  const before = c.fake.requests.length;
  t.same(await misplaced([a, b], 4), []);
  t.not(await whoAnswers(port, "/who?node=gateway-3"), "gateway-3", "a draining node gets nothing new, though it accepts");
  t.not(await whoAnswers(balancer.port, "/who?node=gateway-3"), "gateway-3");
  t.equal(c.fake.requests.length, before);
  await c.stop();
  t.match(readFileSync(`${folder}/haproxy.cfg`, "utf8"), /^ {2}server s1 127\.0\.0\.1:\d+$/m);
});

t.test("under --placement partition both follow the table, and a client that a node sends on arrives by node=", async (t) => {
  mode = "partition";
  await Promise.all([a, b].map(({ registry }) => registry.announce("up")));
  await until(() => [a, b].every(({ registry }) => registry.nodes().every(({ placement }) => placement === "partition")), "the nodes to say so");
  await settled([a, b]);
  t.same(await misplaced([a, b], 10), []);
  const user = Array.from({ length: 100 }, (_, i) => `user-${i}`).find((user) => a.view.ownerOf("", user) === a.view.self)!;
  for (const at of [balancer.port, port]) {
    t.equal(await whoAnswers(at, `/who?user=${user}`), a.id);
    t.equal(await whoAnswers(at, `/who?user=${user}&node=${b.id}`), b.id, "while b still holds the partition");
  }
});

t.test("nodes keep their slots, and a new one takes a free one", async (t) => {
  const node = (id: string) => ({ id, host: "h", port: 1, state: "up" as const, load: 0, weight: 1 });
  const slots = new Slots(3);
  const names = (ids: string[]) => slots.assign(ids.map(node)).map(({ node }) => node?.id ?? "-");
  t.same(names(["a", "b"]), ["a", "b", "-"]);
  t.same(names(["b", "c"]), ["c", "b", "-"]);
  t.same(names(["b", "c", "d", "e"]), ["c", "b", "d"], "one has to wait");
});

t.test("what haproxy cannot do is refused by name", (t) => {
  t.throws(() => resolveConfig({ flags: { policy: "random" }, runner: "lb" }), /--policy: must be hash/);
  t.end();
});

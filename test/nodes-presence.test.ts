/** Presence over two nodes on one Redis, as clients see it. */
import t from "tap";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { open } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);
const secret = "s".repeat(32);
const namespaces = { chat: { presenceEvents: true } };
const brief = { presenceGraceMs: 200, presenceIntervalMs: 50, nodeHeartbeatMs: 200, nodeDeadMs: 3_000 } as const;

t.test("clients on one node see who comes and goes on another, also by the death of that node", async (t) => {
  const prefix = freshPrefix();
  const a = await startNode(t, { ...brief, reactors: 1, redis: redis.url, redisPrefix: prefix, nodeId: "a", authSecret: secret, namespaces });
  const b = await startNodeProcess([
    "--redis", redis.url, "--redis-prefix", prefix, "--node-id", "b", "--reactors", "1", "--auth-secret", secret, "--namespaces", JSON.stringify(namespaces),
    ...Object.entries(brief).flatMap(([key, value]) => [`--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, String(value)]),
  ]);
  t.teardown(() => b.kill());
  await until(() => a.nodes().nodes.length === 2, "both");
  const come = async (node: { port: number }, sub: string) => open(node, { hello: { token: await token({ sub }, secret) } });
  const ann = await come(a, "ann");
  await ann.join("chat:one");
  await ann.request({ watch: { users: ["bob"] } });
  const bob = await come(b, "bob");
  await bob.join("chat:one");
  await ann.waitFor(() => ann.events.some(({ presenceChanged }) => presenceChanged?.joined?.includes("bob")), "bob to come");
  await ann.waitFor(() => ann.events.some(({ userStatus }) => userStatus?.user === "bob" && userStatus.online), "bob to be online");
  for (const session of [ann, bob]) {
    const { presence } = await session.request({ presence: { room: "chat:one" } });
    t.same(presence?.members?.map(({ user, sessions }) => `${user} ${sessions}`).sort(), ["ann 1", "bob 1"]);
  }
  await b.kill();
  await ann.waitFor(() => ann.events.some(({ presenceChanged }) => presenceChanged?.left?.includes("bob")), "bob to be gone with his node");
  await ann.waitFor(() => ann.events.some(({ userStatus }) => userStatus?.user === "bob" && !userStatus.online), "bob to be offline");
  const { presence } = await ann.request({ presence: { room: "chat:one" } });
  t.same(presence?.members?.map(({ user }) => user), ["ann"]);
});

t.test("members of a node that is closed are gone after the grace", async (t) => {
  const common = { ...brief, reactors: 1, redis: redis.url, redisPrefix: freshPrefix(), namespaces };
  const a = await startNode(t, { ...common, nodeId: "a" });
  const b = await startNode(t, { ...common, nodeId: "b" });
  await until(() => a.nodes().nodes.length === 2, "both");
  const ann = await open(a);
  await ann.join("chat:one");
  const bob = await open(b);
  await bob.join("chat:one");
  const users = async () => (await ann.request({ presence: { room: "chat:one", countsOnly: true } })).presence?.users;
  await until(async () => (await users()) === 2, "both members");
  await b.close();
  await until(async () => (await users()) === 1, "bob to be gone");
});

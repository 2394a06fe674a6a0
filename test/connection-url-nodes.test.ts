/** Which node a client is sent to, and where it ends up, while nodes die, drain and come, and while Redis is away. */
import t from "tap";
import { WebSocket } from "ws";
import { connect, type Client, type Located } from "../src/client/index.ts";
import { xxh32 } from "../src/placement/hash.ts";
import { ownersOf } from "../src/placement/ring.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { isReady } from "./support/sdk.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const resumeSecret = "r".repeat(32);
/** No node is known to be down by its silence: whoever notices must look. */
const brief = { nodeHeartbeatMs: 100, nodeDeadMs: 600_000 };

async function startPair(placement: "any" | "hash") {
  const redis = await startRedis(t);
  const redisPrefix = freshPrefix();
  const common: NodeOptions = { reactors: 1, resumeSecret, redis: redis.url, redisPrefix, redisAnswerMs: 60_000, placement, placementPartitions: 64, placementStableMs: 0, ...brief };
  const a = await startNode(t, { ...common, nodeId: "a" });
  const startB = (port = 0) => startNodeProcess([
    "--node-id", "b", "--reactors", "1", "--port", String(port), "--resume-secret", resumeSecret, "--redis", redis.url, "--redis-prefix", redisPrefix, "--redis-answer-ms", "60s",
    "--placement", placement, "--placement-partitions", "64", "--placement-stable-ms", "0", "--node-heartbeat-ms", "100", "--node-dead-ms", "600s",
  ]);
  const b = await startB();
  t.teardown(() => b.kill());
  const locate = `http://127.0.0.1:${a.port}/api/connection-url`;
  const ask = async (query = ""): Promise<{ node: string; url: string }> => (await fetch(locate + query)).json() as never;
  /** The nodes that many answers name. */
  const named = async (query = "") => [...new Set((await Promise.all(Array.from({ length: 40 }, () => ask(query)))).map(({ node }) => node))].sort();
  /** Whether clients are sent to b; which of two nodes gets one without not= depends on their work. */
  const takesB = async () => (await ask("?not=a")).node === "b";
  await until(takesB, "both nodes to be known");
  return { redis, a, b, startB, locate, ask, named, takesB };
}

function start(locate: string): Client {
  const client = connect({ WebSocket, storage: null, backoff: { baseMs: 20, capMs: 200 }, locate });
  t.teardown(() => client.close());
  return client;
}

/** A client whose session is on this node. */
async function clientOn(node: string, locate: string): Promise<Client> {
  const other = node === "a" ? "b" : "a";
  // At first it cannot reach the other one.
  let isFirst = true;
  const client = connect({
    WebSocket, storage: null, backoff: { baseMs: 20, capMs: 200 },
    locate: async ({ not, ticket }) => {
      const query = new URLSearchParams({ not: isFirst ? other : not.join(), ...(ticket !== "" && { resume: ticket }) });
      isFirst = false;
      return (await fetch(`${locate}?${query}`)).json() as Promise<Located>;
    },
  });
  t.teardown(() => client.close());
  await isReady(client);
  t.equal(client.session?.node, node);
  return client;
}

t.test("any: a node that was killed gets nobody once somebody has said so; its sessions go on elsewhere; it comes back", async (t) => {
  const { redis, b, startB, locate, ask, named, takesB } = await startPair("any");
  const client = await clientOn("b", locate);
  const { session } = client.session!;
  t.strictSame(await named("?not=b"), ["a"], "for who says so, it gets nobody though it lives");
  // Where the other is busy for a moment, it is not offered.
  await until(takesB, "others to get it");
  await b.kill();
  await until(() => client.session?.node === "a", "the client to be back");
  t.match(client.session, { session, resumed: true });
  // A look counts for a second: one that was made a moment before the end found nothing.
  await until(async () => (await ask("?not=b"), (await named()).join() === "a"), "the look");

  await redis.stop();
  t.strictSame(await named("?user=ada"), ["a"], "without Redis, too");
  await isReady(start(locate));
  await redis.start();

  const again = await startB(b.port);
  t.teardown(() => again.kill());
  await until(takesB, "it to be found again");
});

t.test("any: a node that drains gets nobody, and its clients ask where to go", async (t) => {
  const { b, locate, named } = await startPair("any");
  const client = await clientOn("b", locate);
  const { session } = client.session!;
  await b.drain(1);
  await until(() => client.session?.node === "a", "the client to be elsewhere");
  t.match(client.session, { session, resumed: true });
  t.strictSame(await named(), ["a"]);
});

t.test("hash: the owner is named, whatever one caller says; where it is dead, another, who serves the user at once", async (t) => {
  const { a, b, ask } = await startPair("hash");
  const owners = ownersOf([{ id: "a", weight: 1 }, { id: "b", weight: 1 }], 64);
  const usersOf = (owner: number) => Array.from({ length: 200 }, (_, i) => `user-${i}`).filter((user) => owners[xxh32(user) % 64] === owner);
  const [onA, onB] = [usersOf(0).slice(0, 5), usersOf(1).slice(0, 5)];
  const nodesOf = (users: string[], query = "") => Promise.all(users.map(async (user) => (await ask(`?user=${user}${query}`)).node));
  await until(async () => (await nodesOf([...onA, ...onB])).join() === "a,a,a,a,a,b,b,b,b,b", "the table of both");
  t.match(await ask("?user=user-1"), { placement: "hash", partition: xxh32("user-1") % 64 });
  t.strictSame(await nodesOf(onB, "&not=b"), ["b", "b", "b", "b", "b"], "the caller may have no network");
  await b.kill();
  t.strictSame(await nodesOf(onB), ["b", "b", "b", "b", "b"], "nobody has noticed");
  await until(async () => (await ask(`?user=${onB[0]}&not=b`)).node === "a", "the look, which counts for a second");
  t.strictSame(await nodesOf(onB), ["a", "a", "a", "a", "a"], "for all");
  const { url } = await ask("");
  t.equal((await open(a, { path: url.slice(url.indexOf("/ws")) })).ready?.node, "a");
  t.ok(sumOf(await a.metrics(), "flux_connection_urls_total") > 10);
});

t.test("where Redis lost the secret and another node made one, the node that differs answers 503 until they agree", async (t) => {
  const redis = await startRedis(t);
  const redisPrefix = freshPrefix();
  const key = `${redisPrefix}resume-secret`;
  const node = await startNode(t, { reactors: 1, nodeId: "a", redis: redis.url, redisPrefix, redisAnswerMs: 60_000, ...brief });
  const ask = () => fetch(`http://127.0.0.1:${node.port}/api/connection-url`);
  t.equal((await ask()).status, 200);
  const own = await redis.client.get(key);
  // A node looks at the secret whenever it has connected again.
  const cut = () => redis.client.call("client", "kill", "type", "normal", "skipme", "yes");
  await redis.client.del(key);
  await cut();
  await until(async () => (await redis.client.get(key)) === own, "the node to store it again");
  t.equal((await ask()).status, 200, "nothing has changed for clients");
  await redis.client.set(key, "the secret of another node");
  await cut();
  await until(async () => (await ask()).status === 503, "the node to notice");
  const refused = await ask();
  t.match(await refused.json(), { error: { code: "unavailable", text: /another secret/, retryable: true } });
  t.match(refused.headers.get("retry-after"), /^[1-5]$/);
  t.ok((await open(node)).ready, "clients are served as ever");
  await redis.client.set(key, own!);
  await cut();
  await until(async () => (await ask()).status === 200, "them to agree");
});

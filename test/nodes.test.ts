/** Several nodes on one Redis, as an operator sees them: gateway.nodes(), /nodes, the command, and metrics. */
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import t from "tap";
import { ConfigError } from "../src/config/config.ts";
import { freePort } from "../src/node/ports.ts";
import { createGateway, type Gateway } from "../dist/index.js";
import { command as run } from "./support/command.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);
const brief = { reactors: 1, nodeHeartbeatMs: 200, nodeDeadMs: 3_000, redisAnswerMs: 1_000 } as const;

const on = (redisPrefix: string, nodeId: string, more: NodeOptions = {}): NodeOptions => ({ ...brief, redis: redis.url, redisPrefix, nodeId, ...more });
const ids = (node: Gateway) => node.nodes().nodes.map(({ id, state }) => `${id} ${state}`);

const command = (port: number, args: readonly string[] = []) => run(["nodes", "--admin-port", String(port), ...args]);

t.test("nodes on one Redis know each other and how they are; who is closed is gone at once", async (t) => {
  const prefix = freshPrefix();
  const a = await startNode(t, on(prefix, "a", { region: "north" }));
  const b = await createGateway({ port: 0, adminPort: 0, demo: false, logLevel: "silent", ...on(prefix, "b", { nodeUrl: "wss://b.example/ws" }) });
  await until(() => ids(a).length === 2 && ids(b).length === 2, "both");
  const session = await open(b);
  await until(() => a.nodes().nodes[1]?.sockets === 1, "the socket to be told of");
  t.match(a.nodes(), { node: "a", stale: false });
  t.match(a.nodes().nodes[0], { id: "a", state: "up", url: a.url, ip: "127.0.0.1", port: a.port, region: "north", reactors: 1 });
  t.match(a.nodes().nodes[1], { id: "b", state: "up", url: "wss://b.example/ws", region: "", rss: Number, cpu: Number, load: Number });
  t.equal(sumOf(await a.metrics(), 'flux_nodes{state="up"}'), 2);
  t.equal(sumOf(await a.metrics(), "flux_redis_connected"), 1);
  await b.close();
  t.match(await session.closed(), { code: 3001 });
  await until(() => ids(a).length === 1, "it to be gone");
});

t.test("a node that was killed is down for the others", async (t) => {
  const prefix = freshPrefix();
  const a = await startNode(t, on(prefix, "a"));
  const b = await startNodeProcess(["--redis", redis.url, "--redis-prefix", prefix, "--node-id", "b", "--node-heartbeat-ms", "200", "--node-dead-ms", "1000", "--reactors", "1"]);
  t.teardown(() => b.kill());
  await until(() => ids(a).length === 2, "both");
  await b.kill();
  await until(() => ids(a)[1] === "b down", "it to be down");
  t.equal(sumOf(await a.metrics(), 'flux_nodes{state="down"}'), 1);
});

t.test("the admin port and the command list all of them, and say where Redis is away", async (t) => {
  const prefix = freshPrefix();
  const own = await startRedis(t);
  const a = await startNode(t, { ...on(prefix, "a", { region: "north" }), redis: own.url });
  await startNode(t, { ...on(prefix, "b"), redis: own.url });
  await until(() => ids(a).length === 2, "both");
  const table = await command(a.adminPort);
  t.equal(table.code, 0, table.err);
  const [head, first, second, ...rest] = table.out.trimEnd().split("\n");
  t.match(head, /^node +state +health +url +region +sockets +load +cpu +rss +version +heard$/);
  t.match(first, new RegExp(`^a \\* +up +ready +ws://127.0.0.1:${a.port}/ws +north +0 +\\d+ % .* now$`));
  t.match(second, /^b +up +ready +ws:.* -  .* \d\.\d s ago$/);
  t.same(rest, []);
  const json = JSON.parse((await command(a.adminPort, ["--json"])).out) as { node: string; nodes: { id: string }[] };
  t.match(json, { node: "a", stale: false, nodes: [{ id: "a", health: { ready: true, redis: true, nats: null } }, { id: "b", health: { ready: true, sessions: 0 } }] });
  t.equal((await fetch(`http://127.0.0.1:${a.adminPort}/nodes`, { method: "POST" })).status, 405);
  await own.stop();
  await until(() => a.nodes().stale, "it to be noticed");
  t.match((await command(a.adminPort)).out, /a \* +up +ready(.|\n)*b +up +no answer(.|\n)*Redis is unavailable: this list may be out of date/);
  t.equal(sumOf(await a.metrics(), "flux_nodes_stale"), 1);
  t.equal(sumOf(await a.metrics(), "flux_redis_connected"), 0);
  t.equal((await fetch(`http://127.0.0.1:${a.port}/ready`)).status, 200, "the node serves on");
  t.match(await command(1), { code: 1, err: /^error: --admin-port: no node answers/ });
});

t.test("a node of a version that knows no surveys is asked for its nodes all the same", async (t) => {
  const a = await startNode(t, { reactors: 1, nodeId: "a" });
  const known = await (await fetch(`http://127.0.0.1:${a.adminPort}/nodes`)).text();
  const older = createHttpServer(({ url }, res) => void res.writeHead(url === "/nodes" ? 200 : 404).end(url === "/nodes" ? known : "not found\n")).listen(0, "127.0.0.1");
  await once(older, "listening");
  t.teardown(() => older.close());
  const { port } = older.address() as AddressInfo;
  t.match(await command(port), { code: 0, out: /^node +state +health.*\na \* +up +- +ws:/ });
  const json = JSON.parse((await command(port, ["--json"])).out) as { nodes: object[] };
  t.match(json.nodes, [{ id: "a" }]);
  t.notOk("health" in json.nodes[0]!, "what is not known is not said");
});

t.test("without Redis a node is alone, and says so", async (t) => {
  const node = await startNode(t, { reactors: 1, nodeId: "alone" });
  t.same(ids(node), ["alone up"]);
  t.notMatch(await node.metrics(), /flux_redis/);
  t.match((await command(node.adminPort)).out, /alone \*/);
});

t.test("a Redis that cannot be used keeps a node from starting, and the error says what to do", async (t) => {
  const locked = await startRedis(t, { password: "right" });
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  await once(silent, "listening");
  t.teardown(() => silent.close());
  const nobody = await freePort();
  const refused = async (address: string) => {
    const error = await createGateway({ port: 0, adminPort: 0, demo: false, logLevel: "silent", reactors: 1, redis: address }).then(
      (node) => node.close().then(() => null),
      (error: unknown) => error,
    );
    t.ok(error instanceof Error && error.name === ConfigError.name, String(error));
    return String((error as Error).message);
  };
  t.match(await refused(`redis://127.0.0.1:${nobody}`), new RegExp(`^--redis redis://127.0.0.1:${nobody}: cannot be used: .*ECONNREFUSED.*check that Redis runs there`));
  const wrong = await refused(`redis://:wrong-secret@127.0.0.1:${locked.port}/3`);
  t.match(wrong, new RegExp(`^--redis redis://127.0.0.1:${locked.port}/3: cannot be used: WRONGPASS.*put user and password into the address`));
  t.notMatch(wrong, /wrong-secret/);
  t.match(await refused(locked.url.replace(":right@", "")), /NOAUTH.*put user and password into the address/);
  t.match(await refused("redis://no-such-host.invalid:1"), /check the host name/);
  t.match(await refused(`redis://127.0.0.1:${(silent.address() as AddressInfo).port}`), /no answer within 5 s; check that Redis runs there/);
  const node = await createGateway({ port: 0, adminPort: 0, demo: false, logLevel: "silent", reactors: 1, redis: locked.url });
  t.equal(node.nodes().stale, false, "with the password it starts");
  await node.close();
});

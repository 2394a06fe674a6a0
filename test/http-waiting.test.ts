/** Requests to the HTTP API that wait: each is counted until its end, however it ends, and their number is bounded. */
import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import t from "tap";
import { apiBounds, startServer } from "../src/admin/server.ts";
import { openCaller, type ApiCaller, type ApiKeys } from "../src/auth/apikeys.ts";
import { secretKey } from "../src/auth/keys.ts";
import { createVerifier } from "../src/auth/verifier.ts";
import { HttpApi, type HttpApiOptions } from "../src/http/http.ts";
import { Door } from "../src/http/door.ts";
import { MessageExchange, type MessageAnswer } from "../src/http/exchange/message.ts";
import { NodeExchange } from "../src/http/exchange/nodehttp.ts";
import { streamBounds } from "../src/http/streams.ts";
import { startNode } from "./support/node.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const caller: ApiCaller = { ...openCaller, kind: "key", name: "shop" };
const log = { error: () => {}, info: () => {}, warn: () => {} } as unknown as HttpApiOptions["log"];

/** An HTTP API that verifies credentials when `letIn` is called. */
function verifying() {
  const waiting: ((caller: ApiCaller) => void)[] = [];
  const keys = { authenticate: () => new Promise<ApiCaller>((resolve) => waiting.push(resolve)), admit: () => null } as unknown as ApiKeys;
  const node = { nodes: () => ({ node: "a", stale: false, nodes: [] }) } as unknown as HttpApiOptions["node"];
  const tokens = {} as HttpApiOptions["tokens"];
  const door = new Door({ isPublic: false, config: { allowedOrigins: [], host: "127.0.0.1" } });
  const http = new HttpApi({ node, keys, tokens, door, streams: streamBounds, audit: { refused() {}, done() {} } as unknown as HttpApiOptions["audit"], log });
  const letIn = () => waiting.splice(0).forEach((resolve) => resolve(caller));
  return { http, waiting, letIn };
}

t.test("a client that disconnects while its token is verified leaves nothing behind", async (t) => {
  const { http, waiting, letIn } = verifying();
  const server = await startServer({ host: "127.0.0.1", port: 0 }, { name: "test", bounds: apiBounds, log }, (req, res) => {
    if (waiting.length === 0) req.socket.once("close", () => (closed = true));
    http.serve(new NodeExchange(req, res));
  });
  t.teardown(() => server.close());
  let closed = false;
  const client = connect(server.port, "127.0.0.1");
  client.write("GET /api/v1/nodes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c\r\n\r\n".repeat(3));
  await until(() => waiting.length === 3, "the requests to be verified");
  client.destroy();
  await until(() => closed, "the end of the connection");
  letIn();
  await new Promise(setImmediate);
  t.equal(http.usage().waiting, 0);
});

t.test("so many requests wait for the verification of their tokens, and no more", async (t) => {
  const { http, letIn } = verifying();
  const answers: MessageAnswer[] = [];
  for (let i = 0; i < 4_100; i++) http.serve(new MessageExchange({ method: "GET", url: "/api/v1/nodes", headers: { authorization: "Bearer a.b.c" }, body: new Uint8Array(), from: "test" }, (answer) => answers.push(answer)));
  t.equal(answers.length, 4);
  t.match(answers, Array.from({ length: 4 }, () => ({ status: 503, text: /"overloaded"/ })));
  letIn();
  await until(() => answers.length === 4_100, "the other answers");
  t.ok(answers.slice(4).every(({ status }) => status === 200));
});

t.test("so many tokens wait for keys from a URL, and no more; API keys and signatures by secret go on", async (t) => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  await once(silent, "listening");
  t.teardown(() => (silent.close(), silent.closeAllConnections()));
  const config = { authJwksUrl: `http://127.0.0.1:${(silent.address() as AddressInfo).port}/keys`, authAudience: [], authIssuer: [], authClockToleranceMs: 0 };
  const { verify } = createVerifier({ config, keys: [secretKey(secret)] });
  const header = Buffer.from('{"alg":"RS256","kid":"later"}').toString("base64url");
  const verdicts = Array.from({ length: 4_100 }, (_, i) => verify(`${header}.${Buffer.from(`{"sub":"u${i}"}`).toString("base64url")}.AA`));
  t.ok(verdicts.slice(0, 4_096).every((one) => one instanceof Promise));
  t.match(verdicts.slice(4_096), Array.from({ length: 4 }, () => ({ refused: "unavailable", text: /too many tokens/ })));
  t.equal(verify(`${header}.${Buffer.from('{"sub":"u0"}').toString("base64url")}.AA`), verdicts[0], "one that is known waits with the first");
  t.match(await verify(await token({ sub: "ann" }, secret)), { grant: { user: "ann" } });
  silent.closeAllConnections();
  t.match(await verdicts[0], { refused: "unavailable" });
});

t.test("requests that are sent ahead on one connection end with it, streams among them", async (t) => {
  const node = await startNode(t, { reactors: 1, namespaces: { chat: { durable: true } } });
  const gauges = async () => (await node.metrics()).match(/^flux_http_(waiting|streams) \d+$/gm)?.join();
  const client = connect(node.apiPort, "127.0.0.1").on("error", () => {});
  client.write("GET /api/v1/rooms/chat:a/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(3));
  client.write("GET /api/v1/rooms/chat:a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  await until(async () => (await gauges()) === "flux_http_waiting 4,flux_http_streams 3", "the requests to be under way");
  client.destroy();
  await until(async () => (await gauges()) === "flux_http_waiting 0,flux_http_streams 0", "nothing to be left of them");
});

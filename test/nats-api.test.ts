/** The HTTP API's calls over NATS: the same table, from backends that have NATS already. */
import { connect, headers, type Msg, type NatsConnection } from "nats";
import t from "tap";
import type { Exchange } from "../src/http/exchange/exchange.ts";
import { MessageExchange, type MessageAnswer } from "../src/http/exchange/message.ts";
import { NatsInput, type NatsRequest } from "../src/http/natsinput.ts";
import type { HttpApi } from "../src/http/http.ts";
import { startNats } from "./support/nats.ts";
import { startNode } from "./support/node.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const server = await startNats(t);
const options = { nats: [server.url], natsApi: true, natsPartitions: 1, reactors: 1 } as const;
const node = await startNode(t, { ...options, nodeId: "a" });
const backend = await connect({ servers: server.url });
t.teardown(() => backend.close());

const text = (message: Msg) => message.string();
const value = (message: Msg) => JSON.parse(text(message)) as Record<string, unknown>;
const ask = (subject: string, body: unknown = "", more: Record<string, string> = {}, connection: NatsConnection = backend) => {
  const with_ = headers();
  for (const [name, value] of Object.entries(more)) with_.set(name, value);
  const payload = body instanceof Uint8Array ? body : typeof body === "string" ? body : JSON.stringify(body);
  return connection.request(`flux.api.${subject}`, payload, { timeout: 60_000, headers: with_ });
};

t.test("publish and read, with the bodies and answers of the HTTP API", async (t) => {
  const message = await ask("publish.chat:a", { data: { text: "hi" }, key: "k1" });
  const first = value(message);
  t.match(first, { position: /:1$/, receivers: 0, duplicate: false });
  t.equal(message.headers?.get("Status"), "201");
  t.match(value(await ask("publish.chat:a", { data: { text: "hi" } }, { "Idempotency-Key": "k1" })), { position: first.position, duplicate: true });
  t.equal((await ask("publish.chat:a", `{"data":12345678901234567890}`)).headers?.get("Status"), "201");
  const history = text(await ask("history.chat:a", { limit: 5 }));
  t.match(history, /"data":\{"text":"hi"\}/);
  t.match(history, /12345678901234567/, "a payload stays as it was written");
  t.match(value(await ask("publishBatch", [{ room: "chat:b", data: 1 }, { room: "chat:b", data: 2 }])), { failed: 0, results: [{ position: /:\d+$/ }, { position: /:\d+$/ }] });
  t.match(value(await ask("send.ann", { data: "for you" })), { position: /:\d+$/ });
});

t.test("an ephemeral room has positions where it has members", async (t) => {
  for (let i = 0; i < 2; i++) t.match(value(await ask("publish.lobby", { data: 1, key: "k" })), { position: ":0", receivers: 0, duplicate: false });
  const session = await open(node);
  await session.join("lobby");
  for (const duplicate of [false, true]) t.match(value(await ask("publish.lobby", { data: 1, key: "l" })), { position: /^.+:1$/, receivers: 1, duplicate });
  await session.bye();
});

t.test("names are percent-encoded in subjects, and the tenant is a header", async (t) => {
  await ask("publish.chat:a%2Eb%20c%25", { data: 1 });
  const read = async (more: Record<string, string> = {}) => (value(await ask("history.chat:a%2Eb%20c%25", "", more)).publications as unknown[]).length;
  t.equal(await read(), 1);
  t.equal(await read({ "Flux-Tenant": "acme" }), 0, "tenants share nothing");
  const response = await fetch(`http://127.0.0.1:${node.adminPort}/api/v1/rooms/${encodeURIComponent("chat:a.b c%")}/history`);
  t.equal(((await response.json()) as { publications: unknown[] }).publications.length, 1, "it is the room of this name");
});

t.test("what is refused is a problem, with the headers of NATS services", async (t) => {
  const refused: [subject: string, body: unknown, status: string, code: string, detail: RegExp][] = [
    ["nothing", "", "404", "not_found", /unknown call: the calls are publish, /],
    ["stream.chat:a", "", "404", "not_found", /unknown call/],
    ["createToken", { user: "ann" }, "404", "not_found", /unknown call/],
    ["publish", { data: 1 }, "404", "not_found", /publish\.<room>/],
    ["publish.chat:a.b", { data: 1 }, "404", "not_found", /publish\.<room>/],
    ["publish.%E0%A4%A", { data: 1 }, "404", "not_found", /percent-encoded/],
    ["publish.nowhere:a", { data: 1 }, "404", "unknown_namespace", /namespace/],
    ["publish.chat:a", "{", "400", "bad_request", /^body: is not valid JSON/],
    ["publish.chat:a", "", "400", "bad_request", /^body: is not valid JSON/],
    ["publish.chat:a", new Uint8Array([0xff, 0xfe]), "400", "bad_request", /^body: /],
    ["publish.chat:a", '{"__proto__":1}', "400", "bad_request", /unknown field/],
    ["publish.chat%3A%00", { data: 1 }, "400", "bad_request", /control characters/],
    ["history.chat:a", "[1]", "400", "bad_request", /payload of history/],
    ["history.chat:a", { limit: 0 }, "400", "bad_request", /^limit: /],
    ["history.chat:a", { more: 1 }, "400", "bad_request", /unknown field "more"/],
    ["history.chat:a", { after: { a: 1 } }, "400", "bad_request", /payload of history/],
    ["history.chat:a", { after: "garbage" }, "400", "bad_request", /must be a position/],
    ["publishBatch", [], "400", "bad_request", /at least 1/],
  ];
  for (const [subject, body, status, code, detail] of refused) {
    const message = await ask(subject, body);
    t.match(value(message), { code, detail, retryable: false }, subject);
    t.same([message.headers?.get("Nats-Service-Error-Code"), message.headers?.get("Nats-Service-Error")], [status, code], subject);
  }
});

t.test("a publish without a reply is done, and what is wrong with one is dropped, counted and ends nothing", async (t) => {
  for (const [subject, body] of [["publish.chat:quiet", '{"data":1}'], ["publish.chat:quiet", "{"], ["history.chat:quiet", ""], ["nothing", ""]] as const) backend.publish(`flux.api.${subject}`, body);
  await until(async () => (value(await ask("history.chat:quiet")).publications as unknown[]).length === 1, "the publication");
  for (const reply of ["$JS.API.STREAM.DELETE.FLUX_chat_0", "flux.out.chat.x", "elsewhere"]) {
    const heard = backend.subscribe(reply, { callback: () => t.fail(`an answer to ${reply}`) });
    backend.publish("flux.api.publish.chat:quiet", '{"data":"evil"}', { reply });
    await ask("publish.chat:other", { data: 1 });
    heard.unsubscribe();
  }
  await until(async () => /messages_total\{outcome="dropped"\} 2\n/.test(await node.metrics()), "the others");
  t.notMatch(text(await ask("history.chat:quiet")), "evil", "and nothing was done with a reply to elsewhere");
  const metrics = await node.metrics();
  t.match(metrics, /flux_nats_api_messages_total\{outcome="unanswered"\} 2\n/);
  t.match(metrics, /flux_api_key_requests_total\{key="nats"\} /);
  t.match(metrics, /flux_http_requests_total\{call="publish",code="bad_request"\} /, "with the calls over HTTP");
});

t.test("nodes share the requests, and one that closes answers those that it has taken", async (t) => {
  const other = await startNode(t, { ...options, nodeId: "b" });
  const answers = Array.from({ length: 200 }, (_, i) => ask("publish.chat:shared", { data: i }));
  const [results] = await Promise.all([Promise.all(answers), backend.flush().then(() => other.close())]);
  t.equal(new Set(results.map((one) => value(one).position)).size, 200, "each got its answer, once");
  const count = async () => Number(/flux_api_key_requests_total\{key="nats"\} (\d+)/.exec(await node.metrics())![1]);
  const before = await count();
  await ask("publish.chat:shared", { data: "after" });
  t.equal(await count(), before + 1, "the one that is left answers");
});

t.test("it is off unless it is asked for", async (t) => {
  const silent = await startNode(t, { nats: [server.url], natsPrefix: "off", natsPartitions: 1, reactors: 1 });
  t.ok(silent.port > 0);
  await t.rejects(backend.request("off.api.nodes", "", { timeout: 60_000 }), { code: "503" }, "nobody subscribes");
});

t.test("requests beyond the bound are refused, and all that were taken are answered", async (t) => {
  const served: string[] = [];
  const http = { serve: (exchange: Exchange) => {
    served.push(exchange.url);
    exchange.answer(200, [], "{}");
  } } as unknown as HttpApi;
  const input = new NatsInput(http, { warn() {} } as never);
  const statuses: number[] = [];
  const request = (i: number, payload = new Uint8Array()): NatsRequest => ({ subject: `user.u${i}`, payload, header: () => "", answer: ({ status }) => void statuses.push(status) });
  for (let i = 0; i < 5_000; i++) input.receive({ ...request(i), subject: "nodes" });
  t.equal(statuses.filter((status) => status === 503).length, 5_000 - 4_096, "refused at once");
  await input.idle();
  t.equal(statuses.filter((status) => status === 200).length, 4_096);
  statuses.length = 0;
  input.receive({ ...request(1, new Uint8Array(60 * 2 ** 20)), subject: "nodes" });
  input.receive({ ...request(1, new Uint8Array(5 * 2 ** 20)), subject: "nodes" });
  t.same(statuses, [503], "bytes are bounded, too");
  await input.idle();
  t.equal(input.usage().dropped, 0);
});

t.test("an answer that cannot be sent ends nothing: the connection may be closed by then", async (t) => {
  const said: string[] = [];
  const http = { serve: (exchange: Exchange) => exchange.answer(200, [], "{}") } as unknown as HttpApi;
  const input = new NatsInput(http, { warn: (_: object, text: string) => void said.push(text) } as never);
  const answer = () => { throw new Error("CONNECTION_CLOSED"); };
  for (const subject of ["nodes", "nothing"]) input.receive({ subject, payload: new Uint8Array(), header: () => "", answer });
  await input.idle();
  t.match(input.usage(), { answered: 0, unanswered: 2 });
  t.match(said, [/could not be sent/], "said once");
});

t.test("without Redis, nodes on one NATS cannot reach each other's users: no answer is complete", async (t) => {
  for (const [subject, body] of [["disconnect.ann", ""], ["reconnect.ann", {}], ["user.ann", ""], ["rooms", ""], ["leave.ann.chat:a", ""]] as const) t.match(value(await ask(subject, body)), { complete: false }, subject);
});

t.test("a message is answered once, whatever the handler does", async (t) => {
  const answers: MessageAnswer[] = [];
  let over = 0;
  const begin = () => {
    const exchange = new MessageExchange({ method: "GET", url: "/", headers: {}, body: new Uint8Array(), from: "nats" }, (answer) => answers.push(answer));
    exchange.onOver(() => over++);
    return exchange;
  };
  const first = begin();
  first.answer(200, [], "{}");
  first.answer(200, [], "again");
  first.end();
  first.drop();
  begin().drop();
  begin().begin();
  t.same(answers, [{ status: 200, text: "{}" }, { status: 500, text: "" }, { status: 500, text: "" }]);
  t.equal(over, 3);
});

t.test("NATS decides who may call: a backend has its subjects and its own inbox, and a node that may not subscribe goes on without", async (t) => {
  const guarded = await startNats(t);
  await guarded.stop();
  await guarded.start(`authorization { users = [
    { user: node, password: n }
    { user: deaf, password: d, permissions: { subscribe: { deny: "flux.api.>" } } }
    { user: shop, password: s, permissions: { publish: ["flux.api.publish.*"], subscribe: "_INBOX_shop.>" } }
  ] }`);
  const nodeOptions = { ...options, nats: [guarded.url], natsPassword: "n", natsUser: "node" };
  await startNode(t, { ...nodeOptions, nodeId: "c" });
  const shop = await connect({ servers: guarded.url, user: "shop", pass: "s", inboxPrefix: "_INBOX_shop" });
  t.teardown(() => shop.close());
  t.match(value(await ask("publish.chat:a", { data: 1 }, {}, shop)), { duplicate: false });
  await t.rejects(ask("history.chat:a", "", {}, shop), { code: "PERMISSIONS_VIOLATION" });
  const deaf = await startNode(t, { ...nodeOptions, natsUser: "deaf", natsPassword: "d", nodeId: "d" });
  t.equal((await fetch(`http://127.0.0.1:${deaf.port}/ready`)).status, 200, "the rest of it serves");
  t.match(value(await ask("publish.chat:a", { data: 2 }, {}, shop)), { duplicate: false }, "and the other node answers");
});

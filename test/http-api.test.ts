/** The HTTP API: publishing, reading, and the documents made from its table of calls. */
import t from "tap";
import { calls } from "../src/http/table.ts";
import { openApi } from "../src/http/openapi.ts";
import { ask } from "./support/api.ts";
import { startNode } from "./support/node.ts";
import { open } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";

const node = await startNode(t, { reactors: 1, allowAnonymous: true, authSecret: secret, apiTokens: true, commandsPerSecond: 0, frameBytesMax: 4096, namespaces: { chat: { durable: true, historySize: 1_000, presence: "members" }, live: { durable: false }, news: { durable: true, publish: "nobody" } } });
const port = node.apiPort;

t.test("every example of the table is answered as the table says", async (t) => {
  // The examples are about ann in chat:general.
  const ann = await open(node, { hello: { token: await token({ sub: "ann" }, secret), device: "phone" } });
  await ann.join("chat:general");
  await node.join("ann", "chat:general");
  for (const { name, method, status, answer, example } of calls) {
    const { path, body } = example;
    // test/http-api-stream.test.ts runs it.
    if (typeof example.answer === "string") continue;
    const got = await ask(port, path, { method, ...(body !== undefined && { body }) });
    t.equal(got.status, status, `${name}: ${got.text}`);
    t.ok(answer.safeParse(got.json).success, `${name} answers what its schema says: ${got.text}`);
    t.ok(answer.safeParse(example.answer).success, `${name}: the example is what the schema says`);
    t.match(shapeOf(got.json), shapeOf(example.answer), `${name}: the example has the form of the answer`);
  }
});

/** The names and types of the fields. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== "object" || value === null) return value === null ? "null" : typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, shapeOf(one)]));
}

t.test("what is published reaches members, also where clients may not publish, with its idempotency key once", async (t) => {
  const session = await open(node);
  await session.join("news:a");
  const first = await ask(port, "/rooms/news%3Aa/publications", { body: { data: { text: "hi" } }, headers: { "Idempotency-Key": "k1" } });
  t.match(first, { status: 201, json: { position: /^[^:]+:1$/, receivers: 1, duplicate: false }, headers: { "content-type": "application/json" } });
  t.match(await ask(port, "/rooms/news:a/publications", { body: { data: { text: "hi" }, key: "k1" } }), { status: 201, json: { position: first.json!.position, duplicate: true } });
  t.match((await ask(port, "/rooms/news:a/publications", { body: { b64: "AQID" } })).json, { position: /:2$/ });
  await session.waitFor(() => session.publications.length === 2, "both publications");
  t.strictSame(session.publications.map(({ payload, sender }) => [sender, payload]), [["", Buffer.from('{"text":"hi"}')], ["", Buffer.from([1, 2, 3])]]);
  const history = await ask(port, "/rooms/news:a/history");
  t.match(history.json, { publications: [{ sender: "", data: { text: "hi" }, position: first.json!.position }, { b64: "AQID" }], next: null });
  await session.bye();
});

t.test("a key with another content is a conflict where the first publication is still kept, else a duplicate", async (t) => {
  const publish = (room: string, data: unknown) => ask(port, `/rooms/${room}/publications`, { body: { data, key: "same" } });
  const first = await publish("chat:keys", 1);
  t.match(await publish("chat:keys", 2), { status: 409, json: { code: "conflict", retryable: false } });
  t.match(await publish("chat:keys", 1), { status: 201, json: { position: first.json!.position, duplicate: true } });
  await publish("live:keys", 1);
  t.match(await publish("live:keys", 2), { status: 201, json: { duplicate: true } }, "an ephemeral room keeps nothing to compare with");
  const message = (data: unknown) => ask(port, "/users/kim/messages", { body: { data, key: "same" } });
  t.match(await message(1), { status: 201, json: { duplicate: false } });
  t.match(await message(2), { status: 409, json: { code: "conflict" } });
  t.match(await ask(port, "/rooms/chat:keys/publications", { body: { data: 1, key: "a" }, headers: { "Idempotency-Key": "b" } }), { status: 400, json: { detail: /Idempotency-Key/ } });
});

t.test("JSON is kept as it was written: no number loses digits", async (t) => {
  await ask(port, "/rooms/chat:exact/publications", { body: '{ "data" : { "id": 12345678901234567890, "price": 1.10 } }' });
  await ask(port, "/publications", { body: '[{"room":"chat:exact","data":9007199254740993}]' });
  await ask(port, "/rooms/chat:exact/publications", { body: '{"d\\u0061ta":[1]}' });
  t.match((await ask(port, "/rooms/chat:exact/history")).text, '"data":{ "id": 12345678901234567890, "price": 1.10 }');
  t.match((await ask(port, "/rooms/chat:exact/history")).text, '"data":9007199254740993}');
  t.match((await ask(port, "/rooms/chat:exact/history")).text, '"data":[1]}');
});

t.test("a batch keeps its order in each room, and each item has a result", async (t) => {
  const items = Array.from({ length: 1_000 }, (_, i) => ({ room: `chat:batch${i % 3}`, data: i }));
  const { json } = await ask(port, "/publications", { body: items });
  t.equal((json!.results as unknown[]).length, 1_000);
  t.equal(json!.failed, 0);
  const read = await ask(port, "/rooms/chat:batch1/history?limit=1000000");
  const data = (read.json!.publications as { data: number }[]).map((one) => one.data);
  t.strictSame(data, items.filter(({ room }) => room === "chat:batch1").map((one) => one.data).slice(-data.length));
  t.equal(data.length, 256, "a million are read as a page");
  const mixed = await ask(port, "/publications", { body: [{ room: "nowhere:x", data: 1 }, { room: "chat:mixed", data: "x".repeat(5_000) }, { room: "", data: 1 }, { room: "@inbox", data: 1 }, { room: "chat:mixed" }, { room: "chat:mixed", data: 1 }] });
  t.match(mixed.json, { failed: 5, results: [{ error: { code: "unknown_namespace" } }, { error: { code: "too_large" } }, { error: { code: "bad_request" } }, { error: { code: "forbidden" } }, { error: { code: "bad_request" } }, { position: /:1$/ }] });
  const broadcast = await ask(port, "/broadcasts", { body: { rooms: ["chat:b1", "nowhere:b", "chat:b2"], data: "all", key: "once" } });
  t.match(broadcast.json, { failed: 1, results: [{ position: /:1$/ }, { error: { code: "unknown_namespace" } }, { position: /:1$/ }] });
});

t.test("history reads on by cursor, forward and backward, and says where nothing can be read on", async (t) => {
  await ask(port, "/publications", { body: Array.from({ length: 10 }, (_, i) => ({ room: "chat:pages", data: i + 1 })) });
  const read = async (query: string) => (await ask(port, `/rooms/chat:pages/history?${query}`)).json as { publications: { data: number; position: string }[]; next: string | null; position: string };
  const newest = await read("limit=3");
  t.strictSame(newest.publications.map(({ data }) => data), [8, 9, 10]);
  t.strictSame((await read("limit=3&reverse=true")).publications.map(({ data }) => data), [10, 9, 8]);
  const before = await read(`limit=3&before=${newest.next}`);
  t.strictSame(before.publications.map(({ data }) => data), [5, 6, 7]);
  const [epoch] = newest.position.split(":");
  const seen: number[] = [];
  for (let after: string | null = `${epoch}:0`; after !== null; ) {
    const page: Awaited<ReturnType<typeof read>> = await read(`limit=4&after=${after}`);
    seen.push(...page.publications.map(({ data }) => data));
    after = page.next;
  }
  t.strictSame(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const other = (await ask(port, "/rooms/chat:other/publications", { body: { data: 1 } })).json!.position as string;
  for (const [query, status, code] of [
    [`after=${other}`, 410, "unrecoverable_position"], [`after=${epoch}:11`, 410, "unrecoverable_position"], ["after=gone:1", 410, "unrecoverable_position"], [`before=${other}`, 410, "unrecoverable_position"],
    ["after=garbage", 400, "bad_request"], ["after=", 400, "bad_request"], [`after=${epoch}:-1`, 400, "bad_request"], [`after=${epoch}:1e3`, 400, "bad_request"], [`after=${epoch}:99999999999999999999`, 400, "bad_request"],
    [`after=${epoch}:1&before=${epoch}:2`, 400, "bad_request"], ["limit=0", 400, "bad_request"], ["limit=many", 400, "bad_request"], ["limit=1.5", 400, "bad_request"], ["limti=1", 400, "bad_request"],
  ] as const) {
    t.match(await ask(port, `/rooms/chat:pages/history?${query}`), { status, json: { code, status } }, query);
  }
});

t.test("the OpenAPI file names every call, and the page shows it", async (t) => {
  const { json, headers } = await ask(port, "/openapi.json");
  t.equal(headers["content-type"], "application/json");
  t.strictSame(json, JSON.parse(JSON.stringify(openApi())));
  const page = await ask(port, "/docs");
  t.match(page.headers, { "content-type": /^text\/html/, "content-security-policy": /default-src 'none'/ });
  t.notMatch(page.text, /<script|src=|https?:\/\/(?!127\.0\.0\.1)/, "it loads nothing");
  for (const { name, path, method } of calls) {
    t.match(json, { openapi: "3.1.0", paths: { [path.replaceAll(/:(\w+)/g, "{$1}")]: { [method.toLowerCase()]: { operationId: name } } } });
    t.match(page.text, new RegExp(`id="${name}"`));
  }
});

t.test("metrics count requests by call and code, and no label comes from a caller", async (t) => {
  await ask(port, "/nothing/at/all");
  const pages = async () => Number(/^flux_http_requests_total\{call="docs",code="ok"\} (\d+)$/m.exec(await node.metrics())?.[1] ?? 0);
  const before = await pages();
  for (const method of ["GET", "HEAD"]) await ask(port, "/docs", { method });
  t.equal(await pages(), before + 2, "the page of the calls has a count of its own");
  await ask(port, "/openapi.json");
  const text = await node.metrics();
  for (const line of ['{call="publish",code="ok"}', '{call="history",code="unrecoverable_position"}', '{call="publishBatch",code="ok"}', '{call="openapi",code="ok"}', '{call="none",code="not_found"}']) t.ok(text.includes(`flux_http_requests_total${line}`), line);
  t.match(text, /^flux_http_waiting 0$/m);
});

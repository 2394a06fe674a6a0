/** A room as Server-Sent Events: in order, from where a client was, bounded, and ended when the node drains. */
import { join } from "node:path";
import t, { type Test } from "tap";
import { makeSecret } from "../src/auth/apisecret.ts";
import { lookMs } from "../src/http/eventstream.ts";
import { calls } from "../src/http/table.ts";
import { openFileKeyWriter } from "../src/keystore/file.ts";
import type { KeyRecord } from "../src/keystore/keystore.ts";
import { ask } from "./support/api.ts";
import { dataOf, eventsIn, follow as followAt, type StreamEvent } from "./support/follow.ts";
import { startNode } from "./support/node.ts";
import { until } from "./support/until.ts";

const node = await startNode(t, { reactors: 1, namespaces: { chat: { durable: true, historySize: 5 }, live: { durable: false } } });
const port = node.apiPort;

const follow = (t: Test, path: string, how: Partial<Parameters<typeof followAt>[2]> = {}) => followAt(t, path, { at: port, ...how });
const publish = async (room: string, data: unknown) => (await ask(port, `/rooms/${room}/publications`, { body: { data } })).json!.position as string;

t.test("a stream begins at the newest position, and has everything that is published from then on, in order", async (t) => {
  const before = await publish("chat:a", 0);
  const stream = await follow(t, "/rooms/chat:a/stream");
  t.match(stream, { status: 200, headers: { "content-type": "text/event-stream", "cache-control": "no-store", "x-request-id": String } });
  await until(() => stream.events.length === 2, "the first events");
  t.match(stream.events, [{ retry: "2000" }, { event: "open", id: before, data: { position: before } }]);
  const positions = [await publish("chat:a", 1), await publish("chat:a", "two\nlines")];
  await ask(port, "/rooms/chat:a/publications", { body: { b64: "AAEC" } });
  await until(() => stream.events.length === 5, "three publications");
  t.match(stream.events.slice(2), [{ id: positions[0], data: { position: positions[0], sender: "", data: 1, time: String } }, { id: positions[1], data: { data: "two\nlines" } }, { data: { b64: "AAEC" } }]);
  await ask(port, "/rooms/chat:a/publications", { body: '{"data": {\n  "id": 12345678901234567890\r\n}}' });
  await until(() => stream.events.length === 6, "one more");
  t.ok(stream.lines.some((line) => line.includes('"data":{   "id": 12345678901234567890 }')), "JSON stays as it was written, on one line");
  stream.request.destroy();
  await until(async () => /flux_http_streams 0\n/.test(await node.metrics()), "the place to be free again");
});

t.test("the example of the table is what comes", async (t) => {
  const { path, answer } = calls.find(({ name }) => name === "stream")!.example;
  const stream = await follow(t, path);
  await until(() => stream.events.length === 2, "the first events");
  await publish("chat:general", { text: "hi" });
  await until(() => stream.events.length === 3, "the publication");
  const shapeOf = ({ data, ...rest }: StreamEvent) => [Object.keys(rest), Object.keys(data ?? {})];
  t.strictSame(stream.events.map(shapeOf), eventsIn(answer as string).map(shapeOf));
});

t.test("a client that comes back with Last-Event-ID gets what it missed, or learns of the gap", async (t) => {
  const first = await publish("chat:b", 1);
  await publish("chat:b", 2);
  const back = await follow(t, "/rooms/chat:b/stream?after=ignored", { headers: { "Last-Event-ID": first } });
  await publish("chat:b", 3);
  await until(() => dataOf(back).length === 2, "what was missed, and what came then");
  t.match(back.events[1], { event: "open", id: first });
  t.strictSame(dataOf(back), [2, 3]);
  for (let i = 4; i < 20; i++) await publish("chat:b", i);
  const late = await follow(t, `/rooms/chat:b/stream?after=${first}`);
  await until(() => late.events.length === 2, "the gap");
  t.match(late.events[1], { event: "gap", data: { after: first, position: /:19$/ } });
  await publish("chat:b", 20);
  await until(() => dataOf(late).length === 1, "what is published after the gap");
  const other = await follow(t, "/rooms/chat:b/stream", { headers: { "Last-Event-ID": "gone:7" } });
  await until(() => other.events.length === 2, "the gap");
  t.match(other.events[1], { event: "gap", data: { after: "gone:7" } });
});

t.test("a stream that cannot begin is a problem, not an empty stream", async (t) => {
  for (const [path, status, code] of [
    ["/rooms/nowhere:a/stream", 404, "unknown_namespace"], ["/rooms/@inbox/stream", 403, "forbidden"], ["/rooms//stream", 400, "bad_request"],
    ["/rooms/chat:a/stream?after=garbage", 400, "bad_request"], ["/rooms/chat:a/stream?queue=1", 400, "bad_request"],
  ] as const) t.match(await ask(port, path), { status, json: { code } }, path);
  t.match(await ask(port, "/rooms/chat:a/stream", { headers: { "Last-Event-ID": "a b" } }), { status: 400, json: { detail: /^Last-Event-ID: must be a position/ } });
  const head = await ask(port, "/rooms/chat:a/stream", { method: "HEAD" });
  t.match(head, { status: 200, headers: { "content-type": "text/event-stream" }, text: "" }, "HEAD does not wait");
});

t.test("a client that does not read holds a bounded queue, and is told to come back", async (t) => {
  const slow = await follow(t, "/rooms/live:slow/stream");
  await until(() => slow.events.length === 2, "the stream to be open");
  slow.response.pause();
  const items = Array.from({ length: 1_000 }, () => ({ room: "live:slow", data: "x".repeat(1_000) }));
  await until(async () => {
    await ask(port, "/publications", { body: items.slice(0, 900) });
    return /flux_api_streams 0\n/.test(await node.metrics());
  }, "the stream's queue to be full");
  slow.response.resume();
  await until(() => slow.isOver, "the end of the stream");
  t.match(slow.events.at(-1), { event: "end", retry: "2000", data: { reason: /too slow/ } });
});

t.test("one caller has so many streams and no more; others go on", async (t) => {
  const all = await Promise.all(Array.from({ length: 128 }, () => follow(t, "/rooms/live:many/stream")));
  t.match(await ask(port, "/rooms/live:many/stream"), { status: 503, json: { code: "overloaded", retryable: true }, headers: { "retry-after": "1" } });
  t.equal((await ask(port, "/rooms/live:many/publications", { body: { data: 1 } })).status, 201);
  all.forEach((one) => one.request.destroy());
  await until(async () => /flux_http_streams 0\n/.test(await node.metrics()), "all places to be free again");
});

t.test("a stream ends when its key is revoked, or no longer covers the room", async (t) => {
  const path = join(t.testdir(), "keys");
  const writer = openFileKeyWriter(path);
  const { text, id, sha256 } = makeSecret();
  const key: KeyRecord = { name: "shop", tenant: "", scopes: ["read"], rooms: null, requestsPerSecond: null, publicationsPerSecond: null, createdAt: 1, expiresAt: 0, secrets: [{ id, sha256, createdAt: 1, expiresAt: 0 }] };
  await writer.change("shop", () => key);
  const guarded = await startNode(t, { reactors: 1, apiKeys: path, namespaces: { chat: { durable: true } } });
  const headers = { Authorization: `Bearer ${text}` };
  // The looks of the streams, held.
  const looks: (() => void)[] = [];
  const real = setInterval;
  t.intercept(globalThis, "setInterval", { value: (look: () => void, ms: number) => (ms === lookMs ? (looks.push(look), real(() => {}, 1e6)) : real(look, ms)) });
  const open = async (room: string) => {
    const stream = await follow(t, `/rooms/${room}/stream`, { at: guarded.apiPort, headers });
    await until(() => stream.events.length === 2, "the stream to be open");
    return stream;
  };
  const changed = async (room: string, status: number) => until(async () => (await ask(guarded.apiPort, `/rooms/${room}`, { headers })).status === status, "the node to know of the change");
  const [chat, news] = [await open("chat:a"), await open("news")];
  t.equal(looks.length, 2);
  looks.forEach((look) => look());
  await ask(guarded.apiPort, "/rooms/chat:a", { headers });
  t.notOk(chat.isOver || news.isOver, "the key is good");
  await writer.change("shop", () => ({ ...key, rooms: ["chat:*"] }));
  await changed("news", 403);
  looks.forEach((look) => look());
  await until(() => news.isOver, "the end of the stream of the room that is not covered");
  t.match(news.events.at(-1), { event: "end", data: { reason: "forbidden" } });
  t.notOk(chat.isOver);
  await writer.change("shop", () => null);
  await changed("chat:a", 401);
  looks.forEach((look) => look());
  await until(() => chat.isOver, "the end of the other one");
  t.match(chat.events.at(-1), { event: "end", data: { reason: "unauthorized" } });
});

t.test("a node that drains ends its streams with the time to come back in, and takes no new ones", async (t) => {
  const other = await startNode(t, { reactors: 1 });
  const stream = await follow(t, "/rooms/chat:a/stream", { at: other.apiPort });
  await until(() => stream.events.length === 2, "the stream to be open");
  const over = other.drain({ windowMs: 50 });
  await until(() => stream.isOver, "the end of the stream");
  t.match(stream.events.at(-1), { event: "end", retry: /^\d+$/, data: { reason: /drains|unavailable/ } });
  await over;
});

/** The HTTP API on the port for clients: keys only, whatever comes in pieces, and nothing of what strangers send stays. */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import t from "tap";
import { ask as askAt, type Asked } from "./support/api.ts";
import { createKey, openFileKeyWriter } from "./support/apikeys.ts";
import { dataOf, follow } from "./support/follow.ts";
import { startNode } from "./support/node.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const path = join(t.testdir(), "keys");
const writer = openFileKeyWriter(path);
const key = await createKey(writer, "shop", {});
const ops = await createKey(writer, "ops", { scopes: ["admin"] });
const adminKey = "an-admin-key-of-32-or-more-characters";
const hookSecret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
const node = await startNode(t, {
  reactors: 1, apiPublic: true, apiKeys: path, adminKey, authSecret: secret, allowedOrigins: ["https://app.example"], frameBytesMax: 65_536,
  hookSecret, namespaces: { chat: { durable: true, historySize: 1_000, historyBytesMax: 4_000_000 }, live: { durable: false }, asked: { hookJoin: "http://127.0.0.1:1/" } },
});
const { port } = node;
const authorized = { Authorization: `Bearer ${key}` };
const ask = (path: string, { headers, ...asked }: Asked = {}) => askAt(port, path, { ...asked, headers: { ...authorized, ...headers } });
const publications = "/rooms/chat:a/publications";
const metric = async (name: string) => Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "m").exec(await node.metrics())?.[1]);

t.test("a key publishes and reads on the port for clients, and only a key", async (t) => {
  const { status, json, headers } = await ask(publications, { body: { data: { text: "hi" } } });
  t.match([status, headers["content-type"]], [201, "application/json"]);
  t.match((await ask("/rooms/chat:a/history")).json, { publications: [{ data: { text: "hi" }, position: json!.position }] });
  for (const authorization of ["", "Bearer wrong", `Bearer ${adminKey}`, `Bearer ${await token({ sub: "ann" }, secret)}`]) {
    t.match(await ask(publications, { body: { data: 1 }, headers: { Authorization: authorization } }), { status: 401, json: { code: "unauthorized" }, headers: { "www-authenticate": "Bearer", "content-type": "application/problem+json" } }, authorization);
  }
  t.match(await ask(`${publications}?key=${key}`, { body: { data: 1 }, headers: { Authorization: "" } }), { status: 401 }, "a key in the query is none");
  t.equal((await ask("/docs", { headers: { Authorization: "" } })).status, 401, "nor are documents sent to strangers");
  t.equal((await ask("/docs")).status, 200);
  t.match(await ask("/rooms/chat:a/history", { method: "HEAD" }), { status: 200, text: "" });
  t.match(await ask("/users/ann/sessions", { method: "DELETE" }), { status: 403, json: { code: "forbidden" } });
  t.match(await ask("/users/ann/sessions", { method: "DELETE", headers: { Authorization: `Bearer ${ops}` } }), { status: 200, json: { sessions: 0 } });
});

t.test("requests follow each other on one connection, also when they are sent at once", async (t) => {
  const socket = connect(port, "127.0.0.1");
  t.teardown(() => socket.destroy());
  let text = "";
  socket.on("data", (chunk) => (text += chunk.toString()));
  const body = '{"data":1}';
  const one = `POST /api/v1/rooms/live:a/publications HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  socket.write(one);
  await until(() => text.split("HTTP/1.1 201").length === 2, "the first answer");
  socket.write(one);
  await until(() => text.split("HTTP/1.1 201").length === 3, "the second answer");
});

t.test("a body of a megabyte comes in pieces, and one that is larger is refused", async (t) => {
  const item = (i: number) => ({ room: "chat:large", data: `${i} ${"x".repeat(1_000)}` });
  const whole = Array.from({ length: 1_000 }, (_, i) => item(i));
  const text = JSON.stringify(whole.slice(0, 1_000));
  t.ok(text.length < 1_048_576 && text.length > 1_000_000);
  t.match(await ask("/publications", { body: text }), { status: 200, json: { failed: 0 } });
  t.match(await ask("/publications", { body: whole.slice(0, 100), headers: { "Transfer-Encoding": "chunked" } }), { status: 200, json: { failed: 0 } }, "chunked as well");
  for (const headers of [{}, { "Transfer-Encoding": "chunked" }] as const) {
    const refused = await ask("/publications", { body: "x".repeat(1_100_000), headers }).catch(() => null);
    // The connection is closed while the client still writes: it may not read the answer.
    t.ok(refused === null || refused.status === 413, String(refused?.status));
  }
  t.match(await ask("/publications", { body: text, headers: { Authorization: "Bearer wrong" } }).catch(() => ({ status: 401 })), { status: 401 });
  t.match(await ask(publications, { body: "{" }), { status: 400, json: { code: "bad_request", detail: /JSON/ } });
  const deep = `{"data":${"[".repeat(400_000)}`;
  t.match(await ask(publications, { body: deep }), { status: 400, json: { detail: /nested/ } });
});

t.test("a large answer comes in pieces", async (t) => {
  const body = Array.from({ length: 1_000 }, () => ({ room: "nowhere:a", data: 1 }));
  const results = await Promise.all(Array.from({ length: 20 }, () => ask("/publications", { body })));
  for (const { status, json, text } of results) {
    t.match([status, json!.failed], [200, 1_000]);
    t.ok(text.length > 100_000);
  }
  t.equal((await ask("/docs")).text, (await askAt(node.apiPort, "/docs", { headers: authorized })).text);
  t.equal(await metric("flux_http_waiting"), 0);
});

t.test("a client that disconnects in the middle of a body or an answer leaves nothing behind", async (t) => {
  const open = (): Socket => {
    const socket = connect(port, "127.0.0.1");
    t.teardown(() => socket.destroy());
    return socket.on("error", () => {});
  };
  const bodies = Array.from({ length: 20 }, open);
  for (const socket of bodies) socket.write(`POST /api/v1${publications} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"data":"`);
  await until(async () => (await metric("flux_http_waiting")) === 20, "the requests to wait for their bodies");
  bodies.forEach((socket) => socket.destroy());
  await until(async () => (await metric("flux_http_waiting")) === 0, "nothing to wait");
  const readers = Array.from({ length: 20 }, open);
  for (const socket of readers) socket.pause().write(`GET /api/v1/docs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\n\r\n`);
  t.equal((await ask(publications, { body: { data: 1 } })).status, 201, "what was sent before is answered");
  readers.forEach((socket) => socket.destroy());
  await until(async () => (await metric("flux_http_waiting")) === 0, "nothing to wait");
  t.equal((await ask(publications, { body: { data: 1 } })).status, 201);
});

t.test("headers and bodies that do not arrive are not waited for", async (t) => {
  const sockets = ["GET /api/v1/docs HTTP/1.1\r\nHost: a\r\nX-A: b", `POST /api/v1${publications} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"data":"`].map((start) => {
    const socket = connect(port, "127.0.0.1").on("error", () => {});
    socket.write(start);
    const drip = setInterval(() => socket.write("a"), 500);
    t.teardown(() => (clearInterval(drip), socket.destroy()));
    return socket;
  });
  await until(async () => (await metric("flux_http_waiting")) === 1, "the body to be waited for");
  t.equal((await ask(publications, { body: { data: 1 } })).status, 201, "others are served meanwhile");
  await until(() => sockets.every(({ closed }) => closed), "both to be closed");
  await until(async () => (await metric("flux_http_waiting")) === 0, "nothing to wait");
});

t.test("pages may not use a key, and get no permission to", async (t) => {
  for (const origin of ["https://evil.example", "https://app.example", `http://127.0.0.1:${port}`]) {
    for (const asked of [{ body: { data: 1 } }, {}] as const) {
      const got = await ask("body" in asked ? publications : "/rooms/chat:a/history", { ...asked, headers: { Origin: origin } });
      t.match(got, { status: 403, json: { code: "forbidden", detail: /web pages/ } }, origin);
      t.notOk(Object.keys(got.headers).some((name) => name.startsWith("access-control")));
    }
    const preflight = await ask(publications, { method: "OPTIONS", headers: { Origin: origin, Authorization: "", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type" } });
    t.ok(preflight.status >= 400, "a preflight");
    t.notOk(Object.keys(preflight.headers).some((name) => name.startsWith("access-control")));
  }
  t.equal((await ask("/rooms/chat:a/history", { headers: { "Sec-Fetch-Site": "cross-site" } })).status, 403);
});

t.test("a room is followed with a key, or with the token of a user who may join it", async (t) => {
  const claims = { sub: "ann", rooms: { "live:*": ["join"], "asked:*": ["join"], "chat:read": ["history"] }, exp: Math.floor(Date.now() / 1_000) + 600 };
  const ann = await token(claims, secret);
  const byKey = await follow(t, "/rooms/live:s/stream", { at: port, headers: authorized });
  const byToken = await follow(t, `/rooms/live:s/stream?token=${ann}`, { at: port, headers: { Origin: "https://app.example" } });
  t.match(byToken, { status: 200, headers: { "access-control-allow-origin": "https://app.example", vary: "Origin", "content-type": "text/event-stream" } });
  t.equal(byKey.headers["access-control-allow-origin"], undefined);
  await until(() => byKey.events.length === 2 && byToken.events.length === 2, "both to be open");
  for (let i = 0; i < 3; i++) await ask("/rooms/live:s/publications", { body: { data: i } });
  await until(() => dataOf(byKey).length === 3 && dataOf(byToken).length === 3, "three publications");
  t.strictSame([dataOf(byKey), dataOf(byToken)], [[0, 1, 2], [0, 1, 2]]);
  byKey.request.destroy();
  await until(async () => (await metric("flux_http_streams")) === 1, "the place of the key to be free");

  const refused = async (path: string, headers: Record<string, string> = {}) => {
    const { status, json } = await askAt(port, path, { headers });
    return `${status} ${String(json?.code)}`;
  };
  t.equal(await refused(`/rooms/chat:read/stream?token=${ann}`), "403 forbidden", "to read the history is not to join");
  t.match(await askAt(port, `/rooms/asked:a/stream?token=${ann}`, {}), { status: 403, json: { code: "forbidden", detail: /^hooks: / } }, "where the backend decides, no stream goes around it");
  t.equal(await refused(`/rooms/live:s/stream?token=${ann}&tenant=acme`), "403 forbidden");
  t.equal(await refused(`/rooms/live:s/history?token=${ann}`), "401 unauthorized", "other calls take no token");
  t.equal(await refused(`/rooms/live:s/stream?token=${key}`), "401 unauthorized", "an API key is no token");
  t.equal(await refused(`/rooms/live:s/stream?token=${await token({ ...claims, exp: 1 }, secret)}`), "401 unauthorized");
  t.equal(await refused(`/rooms/live:s/stream?token=${ann}`, { Origin: "https://evil.example" }), "403 forbidden");
  t.match(await askAt(node.apiPort, `/rooms/live:s/stream?token=${ann}x`, {}), { status: 401 }, "the port for backends knows tokens as well");

  t.match(await ask("/users/ann/sessions?signOut=true", { method: "DELETE", headers: { Authorization: `Bearer ${ops}` } }), { status: 200 });
  await until(() => byToken.isOver, "the end of the stream");
  t.match(byToken.events.at(-1), { event: "end", data: { reason: "disconnected" } });
  t.equal(await refused(`/rooms/live:s/stream?token=${ann}`), "401 unauthorized", "a token from before the sign-out");
});

t.test("a stream ends with the token", async (t) => {
  // It has to be good until the stream is open, however slow the machine is.
  const begin = async (last: number) => follow(t, `/rooms/live:s/stream?token=${await token({ sub: "bob", exp: Math.floor(Date.now() / 1_000) + last }, secret)}`, { at: port });
  let stream = await begin(1);
  for (let last = 2; stream.status === 401 && last < 1_000; last *= 2) stream = await begin(last);
  t.equal(stream.status, 200);
  await until(() => stream.isOver, "the end of the stream");
  t.match(stream.events.at(-1), { event: "end", data: { reason: "token_expired" } });
});

t.test("a reader that is too slow gets the end of its stream, and others their publications", async (t) => {
  const slow = await follow(t, "/rooms/live:slow/stream", { at: port, headers: authorized });
  await until(() => slow.events.length === 2, "the stream to be open");
  slow.response.pause();
  const items = Array.from({ length: 900 }, () => ({ room: "live:slow", data: "x".repeat(1_000) }));
  await until(async () => {
    await ask("/publications", { body: items });
    return (await metric("flux_api_streams")) === 0;
  }, "the stream's queue to be full");
  const other = await follow(t, "/rooms/live:slow/stream", { at: port, headers: authorized });
  await until(() => other.events.length === 2, "another stream");
  await ask("/rooms/live:slow/publications", { body: { data: "after" } });
  await until(() => dataOf(other).length === 1, "its publication");
  slow.response.resume();
  await until(() => slow.isOver, "the end of the stream");
  t.match(slow.events.at(-1), { event: "end", retry: "2000", data: { reason: /too slow/ } });
  other.request.destroy();
  await until(async () => (await metric("flux_http_streams")) === 0, "all places to be free");
});

t.test("an address whose requests are refused has to wait; a key that was accepted goes on", async (t) => {
  let last = 0;
  for (let i = 0; i < 200 && last !== 429; i++) last = (await ask(publications, { body: { data: 1 }, headers: { Authorization: `Bearer wrong${i}` } })).status;
  t.equal(last, 429);
  t.equal((await ask(publications, { body: { data: 1 } })).status, 201);
  t.ok((await metric("flux_http_public_rate_limited_total")) >= 1);
});

t.test("a reactor that fails takes its requests along, and the next one serves", async (t) => {
  const socket = connect(port, "127.0.0.1").on("error", () => {});
  t.teardown(() => socket.destroy());
  socket.write(`POST /api/v1${publications} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"data":"`);
  const stream = await follow(t, "/rooms/live:s/stream", { at: port, headers: authorized });
  await until(async () => (await metric("flux_http_waiting")) === 2 && (await metric("flux_http_streams")) === 1, "both to wait");
  node.failReactor(0);
  await until(() => stream.isOver, "the stream to break");
  await until(async () => (await metric("flux_http_waiting")) === 0 && (await metric("flux_http_streams")) === 0, "nothing to wait");
  await until(async () => (await ask(publications, { body: { data: 1 } }).catch(() => null))?.status === 201, "the next reactor");
});

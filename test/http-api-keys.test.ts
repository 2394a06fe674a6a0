/** The HTTP API with keys: of a file that the node reads again, the admin key, and JWTs. */
import { join } from "node:path";
import { decodeJwt } from "jose";
import t from "tap";
import { createTokenMaker } from "../src/auth/maketoken.ts";
import { makeSecret } from "../src/auth/apisecret.ts";
import type { KeyRecord } from "../src/keystore/keystore.ts";
import { ask } from "./support/api.ts";
import { createKey, openFileKeyWriter } from "./support/apikeys.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { none, only } from "./support/only.ts";
import { open } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const path = join(t.testdir(), "keys");
const writer = openFileKeyWriter(path);
const adminKey = "an-admin-key-of-32-or-more-characters";

const create = (name: string, more: Partial<KeyRecord>) => createKey(writer, name, more);

const keys = {
  shop: await create("shop", {}),
  reader: await create("reader", { scopes: ["read"] }),
  chats: await create("chats", { rooms: ["chat:*"] }),
  news: await create("news", { rooms: ["news-*"] }),
  acme: await create("acme", { tenant: "acme" }),
  chief: await create("chief", { tenant: "acme", scopes: ["admin"] }),
  ops: await create("ops", { scopes: ["admin"] }),
  old: await create("old", { expiresAt: 1_000 }),
  slow: await create("slow", { requestsPerSecond: 0.001 }),
  gone: await create("gone", {}),
  issuer: await create("issuer", { scopes: ["tokens"], rooms: ["chat:*", "news"], tenant: "acme" }),
};
const node = await startNodeProcess(["--api-keys", path, "--admin-key", adminKey, "--auth-secret", secret, "--api-tokens", "--api-token-max-ms", "1h", "--reactors", "1"]);
t.teardown(() => node.stop());
const port = Number(new URL(node.adminUrl).port);
const publish = (key: string, room = "chat:a", query = "") => ask(port, `/rooms/${room}/publications${query}`, { body: { data: 1 }, headers: { Authorization: `Bearer ${key}` } });
const outcome = async (answer: ReturnType<typeof ask>) => {
  const { status, json } = await answer;
  return `${status} ${String(json?.code ?? "")}`.trim();
};

t.test("a key may do what it was made for, and nothing else", async (t) => {
  t.equal(await outcome(publish(keys.shop)), "201");
  t.equal(await outcome(publish(keys.reader)), "403 forbidden");
  t.equal(await outcome(publish(keys.chats)), "201");
  t.equal(await outcome(publish(keys.chats, "news:a")), "403 forbidden");
  t.equal(await outcome(publish(keys.acme)), "201");
  t.equal(await outcome(publish(keys.acme, "chat:a", "?tenant=other")), "403 forbidden");
  t.equal(await outcome(publish(keys.old)), "401 unauthorized");
  t.equal(await outcome(publish(makeSecret().text)), "401 unauthorized");
  t.equal(await outcome(publish(adminKey, "chat:a", "?tenant=other")), "201");
  const { status, headers, json } = await ask(port, "/rooms/chat:a/publications", { body: { data: 1 } });
  t.same([status, headers["www-authenticate"]], [401, "Bearer"]);
  t.match(json, { code: "unauthorized", detail: /needs an API key/ });
});

t.test("a tenant's key sees its tenant only, whatever its scopes", async (t) => {
  const asked = (path: string, key: string) => outcome(ask(port, path, { headers: { Authorization: `Bearer ${key}` } }));
  t.equal(await asked("/nodes", keys.chief), "403 forbidden");
  t.equal(await asked("/nodes", keys.ops), "200");
  t.equal(await asked("/nodes", adminKey), "200");
  t.equal(await asked("/rooms", keys.chief), "200");
  t.equal(await asked("/rooms?tenant=other", keys.chief), "403 forbidden");
  t.equal(await asked("/rooms?tenant=other", keys.ops), "403 forbidden", "nor does one without a tenant see a tenant");
});

t.test("history has what keys of the room's tenant published", async (t) => {
  const read = async (key: string) => (await ask(port, "/rooms/chat:a/history", { headers: { Authorization: `Bearer ${key}` } })).json as { publications: unknown[] };
  t.equal((await read(keys.reader)).publications.length, 2);
  t.equal((await read(keys.acme)).publications.length, 1);
});

t.test("a limit is answered 429, with the time to wait", async (t) => {
  t.equal(await outcome(publish(keys.slow)), "201");
  const { status, headers, json } = await publish(keys.slow);
  t.same([status, json?.code, json?.retryable], [429, "rate_limited", true]);
  const seconds = Number(headers["retry-after"]);
  t.ok(seconds > 900 && seconds <= 1_000, String(seconds));
});

t.test("a JWT for the API is a credential, a client's token is none", async (t) => {
  const claims = { sub: "billing", aud: "flux-api", scope: "publish", exp: Math.floor(Date.now() / 1_000) + 600 };
  t.equal(await outcome(publish(await token(claims, secret))), "201");
  t.equal(await outcome(publish(await token({ ...claims, aud: "other" }, secret))), "401 unauthorized");
  t.equal(await outcome(publish(await token({ ...claims, scope: "read" }, secret))), "403 forbidden");
});

t.test("a revoked key is refused while the node runs, and a new one is accepted", async (t) => {
  t.equal(await outcome(publish(keys.gone)), "201");
  await writer.change("gone", () => null);
  await until(async () => (await publish(keys.gone)).status === 401, "the key to be refused");
  const fresh = await create("fresh", {});
  await until(async () => (await publish(fresh)).status === 201, "the key to be accepted");
});

t.test("metrics name keys, and the log has no secret in it", async (t) => {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { Authorization: `Bearer ${adminKey}` } });
  const metrics = await response.text();
  t.match(metrics, /flux_api_key_publications_total\{key="shop"\} 1\n/);
  t.match(metrics, /flux_api_key_limited_total\{key="slow"\} 1\n/);
  t.match(metrics, /flux_api_key_requests_total\{key="jwt"\} [12]\n/);
  for (const text of [metrics, node.lastWords.join("\n")]) {
    t.not(text, "");
    for (const key of [...Object.values(keys), adminKey]) t.notOk(text.includes(key) || text.includes(key.slice(-38)), "no secret");
  }
});

t.test("what disconnects or removes is one line of the log: which key, from where, and the id of the request", async (t) => {
  const headers = { Authorization: `Bearer ${adminKey}`, "X-Request-Id": "trace-7" };
  for (const [method, path, action] of [["DELETE", "/users/zoe/sessions?signOut=true", "disconnect"], ["PUT", "/users/zoe/rooms/chat:a", "join"], ["DELETE", "/users/zoe/rooms/chat:a", "leave"], ["POST", "/users/zoe/reconnect", "reconnect"]] as const) {
    t.equal(await outcome(ask(port, path, { method, headers, ...(method === "POST" && { body: {} }) })), "200", path);
    const lineOf = () => node.lastWords.find((line) => line.includes(`"http api: ${action}"`));
    await until(() => lineOf() !== undefined, `the audit line of ${action}`);
    t.match(JSON.parse(lineOf()!), { level: "info", audit: { action, from: "127.0.0.1", key: "admin", requestId: "trace-7", asked: { user: "zoe" }, outcome: { sessions: 0, unanswered: none } } });
  }
  t.equal(await outcome(ask(port, "/users/zoe/sessions", { method: "DELETE", headers: { Authorization: `Bearer ${keys.shop}` } })), "403 forbidden", "a key without the scope disconnects nobody");
  t.notMatch(node.lastWords.join("\n"), new RegExp(adminKey));
});

t.test("a key learns nothing of rooms that it does not cover", async (t) => {
  const session = await open(node, { hello: { token: await token({ sub: "zed" }, secret) } });
  for (const room of ["chat:a", "chat:c", "hidden", "news-a", "news-b"]) await session.join(room);
  const list = async (key: string, query = "") => (await ask(port, `/rooms${query}`, { headers: { Authorization: `Bearer ${key}` } })).json;
  t.match(await list(keys.shop, "?limit=4"), { rooms: only({ room: "chat:a" }, { room: "chat:c" }, { room: "hidden" }, { room: "news-a" }), next: "news-a" });
  t.match(await list(keys.chats, "?limit=1"), { rooms: only({ room: "chat:a" }), next: "chat:a" });
  t.same((await list(keys.chats, "?limit=3"))!.next, null, "a cursor would name another room");
  t.match(await list(keys.news, "?limit=1"), { rooms: only({ room: "news-a" }), next: "news-a" });
  t.match(await ask(port, "/users/zed/rooms/news-a", { method: "PUT", headers: { Authorization: `Bearer ${adminKey}` } }), { status: 200 });
  const joined = async (key: string) => (await ask(port, "/users/zed", { headers: { Authorization: `Bearer ${key}` } })).json?.joined;
  t.same([await joined(keys.news), await joined(keys.chats)], [["news-a"], []]);
  await session.bye();
});

t.test("a key with the scope tokens makes tokens for its tenant and rooms, with which clients connect", async (t) => {
  const make = (key: string, body: unknown, query = "") => ask(port, `/tokens${query}`, { body, headers: { Authorization: `Bearer ${key}` } });
  const rooms = { "chat:*": ["join", "publish"], "chat:a*b": ["history"], news: ["join"] };
  const made = await make(keys.issuer, { user: "ann", rooms, send: false, limits: { rooms: 5 }, expiresIn: 600 });
  t.match(made, { status: 201, json: { token: String, expiresAt: /^20.*Z$/ } });
  const [header = "", claims = ""] = (made.json!.token as string).split(".");
  t.strictSame(JSON.parse(Buffer.from(header, "base64url").toString()), { alg: "HS256", typ: "JWT" });
  const read = JSON.parse(Buffer.from(claims, "base64url").toString()) as { iat: number; exp: number };
  t.match(read, { sub: "ann", tenant: "acme", rooms, send: false, limits: { rooms: 5 } });
  t.equal(read.exp - Math.floor(read.iat), 600);
  t.equal(Date.parse(made.json!.expiresAt as string), read.exp * 1_000);
  const session = await open(node, { hello: { token: made.json!.token as string } });
  await session.join("chat:x");
  t.match(await session.request({ join: { room: "live:x" } }), { error: { code: "forbidden" } });
  await session.bye();
  await until(() => node.lastWords.some((line) => line.includes('"http api: token"')), "its audit line");
  t.match(JSON.parse(node.lastWords.find((line) => line.includes('"http api: token"'))!), { audit: { action: "token", key: "issuer", asked: { user: "ann", tenant: "acme" } } });
  t.notMatch(node.lastWords.join("\n"), new RegExp((made.json!.token as string).slice(-20)), "no token in the log");

  for (const [status, detail, body, query] of [
    [403, /rooms: is missing/, { user: "ann" }],
    [403, /does not cover join in "\*"/, { user: "ann", rooms: { "*": ["join"] } }],
    [403, /does not cover join in "chat\*"/, { user: "ann", rooms: { "chat*": ["join"] } }],
    [403, /does not cover join in "news:\*"/, { user: "ann", rooms: { "news:*": ["join"] } }],
    [403, /another tenant/, { user: "ann", rooms: {} }, "?tenant=other"],
    [400, /^expiresIn: at most 3600 seconds/, { user: "ann", rooms: {}, expiresIn: 3_601 }],
    [400, /^expiresIn: must be at least 1/, { user: "ann", rooms: {}, expiresIn: 0 }],
    [400, /^user: /, { user: "a\nb", rooms: {} }],
    [400, /^user: is missing/, { rooms: {} }],
    [400, /^body: unknown field "scope"/, { user: "ann", rooms: {}, scope: "admin" }],
    [400, /^rooms/, { user: "ann", rooms: { "chat:*": ["own"] } }],
    [400, /patterns/, { user: "ann", rooms: Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`chat:${i}`, ["join"]])) }],
  ] as const) t.match(await make(keys.issuer, body, query), { status, json: { detail } }, JSON.stringify(body).slice(0, 80));
  t.equal(await outcome(make(keys.shop, { user: "ann" })), "403 forbidden", "publishing is another scope");
  t.equal(await outcome(make(adminKey, { user: "ann" }, "?tenant=other")), "201");
  const made2 = createTokenMaker({ authSecret: secret, authAudience: ["flux-api", "app"], authIssuer: ["https://id.example"] }, () => 1_000_500)({ user: "ann", tenant: "", lifetimeSeconds: 60 });
  t.match(decodeJwt((made2 as { token: string }).token), { sub: "ann", iat: 1_000.5, exp: 1_060, aud: "app", iss: "https://id.example", tenant: undefined });
  // It must not be a credential for the API itself.
  t.equal(await outcome(publish((await make(adminKey, { user: "ann" })).json!.token as string)), "401 unauthorized");
});

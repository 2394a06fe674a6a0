/** The HTTP API and requests that it refuses: each has a status, a code and a text that says what to change. */
import { once } from "node:events";
import { connect } from "node:net";
import { pino } from "pino";
import t from "tap";
import { apiBounds, startServer } from "../src/admin/server.ts";
import { NodeExchange } from "../src/http/exchange/nodehttp.ts";
import { ask, type Asked } from "./support/api.ts";
import { startNode } from "./support/node.ts";
import { none } from "./support/only.ts";
import { until } from "./support/until.ts";

const node = await startNode(t, { reactors: 1, adminKey: "an-admin-key-of-32-or-more-characters", apiPort: 0 });
const port = node.apiPort;
const authorized = { Authorization: "Bearer an-admin-key-of-32-or-more-characters" };
const publications = "/rooms/chat:a/publications";
const withKey = ({ headers, ...asked }: Asked): Asked => ({ ...asked, headers: { ...authorized, ...headers } });

t.test("a request that is wrong is a problem that names what is wrong", async (t) => {
  const deep = `${"[".repeat(200)}${"]".repeat(200)}`;
  const refused: [status: number, code: string, detail: RegExp, path: string, asked?: Asked][] = [
    [404, "not_found", /unknown path "\/api\/v1\/nothing"/, "/nothing"],
    [404, "not_found", /__proto__/, "/__proto__"],
    [404, "not_found", /unknown path/, "/rooms/%E0%A4%A/history"],
    [404, "not_found", /unknown path/, `/rooms/${"a".repeat(13_000)}/history`],
    [405, "method_not_allowed", /Allow/, publications],
    [405, "method_not_allowed", /Allow/, publications, { method: "PATCH", body: {} }],
    [415, "unsupported_media_type", /application\/json/, publications, { body: "data=1", headers: { "Content-Type": "application/x-www-form-urlencoded" } }],
    [415, "unsupported_media_type", /application\/json/, publications, { method: "POST" }],
    [400, "bad_request", /^body: is not valid JSON$/, publications, { body: "{" }],
    [400, "bad_request", /^body: is not valid JSON$/, publications, { body: "" , headers: { "Content-Type": "application/json" }, method: "POST" }],
    [400, "bad_request", /^body: must be a JSON object$/, publications, { body: "[]" }],
    [400, "bad_request", /^body: nested more than 103 deep$/, publications, { body: `{"data":${deep}}` }],
    [400, "bad_request", /^body: nested more than 103 deep$/, publications, { body: `{"data":${"[".repeat(400_000)}` }],
    [400, "bad_request", /nested more than 100 deep$/, publications, { body: `{"data":${deep.slice(99, -99)}}` }],
    [400, "bad_request", /^data: is missing; give data or b64$/, publications, { body: {} }],
    [400, "bad_request", /^b64: give either data or b64$/, publications, { body: { data: 1, b64: "AA==" } }],
    [400, "bad_request", /^b64: must be Base64/, publications, { body: { b64: "A" } }],
    [400, "bad_request", /^b64: must be a string$/, publications, { body: { b64: 1 } }],
    [400, "bad_request", /^key: must be a string$/, publications, { body: { data: 1, key: 7 } }],
    [400, "bad_request", /^key: must be at most 128 characters long$/, publications, { body: { data: 1, key: "k".repeat(129) } }],
    [400, "bad_request", /^Idempotency-Key: must be at most 128/, publications, { body: { data: 1 }, headers: { "Idempotency-Key": "k".repeat(129) } }],
    [400, "bad_request", /^key: contains half of a surrogate pair/, publications, { body: '{"data":1,"key":"\\ud800"}' }],
    [400, "bad_request", /^Idempotency-Key: give each item/, "/publications", { body: [{ room: "chat:a", data: 1 }], headers: { "Idempotency-Key": "k" } }],
    [400, "bad_request", /^body: unknown field "a0", "a1", "a2" and 9997 more$/, publications, { body: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`a${i}`, 1])) }],
    [400, "bad_request", /^body: unknown field "dat"$/, publications, { body: { dat: 1 } }],
    [400, "bad_request", /^body: unknown field "__proto__"$/, publications, { body: '{"__proto__":{"data":1}}' }],
    [400, "bad_request", /^query: unknown field "__proto__"$/, `${publications}?__proto__=1`, { body: { data: 1 } }],
    [400, "bad_request", /^1\.room: is missing; it must be a string$/, "/publications", { body: [{ room: "chat:a", data: 1 }, { data: 1 }] }],
    [400, "bad_request", /^0\.room: must be a string$/, "/publications", { body: [{ room: 1, data: 1 }] }],
    [400, "bad_request", /^body: must be at least 1 items long$/, "/publications", { body: [] }],
    [400, "bad_request", /^body: must be at most 1000 items long$/, "/publications", { body: Array.from({ length: 10_000 }, () => ({ room: "chat:a", data: 1 })) }],
    [400, "bad_request", /^rooms: must be an array$/, "/broadcasts", { body: { rooms: "chat:a", data: 1 } }],
    [413, "too_large", /^body: at most 1,048,576 bytes$/, publications, { body: { data: "x".repeat(1_100_000) } }],
    [413, "too_large", /^body: at most/, publications, { body: { data: "x".repeat(1_100_000) }, headers: { "Transfer-Encoding": "chunked" } }],
    [413, "too_large", /frameBytesMax/, publications, { body: { data: "x".repeat(70_000) } }],
    [400, "bad_request", /^room: the name is empty$/, "/rooms//publications", { body: { data: 1 } }],
    [400, "bad_request", /^room: control characters/, "/rooms/chat%3A%1Fb/publications", { body: { data: 1 } }],
    [400, "bad_request", /^room: at most 255 bytes$/, `/rooms/${"a".repeat(256)}/publications`, { body: { data: 1 } }],
    [403, "forbidden", /@inbox/, "/rooms/@inbox/publications", { body: { data: 1 } }],
    [404, "unknown_namespace", /namespace/, "/rooms/nowhere:a/publications", { body: { data: 1 } }],
    [400, "bad_request", /^user: control characters/, "/users/a%0Ab/messages", { body: { data: 1 } }],
    [400, "bad_request", /^user: is missing/, "/placement"],
    [400, "bad_request", /^user: the name is empty/, "/placement?user="],
    [400, "bad_request", /^tenant: control characters/, `${publications}?tenant=a%1Fb`, { body: { data: 1 } }],
    [403, "forbidden", /web pages/, publications, { body: { data: 1 }, headers: { Origin: "https://evil.example" } }],
    [403, "forbidden", /web pages/, publications, { body: { data: 1 }, headers: { "Sec-Fetch-Site": "same-origin" } }],
  ];
  for (const [status, code, detail, path, asked = {}] of refused) {
    const got = await ask(port, path, withKey(asked));
    const title = `${path.slice(0, 60)} ${JSON.stringify(asked.body ?? "").slice(0, 60)}`;
    t.match(got, { status, json: { status, code, detail, title: String, type: `/api/v1/docs#${code}`, requestId: got.headers["x-request-id"] } }, title);
    t.equal(got.headers["content-type"], "application/problem+json", title);
  }
  t.equal(({} as { data?: unknown }).data, undefined, "no prototype was written to");
});

t.test("names in a path are decoded, and a tenant's room is not another's", async (t) => {
  t.match(await ask(port, "/rooms/chat%3Aa%2Fb%3F%20%C3%A4/publications?tenant=acme", withKey({ body: { data: 1 } })), { status: 201, json: { position: /:1$/ } });
  t.match((await ask(port, "/rooms/chat:a%2Fb%3F%20%C3%A4/history?tenant=acme", withKey({}))).json, { publications: [{ data: 1 }] });
  for (const tenant of ["", "?tenant=", "?tenant=other"]) t.match((await ask(port, `/rooms/chat:a%2Fb%3F%20%C3%A4/history${tenant}`, withKey({}))).json, { publications: none });
  t.match(await ask(port, "/rooms/acme%1Fchat:a/history", withKey({})), { status: 400 }, "nor can a name reach it");
});

t.test("`__proto__` in a payload is data", async (t) => {
  t.equal((await ask(port, publications, withKey({ body: '{"data":{"__proto__":{"admin":true}}}' }))).status, 201);
  t.match((await ask(port, "/rooms/chat:a/history?limit=1", withKey({}))).text, '"data":{"__proto__":{"admin":true}}');
  t.equal(({} as { admin?: unknown }).admin, undefined);
});

t.test("a wrong key, or none, is refused before the body is read", async (t) => {
  for (const headers of [{ Authorization: "" }, { Authorization: "Bearer wrong" }, { Authorization: "Basic YTpi" }]) {
    const got = await ask(port, publications, { body: { data: 1 }, headers });
    t.match(got, { status: 401, json: { code: "unauthorized", retryable: false }, headers: { "www-authenticate": "Bearer" } });
  }
  t.equal((await ask(port, "/docs")).status, 200, "the description of the calls needs none");
});

t.test("an id that the caller gives is in the answer and in the problem; a strange one is replaced", async (t) => {
  t.match(await ask(port, "/nothing", withKey({ headers: { "X-Request-Id": "trace-1" } })), { headers: { "x-request-id": "trace-1" }, json: { requestId: "trace-1" } });
  t.match((await ask(port, "/nothing", withKey({ headers: { "X-Request-Id": "a b" } }))).headers["x-request-id"], /^[\w-]{8}-[0-9a-z]+$/);
});

t.test("slow and flooding connections are bounded, and keep nobody out", async (t) => {
  const idle = Array.from({ length: 530 }, () => connect(port, "127.0.0.1").on("error", () => {}));
  t.teardown(() => idle.forEach((socket) => socket.destroy()));
  await until(() => idle.filter(({ closed }) => closed).length >= 530 - 512, "what is too many to be dropped");
  idle.forEach((socket) => socket.destroy());
  await until(async () => (await ask(port, "/docs").catch(() => null))?.status === 200, "the places to be free again");
  const flood = connect(port, "127.0.0.1");
  let answer = "";
  flood.on("data", (chunk) => (answer += chunk.toString()));
  flood.on("error", () => {});
  flood.write(`GET /api/v1/docs HTTP/1.1\r\nHost: a\r\n${Array.from({ length: 3_000 }, (_, i) => `X-${i}: ${"y".repeat(20)}\r\n`).join("")}\r\n`);
  await until(() => flood.closed, "the connection with 3,000 headers to be closed");
  t.match(answer, /^HTTP\/1\.1 431 /);
});

t.test("a request that does not arrive is answered 408 and its connection closed, in its headers or in its body", async (t) => {
  const over: string[] = [];
  const times = { headersMs: 150, requestMs: 300, lookMs: 20 };
  const server = await startServer({ host: "127.0.0.1", port: 0 }, { name: "test", bounds: { ...apiBounds, ...times }, log: pino({ level: "silent" }) }, (req, res) => {
    res.on("close", () => over.push(req.url ?? ""));
    new NodeExchange(req, res).receive(() => {});
  });
  t.teardown(() => server.close());
  const answerTo = async (start: string, more: string): Promise<string> => {
    let answer = "";
    const socket = connect(server.port, "127.0.0.1").on("error", () => {}).on("data", (chunk) => (answer += chunk.toString()));
    socket.write(start);
    // A byte now and then keeps no connection alive.
    const drip = setInterval(() => socket.write(more), 20);
    await once(socket, "close").finally(() => clearInterval(drip));
    // One more byte behind the answer, and the kernel may reset the connection before the answer is read.
    return answer || answerTo(start, more);
  };
  const answers = await Promise.all([
    answerTo("POST /headers HTTP/1.1\r\nHost: a\r\nX-A: ", "a"),
    answerTo("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc", "a"),
    answerTo("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "1\r\na\r\n"),
  ]);
  for (const answer of answers) t.match(answer, /^HTTP\/1.1 408 /);
  await until(() => new Set(over).size === 2, "what had begun to be over");
  t.strictSame([...new Set(over)].sort(), ["/body", "/chunks"]);
});

t.test("of two requests at once with one key and different bodies, one is a publication and the other a conflict", async (t) => {
  const answers = await Promise.all([1, 2].map((data) => ask(port, "/rooms/chat:once/publications", withKey({ body: { data, key: "same" } }))));
  t.strictSame(answers.map(({ status }) => status).sort(), [201, 409]);
  t.equal(((await ask(port, "/rooms/chat:once/history", withKey({}))).json!.publications as unknown[]).length, 1);
});

t.test("without a key, the port is open to programs of this machine, and closed to pages", async (t) => {
  const open = await startNode(t, { reactors: 1 });
  t.equal(open.apiPort, open.adminPort, "the admin port has the HTTP API by default");
  const at = open.adminPort;
  t.equal((await ask(at, publications, { body: { data: 1 } })).status, 201);
  for (const headers of [{ Host: "rebound.example" }, { "Sec-Fetch-Site": "cross-site" }, { "Sec-Fetch-Site": "same-site" }]) {
    t.match(await ask(at, "/rooms/chat:a/history", { headers }), { status: 403, json: { code: "forbidden" } }, JSON.stringify(headers));
    t.match(await ask(at, "/docs", { headers }), { status: 403 }, JSON.stringify(headers));
  }
  for (const [status, headers] of [[403, { Origin: "https://evil.example" }], [403, { Origin: "http://127.0.0.1:1" }], [403, { "Sec-Fetch-Site": "none" }], [415, { "Content-Type": "text/plain" }]] as const) {
    t.equal((await ask(at, publications, { body: { data: 1 }, headers })).status, status, JSON.stringify(headers));
  }
  t.equal(((await ask(at, "/rooms/chat:a/history")).json!.publications as unknown[]).length, 1, "what was refused is not published");
  t.equal((await ask(at, "/docs", { headers: { "Sec-Fetch-Site": "none" } })).status, 200, "a person may read the page in a browser");
});

t.test("a client that disconnects in the middle leaves nothing behind", async (t) => {
  const sockets = Array.from({ length: 20 }, () => connect(port, "127.0.0.1").on("error", () => {}));
  for (const socket of sockets) socket.write(`POST /api/v1${publications} HTTP/1.1\r\nHost: a\r\nAuthorization: ${authorized.Authorization}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"data":"`);
  await until(async () => /^flux_http_waiting 20$/m.test(await node.metrics()), "the requests to wait for their bodies");
  sockets.forEach((socket) => socket.destroy());
  await until(async () => /^flux_http_waiting 0$/m.test(await node.metrics()), "nothing to wait");
  t.equal((await ask(port, publications, withKey({ body: { data: 1 } }))).status, 201);
});

t.test("a node that closes answers with a problem, or not at all", async (t) => {
  const other = await startNode(t, { reactors: 1, apiPort: 0 });
  const asked: Promise<unknown>[] = [];
  let isOver = false;
  const closing = other.close().then(() => (isOver = true));
  while (!isOver) {
    const answer = ask(other.apiPort, publications, { body: { data: 1 } }).then(({ status }) => status, () => "none");
    asked.push(answer);
    await answer;
  }
  await closing;
  const answers = await Promise.all(asked);
  t.strictSame([...new Set(answers)].filter((one) => one !== "none"), [503], "the first comes before the port is closed");
});

/** A backend that is dead, slow, lies, redirects or never stops talking: hookOnFailure decides, soon, in bounded memory. */
import { spawn } from "node:child_process";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { createServer as createHttpServer, type ServerResponse } from "node:http";
import t from "tap";
import { createLogger } from "../src/platform/log/log.ts";
import { resolveConfig } from "../src/config/config.ts";
import { Breaker } from "../src/hooks/breaker.ts";
import { Hooks } from "../src/hooks/hooks.ts";
import { Questions, type Failed } from "../src/hooks/questions.ts";
import { Signer } from "../src/hooks/signature.ts";
import { nothingAsked, type AskRecord, type HookName, type HookVerdict } from "../src/link/hooks.ts";
import { hookSecret, startHookBackend } from "./support/hookbackend.ts";
import { root } from "./support/root.ts";
import { until } from "./support/until.ts";

const log = createLogger({ logLevel: "silent", logFormat: "json" } as never);
const backend = await startHookBackend(t);

/** Hooks without a node around them. They wait for as long as they may, unless a test is about that. */
function startHooks(t: { teardown(end: () => Promise<void>): void }, options: object = {}): Hooks {
  const { config } = resolveConfig({ options: { logLevel: "silent", hookTimeoutMs: 30_000, hookSecret, hookConnect: `${backend.url}/connect`, namespaces: { chat: { hookJoin: `${backend.url}/join`, hookPublish: `${backend.url}/publish` } }, ...options } as never });
  const hooks = new Hooks({ config, version: "test", log });
  t.teardown(() => hooks.close());
  return hooks;
}

const ask = (hooks: Hooks, hook: HookName, more: Partial<AskRecord> = {}) =>
  new Promise<HookVerdict>((resolve) => hooks.ask({ ...nothingAsked, number: 1, hook, tenant: "", user: "ann", tokenHash: "h", isAnonymous: false, ...(hook !== "connect" && { room: "chat:a" }), ...more }, resolve));
const failuresOf = (hooks: Hooks, hook: HookName) => hooks.usage().hooks.find((one) => one.hook === hook)!;

const endless = (res: ServerResponse) => {
  const go = () => {
    while (!res.destroyed && res.write(" ".repeat(16_384))) continue;
  };
  res.on("drain", go).on("error", () => {});
  go();
};
const written = (status: number, headers: Record<string, string> = {}, body = "") => (_: unknown, res: ServerResponse) => void res.writeHead(status, headers).end(body);
const raw = (body: string | Buffer) => written(200, {}, body.toString());

/** What is no verdict, the failure it counts as, and what the log says. */
const bad: readonly (readonly [title: string, hook: HookName, answer: object, failure: string, says: RegExp])[] = [
  ["500", "connect", written(500), "status", /status 500/],
  ["403, which a proxy may have said", "connect", written(403), "status", /403/],
  ["410", "connect", written(410), "status", /410/],
  ["429", "connect", written(429, { "retry-after": "1" }), "status", /429/],
  ["204", "connect", written(204), "status", /204/],
  ["a redirect to a private address", "connect", written(302, { location: "http://169.254.169.254/latest/meta-data" }), "status", /302/],
  ["a permanent redirect to itself", "connect", written(308, { location: "/join" }), "status", /308/],
  ["an error page without an end", "connect", (_: unknown, res: ServerResponse) => endless(res.writeHead(500)), "status", /500/],
  ["an answer without an end", "connect", (_: unknown, res: ServerResponse) => endless(res.writeHead(200)), "connection", /too long/],
  ["an answer of 1 GiB, as its header says", "connect", (_: unknown, res: ServerResponse) => endless(res.writeHead(200, { "content-length": String(2 ** 30) })), "connection", /too long/],
  ["headers of 100 KiB", "connect", written(200, { "x-much": "x".repeat(100_000) }, '{"allow":true}'), "connection", /headers/i],
  ["nothing", "connect", raw(""), "answer", /not JSON/],
  ["HTML", "connect", raw("<html>"), "answer", /not JSON/],
  ["JSON of another kind", "connect", raw("[]"), "answer", /verdict/],
  ["allow as a text", "connect", raw('{"allow":"yes"}'), "answer", /allow/],
  ["a mistyped allow", "connect", raw('{"alow":true}'), "answer", /allow/],
  ["compressed bytes", "connect", written(200, { "content-encoding": "gzip" }, "\u001f\u008b"), "answer", /not JSON/],
  ["another tenant's room", "connect", { allow: true, rooms: ["acme\u001fchat:a"] }, "answer", /control characters/],
  ["another user's inbox", "connect", { allow: true, rooms: ["acme\u001f@inbox\u001fbob"] }, "answer", /control characters/],
  ["the inbox", "connect", { allow: true, rooms: ["@inbox"] }, "answer", /@inbox/],
  ["a room that no namespace covers", "connect", { allow: true, rooms: ["nowhere:1"] }, "answer", /no namespace/],
  ["101 rooms", "connect", { allow: true, rooms: Array.from({ length: 101 }, (_, i) => `chat:${i}`) }, "answer", /rooms/],
  ["rooms with long names", "connect", { allow: true, rooms: Array.from({ length: 30 }, (_, i) => `chat:${"x".repeat(200)}${i}`) }, "answer", /4096/],
  ["a user of another tenant", "connect", { allow: true, user: "acme\u001fbob" }, "answer", /user/],
  ["a long user", "connect", { allow: true, user: "x".repeat(129) }, "answer", /user/],
  ["half of a surrogate pair", "connect", raw('{"allow":true,"user":"\\ud800"}'), "answer", /user/],
  ["a user in join", "join", { allow: true, user: "bob" }, "answer", /user/],
  ["rooms in join", "join", { allow: true, rooms: ["chat:b"] }, "answer", /rooms/],
  ["data in join", "join", { allow: true, data: 1 }, "answer", /data/],
  ["data of more than a frame", "publish", { allow: true, data: "x".repeat(70_000) }, "answer", /frameBytesMax/],
  ["data twice", "publish", { allow: true, data: 1, b64: "AAAA" }, "answer", /only one/],
  ["a close code of ours", "connect", { allow: false, code: 1006 }, "answer", /code/],
  ["a close code in join", "join", { allow: false, code: 4500 }, "answer", /code/],
  ["an error code in connect", "connect", { allow: false, code: "forbidden" }, "answer", /code/],
  ["an unknown error code", "join", { allow: false, code: "nope" }, "answer", /code/],
  ["a verdict for a year", "connect", { allow: true, maxAgeMs: 365 * 86_400_000 }, "answer", /maxAgeMs/],
];

t.test("what is no verdict is a failure, whatever it says, and nothing more is asked because of it", async (t) => {
  for (const [title, hook, answer, failure, says] of bad) {
    const hooks = startHooks(t, {});
    backend.answer(`/${hook}`, answer);
    const before = backend.asked.length;
    const verdict = await ask(hooks, hook);
    t.match(verdict, { kind: "unanswered", isAllowed: false, isFull: false, text: says }, title);
    t.match(failuresOf(hooks, hook), { failures: { [failure]: 1 }, allowed: 0, denied: 0 }, title);
    t.equal(backend.asked.length, before + 1, `${title}: asked once`);
  }
});

t.test("a dead backend, one that says nothing, and one that never stops: hookOnFailure decides in time", async (t) => {
  const dead = startHooks(t, { hookConnect: "http://127.0.0.1:1/x", hookOnFailure: "allow" });
  t.match(await ask(dead, "connect"), { kind: "unanswered", isAllowed: true, text: /ECONNREFUSED/ });
  const slow = startHooks(t, { hookTimeoutMs: 50 });
  backend.answer("/connect", () => new Promise(() => {}));
  t.match(await ask(slow, "connect"), { kind: "unanswered", isAllowed: false, text: /50 ms/ });
  backend.answer("/connect", (_: unknown, res: ServerResponse) => void res.writeHead(200).write("{"));
  t.match(await ask(slow, "connect"), { kind: "unanswered", text: /50 ms/ }, "it began to answer");
  await until(() => failuresOf(slow, "connect").running === 0, "both to be given up");
  t.match(failuresOf(slow, "connect"), { failures: { timeout: 2 }, waiting: 0 });
});

/** A server that answers what it likes, byte by byte. */
async function rawBackend(t: { teardown(end: () => void): void }, onConnection: (socket: Socket, number: number) => void): Promise<string> {
  let count = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on("error", () => {}));
    onConnection(socket, ++count);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"allow":true}';

t.test("a connection that is lost is tried once more, with the same id; a second loss is a failure", async (t) => {
  const ids: string[] = [];
  const url = await rawBackend(t, (socket, number) => {
    socket.on("data", (chunk: Buffer) => {
      ids.push(/webhook-id: (\S+)/.exec(chunk.toString())?.[1] ?? "");
      if (number === 1) socket.resetAndDestroy();
      else socket.write(ok);
    });
  });
  const hooks = startHooks(t, { hookConnect: url });
  t.match(await ask(hooks, "connect"), { kind: "allowed" });
  t.equal(ids.length, 2);
  t.equal(ids[0], ids[1]);
  t.match(failuresOf(hooks, "connect"), { sent: 2, allowed: 1 });
  const always = startHooks(t, { hookConnect: await rawBackend(t, (socket) => void socket.on("data", () => socket.resetAndDestroy())) });
  t.match(await ask(always, "connect"), { kind: "unanswered" });
  t.match(failuresOf(always, "connect"), { sent: 2, failures: { connection: 1 } });
});

t.test("no HTTP, a greeting of another protocol, a close without an answer", async (t) => {
  for (const [said, text] of [["SSH-2.0-OpenSSH\r\n", /HTTP/], ["", /./], ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\n{}", /./]] as const) {
    const hooks = startHooks(t, { hookConnect: await rawBackend(t, (socket) => void socket.on("data", () => socket.end(said))) });
    t.match(await ask(hooks, "connect"), { kind: "unanswered", text });
  }
});

t.test("the breaker opens after failures in a row, then nobody waits; a trial closes it, a failed trial makes the pause longer", async (t) => {
  let now = 0;
  const breaker = new Breaker(() => now);
  for (let i = 0; i < 4; i++) t.notOk(breaker.failed());
  t.ok(breaker.admits());
  t.ok(breaker.failed(), "the fifth opens it");
  t.notOk(breaker.admits());
  now = 1000;
  t.ok(breaker.admits(), "one may try");
  t.notOk(breaker.admits(), "only one");
  t.notOk(breaker.failed());
  now = 2999;
  t.notOk(breaker.admits(), "two seconds now");
  now = 3000;
  t.ok(breaker.admits());
  breaker.withdrawn();
  t.equal(breaker.state, "open");
  now = 60_000;
  t.ok(breaker.admits());
  t.ok(breaker.succeeded(), "news");
  t.equal(breaker.state, "closed");
  t.notOk(breaker.failed());
  t.notOk(breaker.succeeded(), "no news");
  let opened = false;
  for (let i = 0; i < 10; i++) {
    breaker.succeeded();
    opened ||= breaker.failed();
  }
  t.ok(opened, "every other question fails");
});

t.test("questions: bounded at once and in the queue, answered in order; when the breaker opens, those that wait are told at once", async (t) => {
  const posts: ((status: number | Error) => void)[] = [];
  const told: string[] = [];
  const questions = new Questions<object>({
    backend: { post: (_, __, signal) => new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("aborted")));
      posts.push((status) => (typeof status === "number" ? resolve({ status, body: "" }) : reject(status)));
    }) },
    signer: new Signer([hookSecret]), connectionsMax: 2, timeoutMs: 60_000, log,
    onBreaker: (state) => told.push(state),
  });
  const outcomes: (object | Failed)[] = [];
  const put = (body = "x") => questions.ask(body, () => ({ fine: true }), (outcome) => outcomes.push(outcome));
  for (let i = 0; i < 10_003; i++) put();
  t.match(outcomes, [{ failure: "full" }]);
  t.equal(outcomes.length, 1, "two are sent, ten thousand wait");
  t.strictSame([questions.running, questions.waiting, posts.length], [2, 10_000, 2]);
  posts.shift()!(200);
  await until(() => posts.length === 2, "the next to be sent");
  t.match(outcomes[1], { fine: true });
  for (let i = 0; i < 5; i++) {
    const answered = outcomes.length;
    posts.shift()!(500);
    await until(() => outcomes.length > answered, "it to fail");
    if (i < 4) await until(() => posts.length === 2, "the next");
  }
  t.strictSame(told, ["open"]);
  t.equal(questions.waiting, 0);
  t.equal(outcomes.filter((outcome) => "failure" in outcome && outcome.failure === "breaker").length, 10_002 - 7, "seven were sent");
  put();
  t.match(outcomes.at(-1), { failure: "breaker" });
  posts.shift()!(200);
  await until(() => told.length === 2, "an answer to an earlier question to close it");
  t.strictSame(told, ["open", "closed"]);
  put("x".repeat(17 * 2 ** 20));
  put("x".repeat(17 * 2 ** 20));
  put("x".repeat(17 * 2 ** 20));
  t.match(outcomes.at(-1), { failure: "full" }, "their bytes are bounded, too");
  questions.close();
});

t.test("a node that stood still reads the answers that came meanwhile, before it counts a timeout", async (t) => {
  let answer = () => {};
  const questions = new Questions<{ ok: boolean }>({
    backend: { post: () => new Promise((resolve) => (answer = () => resolve({ status: 200, body: "yes" }))) },
    signer: new Signer([hookSecret]), connectionsMax: 1, timeoutMs: 50, onBreaker() {}, log,
  });
  const outcomes: object[] = [];
  questions.ask("?", () => ({ ok: true }), (outcome) => outcomes.push(outcome));
  setImmediate(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    // As what a socket has received: read after timers that are due.
    setImmediate(() => answer());
  });
  await until(() => outcomes.length === 1, "an outcome");
  t.strictSame(outcomes, [{ ok: true }]);
});

t.test("a backend that fails is left alone: the fast answer of the breaker does not wait for it", async (t) => {
  const hooks = startHooks(t, { hookOnFailure: "allow" });
  backend.answer("/connect", written(500));
  backend.answer("/join", { allow: true });
  for (let i = 0; i < 5; i++) await ask(hooks, "connect");
  const before = backend.asked.length;
  for (let i = 0; i < 50; i++) t.match(await ask(hooks, "connect"), { kind: "unanswered", isAllowed: true });
  t.equal(backend.asked.length, before);
  t.match(failuresOf(hooks, "connect"), { breaker: "open", failures: { breaker: 50, status: 5 } });
  t.match(await ask(hooks, "join"), { kind: "allowed" }, "other hooks go on");
});

t.test("with two keys there are two signatures, so that either verifies", async (t) => {
  const other = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
  const second = await startHookBackend(t, other);
  const hooks = startHooks(t, { hookSecretPrevious: other, namespaces: { chat: { hookJoin: `${second.url}/join` } } });
  backend.answer("/connect", { allow: true });
  await ask(hooks, "connect");
  await ask(hooks, "join");
  t.strictSame([backend.asked.at(-1)?.verified, second.asked.at(-1)?.verified], [true, true]);
});

t.test("the backend of the demo takes signed questions, and neither forged, changed, old nor endless ones", async (t) => {
  const published: { url: string | undefined; key: string | undefined; body: string }[] = [];
  const api = createHttpServer(async (req, res) => {
    let body = "";
    for await (const piece of req) body += String(piece);
    published.push({ url: req.url, key: req.headers.authorization, body });
    res.writeHead(201).end("{}");
  });
  await new Promise<void>((resolve) => api.listen(0, "127.0.0.1", resolve));
  t.teardown(() => void (api.close(), api.closeAllConnections()));
  const API_URL = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
  const child = spawn(process.execPath, [`${root}/demo/backend/backend.mjs`], { env: { ...process.env, HOOK_SECRET: hookSecret, PORT: "0", API_URL, API_KEY: "k" }, stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => child.kill());
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await until(() => said.includes("\n"), "it to listen");
  const url = `${/http:\/\/\S+/.exec(said)![0]}/hooks/connect`;
  const hooks = startHooks(t, { hookConnect: url });
  const login = (token: string) => ask(hooks, "connect", { token, tokenHash: token, isAnonymous: true });
  t.match(await login("ann-1234"), { kind: "allowed", user: "ann", rooms: ["chat:general", "chat:team"] });
  t.match(await login("eve-0000"), { kind: "denied", close: 4501, reason: "banned" });
  t.match(await login("guess"), { kind: "denied", close: 4500 });
  const signer = new Signer([hookSecret]);
  const statusOf = async (body: string, headers: object) => (await fetch(url, { method: "POST", body, headers: { ...headers } })).status;
  const question = JSON.stringify({ hook: "connect", token: "ann-1234" });
  t.equal(await statusOf(question, signer.sign("msg_1", Date.now(), question)), 200);
  t.equal(await statusOf(`${question} `, signer.sign("msg_1", Date.now(), question)), 401, "changed");
  t.equal(await statusOf(question, { ...signer.sign("msg_1", Date.now(), question), "webhook-id": "msg_2" }), 401, "under another id");
  t.equal(await statusOf(question, signer.sign("msg_1", Date.now() - 600_000, question)), 401, "old: a replay");
  t.equal(await statusOf(question, new Signer([`whsec_${Buffer.alloc(32).toString("base64")}`]).sign("msg_1", Date.now(), question)), 401, "another key");
  t.equal(await statusOf(question, {}), 401, "unsigned");
  t.equal(await statusOf("x".repeat(2 ** 20 + 1), {}), 413);

  // It takes webhooks, each event once, and its page shows them.
  const page = url.replace("/hooks/connect", "/");
  const event = JSON.stringify({ type: "member.joined", timestamp: "2026-01-01T00:00:00.000Z", data: { room: "chat:<b>", user: "ann" } });
  const tell = async (headers: object) => (await fetch(`${page}webhooks`, { method: "POST", body: event, headers: { ...headers } })).status;
  for (let i = 0; i < 2; i++) t.equal(await tell(signer.sign("e-1", Date.now(), event)), 204);
  t.equal(await tell({ ...signer.sign("e-1", Date.now(), event), "webhook-id": "e-2" }), 401);
  t.strictSame((await (await fetch(page)).text()).match(/<li>[^/]*<\/li>/g), ["<li>2026-01-01T00:00:00.000Z member.joined chat:&#60;b&#62; ann</li>"]);
  t.equal((await fetch(`${page}publish`, { method: "POST", headers: { "sec-fetch-site": "cross-site" } })).status, 403);
  const pressed = await fetch(`${page}publish`, { method: "POST", redirect: "manual" });
  t.equal(pressed.status, 303);
  t.match(published, [{ url: "/api/v1/rooms/chat%3Ageneral/publications", key: "Bearer k", body: /Hello from the backend/ }]);
});

t.test("a client without a token shares no verdict with another; an opaque token is told to the backend, and has its own", async (t) => {
  const hooks = startHooks(t);
  backend.answer("/connect", ({ token = "", user }: Record<string, unknown>) => ({ allow: true, maxAgeMs: 60_000, user: `${String(token)}-${String(user)}` }));
  const one = await ask(hooks, "connect", { user: "anon-1", isAnonymous: true, tokenHash: "" });
  const two = await ask(hooks, "connect", { user: "anon-2", isAnonymous: true, tokenHash: "" });
  t.match([one, two], [{ user: "-anon-1" }, { user: "-anon-2" }]);
  const three = await ask(hooks, "connect", { user: "anon-3", isAnonymous: true, tokenHash: "t", token: "cookie" });
  const four = await ask(hooks, "connect", { user: "anon-4", isAnonymous: true, tokenHash: "t", token: "cookie" });
  t.match([three, four], [{ user: "cookie-anon-3" }, { user: "cookie-anon-3" }]);
  hooks.signedOut("\u001fcookie-anon-3");
  t.match(await ask(hooks, "connect", { user: "anon-5", isAnonymous: true, tokenHash: "t", token: "cookie" }), { user: "cookie-anon-5" });
});

t.test("a verdict that does not fit into the ring is none: the session does not wait forever", async (t) => {
  const hooks = startHooks(t);
  backend.answer("/connect", { allow: true, rooms: Array.from({ length: 40 }, (_, i) => `chat:${"r".repeat(90)}${i}`) });
  const written: string[] = [];
  const verdict = withResolvers();
  const small = { begin: (_: number, bytes: number) => {
    if (bytes > 2000) throw new RangeError("too large");
    return true;
  }, u32: () => {}, u8: () => {}, f64: () => {}, text: (text: string) => void written.push(text), blob: () => {}, end: () => verdict.resolve() };
  const asked: AskRecord = { ...nothingAsked, number: 1, hook: "connect", tenant: "", user: "ann", tokenHash: "", isAnonymous: false };
  const fields = [asked.tenant, asked.user, "", "", "", "", "", "", ""];
  const record = { u32: () => 1, u8: () => 0, text: () => fields.shift() ?? "", blob: () => Buffer.alloc(0) };
  hooks.onRecord({ link: small as never, live: true }, record as never);
  await verdict.promise;
  t.strictSame(written, ["", ""], "no rooms, no reason");
});

function withResolvers(): { promise: Promise<void>; resolve(): void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}

t.test("a verdict asked for before a sign-out, and answered after it, is not remembered", async (t) => {
  const hooks = startHooks(t);
  const held = backend.hold("/connect");
  const late = ask(hooks, "connect");
  await held.waiting(1);
  hooks.signedOut("\u001fsomebody");
  held.release({ allow: true, maxAgeMs: 60_000 });
  t.match(await late, { kind: "allowed" });
  t.equal(hooks.usage().remembered, 0);
});

t.test("URLs and keys of the configuration", async (t) => {
  const problemOf = (options: object) => {
    try {
      resolveConfig({ options: options as never });
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  const good = { hookSecret, hookConnect: "https://backend.example/hook?x=1" };
  t.equal(problemOf(good), "");
  for (const url of ["http://10.0.0.5/", "http://[fd00::1]:3000/x", "http://backend/x"]) t.equal(problemOf({ ...good, hookConnect: url }), "", `${url}: private networks are fine`);
  for (const url of ["file:///etc/passwd", "ftp://x/", "gopher://x/", "http://user:pass@host/", "//host/x", "host:80", "http://host/#x", "javascript:0", "http://"]) {
    t.match(problemOf({ ...good, hookConnect: url }), /hookConnect: must be an address/, url);
    t.match(problemOf({ hookSecret, namespaces: { chat: { hookJoin: url } } }), /chat\.hookJoin: must be an address/, url);
  }
  t.match(problemOf({ hookConnect: "http://a/" }), /hookConnect: .*set hookSecret/);
  t.match(problemOf({ namespaces: { chat: { hookPublish: "http://a/" } } }), /namespaces\.chat\.hookPublish: .*set hookSecret/);
  t.match(problemOf({ hookSecretPrevious: hookSecret }), /hookSecretPrevious: .*set hookSecret/);
  for (const key of ["short", "whsec_AAAA", "x".repeat(40), `whsec_${"!".repeat(40)}`]) {
    const problem = problemOf({ ...good, hookSecret: key });
    t.match(problem, /hookSecret: must be a key of 24 to 64 bytes/);
    t.notMatch(problem, key, "and is not shown");
  }
});

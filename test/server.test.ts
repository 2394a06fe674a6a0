/** `flux-gateway/server` over the HTTP API of a node, and over answers that no node gives. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import { fieldsOf } from "../src/http/openapi.ts";
import { basePath, calls } from "../src/http/table.ts";
import { ApiError, FluxServer, type FluxServerOptions, type HistoryPage, type Joined, type Left, type MembersPage, type Published, type Results, type RoomInfo, type RoomsPage, type Sent, type Surveyed, type Token, type UserInfo } from "../src/server/index.ts";
import { startNode } from "./support/node.ts";
import { none } from "./support/only.ts";
import { open } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";

const key = "an-admin-key-of-32-or-more-characters";
const namespaces = { chat: { durable: true, presence: "members" } } as const;
const node = await startNode(t, { reactors: 1, adminKey: key, apiPort: 0, authSecret: secret, namespaces });
const url = `http://127.0.0.1:${node.apiPort}`;
const flux = new FluxServer({ url, key });

t.test("publishes once, however often it is told to with one key", async (t) => {
  const first = await flux.publish("chat:a", { text: "hi" }, { key: "order-1" });
  t.match(first, { position: /:1$/, receivers: 0, duplicate: false });
  t.match(await flux.publish("chat:a", { text: "hi" }, { key: "order-1" }), { position: first.position, duplicate: true });
  await t.rejects(flux.publish("chat:a", "another", { key: "order-1" }), { name: "ApiError", code: "conflict", retryable: false, status: 409, requestId: /./ });
  t.match(await flux.publish("chat:a", 2), { duplicate: false }, "each call has a key of its own");
});

t.test("bytes are bytes, and names may have any characters but those of a path's steps", async (t) => {
  for (const room of ["chat:a/b?c#d%2F%", "chat:ünï 🌊", "chat:__proto__", "chat:...", "chat:a+b"]) {
    const bytes = new Uint8Array([0, 255, 7]);
    await flux.publish(room, bytes.subarray(1));
    t.match((await flux.history(room)).publications, [{ sender: "", data: new Uint8Array([255, 7]) }], room);
  }
  for (const room of ["", ".", "..", "chat:\ud800"]) await t.rejects(flux.publish(room, 1), { code: "bad_request" });
});

t.test("bytes of any kind are bytes, and what JSON cannot say is refused", async (t) => {
  const { buffer } = new Uint8Array([1, 2, 3]);
  for (const data of [buffer, new DataView(buffer), new Uint16Array(new Uint8Array([1, 2, 3, 0]).buffer, 0, 1)]) await flux.publish("chat:bytes", data);
  t.same((await flux.history("chat:bytes")).publications.map(({ data }) => data), [[1, 2, 3], [1, 2, 3], [1, 2]].map((bytes) => new Uint8Array(bytes)));
  const circle: { self?: unknown } = {};
  circle.self = circle;
  for (const data of [1n, circle]) {
    await t.rejects(flux.publish("chat:a", data), { name: "ApiError", code: "bad_request" });
    await t.rejects(flux.publishMany([{ room: "chat:a", data }]), { name: "ApiError", code: "bad_request" });
  }
});

t.test("many at once have a result each, and history has pages", async (t) => {
  const { results, failed } = await flux.publishMany([{ room: "chat:many", data: 1 }, { room: "nowhere:x", data: 2 }, { room: "chat:many", data: new Uint8Array([3]) }]);
  t.match(results, [{ position: /:1$/ }, { error: { code: "unknown_namespace", retryable: false } }, { position: /:2$/ }]);
  t.equal(failed, 1);
  t.match(await flux.broadcast(["chat:many", "chat:more"], "all", { key: "b" }), { failed: 0, results: [{ position: /:3$/ }, { position: /:1$/ }] });
  t.match(await flux.send("ann", { text: "for you" }), { position: /:1$/, duplicate: false });
  const page = await flux.history("chat:many", { limit: 2, reverse: true });
  t.match(page.publications.map(({ data }) => data), ["all", new Uint8Array([3])]);
  t.match(await flux.history("chat:many", { before: page.next!, limit: 2 }), { publications: [{ data: 1 }], next: null });
});

t.test("users: who is there, into a room and out of it, without one session, and away", async (t) => {
  const session = await open(node, { hello: { token: await token({ sub: "ann" }, secret) } });
  t.same(await flux.join("ann", "chat:u"), { sessions: 1, refused: 0, complete: true, unanswered: [] });
  t.match(await flux.room("chat:u"), { room: "chat:u", sessions: 1, users: 1 });
  t.match(await flux.members("chat:u", { limit: 1 }), { users: 1, members: [{ user: "ann", sessions: 1 }], next: null });
  t.match(await flux.rooms({ prefix: "chat:u" }), { rooms: [{ room: "chat:u", sessions: 1 }], next: null, complete: true });
  const { sessions: [one], joined } = await flux.user("ann");
  t.match([one?.rooms, joined], [1, ["chat:u"]]);
  await flux.publish("chat:u", "to others", { exclude: one!.session });
  await flux.publish("chat:u", "to all");
  await session.waitFor(() => session.publications.length > 0, "a publication");
  t.same(session.publications.map(({ payload }) => payload.toString()), ['"to all"']);
  t.match(await flux.leave("ann", "chat:u"), { sessions: 1, complete: true });
  t.match(await flux.user("ann"), { sessions: [{ rooms: 0 }], joined: none });
  t.match(await flux.disconnect("ann", { signOut: true }), { sessions: 1, complete: true });
  t.match(await flux.user("ann"), { sessions: none });
  t.match(await flux.reconnect("ann"), { sessions: 0 });
});

t.test("errors have the code, the text and the request of the answer", async (t) => {
  const stranger = new FluxServer({ url, key: "wrong" });
  await t.rejects(stranger.publish("chat:a", 1), { code: "unauthorized", status: 401, retryable: false, message: /unknown or revoked/, requestId: /-/ });
  await t.rejects(flux.publish("nowhere:a", 1), { code: "unknown_namespace", status: 404 });
  await t.rejects(flux.publish("chat:a", undefined), { code: "bad_request", status: 400 });
  await t.rejects(new FluxServer({ url, key, tenant: "a\u0001" }).publish("chat:a", 1), { code: "bad_request", message: /tenant/ });
  for (const wrong of ["", "example.com", "ftp://a", "http://user:pass@a"]) t.throws(() => new FluxServer({ url: wrong }), TypeError, wrong);
});

/** A server that answers as the test says, one function a request; it keeps the bodies and headers of requests. */
async function startOdd(t: Test, answers: readonly ((res: import("node:http").ServerResponse) => void)[], options: Partial<FluxServerOptions> = {}) {
  const bodies: string[] = [];
  const keys: unknown[] = [];
  const http = createServer((req, res) => {
    let body = "";
    req.on("data", (chunk: Buffer) => (body += chunk.toString()));
    req.on("end", () => {
      bodies.push(body);
      keys.push(req.headers.authorization);
      (answers[bodies.length - 1] ?? answers.at(-1)!)(res);
    });
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    http.close();
    http.closeAllConnections();
  });
  // Waits are as short as this.
  return { flux: new FluxServer({ url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, retryAfterMaxMs: 1, ...options }), bodies, keys };
}

type Res = import("node:http").ServerResponse;
const problem = (status: number, code: string, retryable: boolean, headers = {}) => (res: Res) => res.writeHead(status, headers).end(JSON.stringify({ code, detail: "said", retryable, requestId: "r1" }));
const good = (res: Res) => res.writeHead(201).end(JSON.stringify({ position: "e:1", receivers: 0, duplicate: false }));

t.test("what fails for now is repeated with the same key, and what fails for good is not", async (t) => {
  const { flux, bodies } = await startOdd(t, [problem(503, "unavailable", true), (res) => res.destroy(), (res) => res.writeHead(502).end("<html>"), good]);
  t.match(await flux.publish("chat:a", 1), { position: "e:1" });
  t.equal(bodies.length, 4);
  t.equal(new Set(bodies).size, 1, "byte for byte");
  t.match(JSON.parse(bodies[0]!), { data: 1, key: /^[\w-]{36}$/ });
  for (const [status, code] of [[400, "bad_request"], [403, "forbidden"], [409, "conflict"]] as const) {
    const { flux, bodies } = await startOdd(t, [problem(status, code, false)]);
    await t.rejects(flux.publish("chat:a", 1), { code, message: "said", requestId: "r1", status });
    t.equal(bodies.length, 1);
  }
});

t.test("a signal that outlives many calls keeps nothing of them", async (t) => {
  const { signal } = new AbortController();
  const { flux } = await startOdd(t, [problem(503, "overloaded", true)], { retries: 5 });
  let [added, removed] = [0, 0];
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...given: Parameters<typeof addEventListener>) => (added++, addEventListener.apply(signal, given));
  signal.removeEventListener = (...given: Parameters<typeof removeEventListener>) => (removed++, removeEventListener.apply(signal, given));
  await t.rejects(flux.publish("chat:a", 1, { signal }), { code: "overloaded" });
  t.same([added, removed], [5, 5]);
});

t.test("repeats end: after so many, and at once where the node asks for more time than is given", async (t) => {
  const { flux, bodies } = await startOdd(t, [problem(503, "overloaded", true)], { retries: 5 });
  await t.rejects(flux.publish("chat:a", 1), { code: "overloaded", retryable: true });
  t.equal(bodies.length, 6);
  const patient = await startOdd(t, [problem(429, "rate_limited", true, { "Retry-After": "60" })], { retryAfterMaxMs: 59_999 });
  await t.rejects(patient.flux.publish("chat:a", 1), { code: "rate_limited", retryAfterMs: 60_000 });
  t.equal(patient.bodies.length, 1);
});

t.test("no answer in time, no server, and a caller who has waited enough are errors", async (t) => {
  // Counted where they are sent: on a busy machine 20 ms may be over before a request arrives.
  let asked = 0;
  const silent = await startOdd(t, [() => undefined], { timeoutMs: 20, retries: 1, fetch: (...request) => (asked++, fetch(...request)) });
  await t.rejects(silent.flux.publish("chat:a", 1), { code: "unavailable", status: 0, message: "no answer within 20 ms" });
  t.equal(asked, 2);
  const gone = new FluxServer({ url: "http://127.0.0.1:1", retries: 0 });
  await t.rejects(gone.publish("chat:a", 1), { code: "unavailable", retryable: true, message: /no answer: / });
  const ending = new AbortController();
  const waiting = await startOdd(t, [() => ending.abort(new Error("enough"))], { retries: 9 });
  await t.rejects(waiting.flux.publish("chat:a", 1, { signal: ending.signal }), { message: "enough" });
  t.equal(waiting.bodies.length, 1);
});

t.test("an answer that is not a node's is no success, and a redirect does not get the key", async (t) => {
  for (const [answer, code] of [[(res: Res) => res.writeHead(200).end("<html>"), "internal"], [(res: Res) => res.writeHead(404).end("nginx"), "internal"], [(res: Res) => res.writeHead(403).end("[1"), "internal"], [(res: Res) => res.writeHead(504).end("null"), "unavailable"]] as const) {
    const { flux } = await startOdd(t, [answer], { retries: 0 });
    await t.rejects(flux.publish("chat:a", 1), { code });
  }
  const thief = await startOdd(t, [good]);
  const { flux } = await startOdd(t, [(res) => res.writeHead(307, { Location: "http://127.0.0.1:1/" }).end()], { key: "secret", retries: 0 });
  await t.rejects(flux.publish("chat:a", 1), ApiError);
  t.same(thief.keys, []);
});

/** Every key of T, which the compiler checks. */
const keysOf = <T>() => <const K extends readonly (keyof T)[]>(keys: K & ([keyof T] extends [K[number]] ? unknown : never)): readonly string[] => keys as unknown as readonly string[];

/** What the client sends when it is given everything, and the keys of what it says it gets; by method and path. */
const described: Record<string, { answer: readonly string[]; send(flux: FluxServer): Promise<unknown> }> = {
  "POST /rooms/:room/publications": { answer: keysOf<Published>()(["position", "receivers", "duplicate"]), send: (flux) => flux.publish("r", 1, { key: "k", exclude: "s" }) },
  "POST /publications": { answer: keysOf<Results>()(["results", "failed"]), send: (flux) => flux.publishMany([{ room: "r", data: 1, key: "k", exclude: "s" }]) },
  "POST /broadcasts": { answer: keysOf<Results>()(["results", "failed"]), send: (flux) => flux.broadcast(["r"], 1, { key: "k" }) },
  "POST /users/:user/messages": { answer: keysOf<Sent>()(["position", "duplicate"]), send: (flux) => flux.send("u", 1, { key: "k" }) },
  "GET /rooms/:room/history": { answer: keysOf<HistoryPage>()(["publications", "position", "next", "gap"]), send: (flux) => flux.history("r", { after: "a", before: "b", limit: 1, reverse: true }) },
  "GET /rooms/:room/members": { answer: keysOf<MembersPage>()(["users", "sessions", "members", "next", "complete"]), send: (flux) => flux.members("r", { after: "a", limit: 1 }) },
  "GET /rooms": { answer: keysOf<RoomsPage>()(["rooms", "next", "complete", "unanswered"]), send: (flux) => flux.rooms({ prefix: "p", cursor: "c", limit: 1 }) },
  "GET /rooms/:room": { answer: keysOf<RoomInfo>()(["room", "sessions", "nodes", "users", "complete", "unanswered"]), send: (flux) => flux.room("r") },
  "GET /users/:user": { answer: keysOf<UserInfo>()(["user", "sessions", "joined", "complete", "unanswered"]), send: (flux) => flux.user("u") },
  "PUT /users/:user/rooms/:room": { answer: keysOf<Joined>()(["sessions", "refused", "complete", "unanswered"]), send: (flux) => flux.join("u", "r") },
  "DELETE /users/:user/rooms/:room": { answer: keysOf<Left>()(["sessions", "complete", "unanswered"]), send: (flux) => flux.leave("u", "r") },
  "DELETE /users/:user/sessions": { answer: keysOf<Surveyed>()(["sessions", "complete", "unanswered"]), send: (flux) => flux.disconnect("u", { signOut: true }) },
  "POST /tokens": { answer: keysOf<Token>()(["token", "expiresAt"]), send: (flux) => flux.token("u", { rooms: { "r:*": ["join"] }, send: false, limits: { rooms: 1 }, expiresIn: 60 }) },
  "POST /users/:user/reconnect": { answer: keysOf<Surveyed>()(["sessions", "complete", "unanswered"]), send: (flux) => flux.reconnect("u", { url: "wss://a" }) },
};
/** Calls that the client leaves out. */
const left = ["stream", "nodes", "placement"];

t.test("the client's types are those of the schemas that check the requests", async (t) => {
  for (const call of calls) {
    if (left.includes(call.name)) continue;
    const title = `${call.method} ${call.path}`;
    const mine = described[title];
    if (mine === undefined) {
      t.fail(`no method for ${title}`);
      continue;
    }
    let sent: Request | undefined;
    const recorder = async (url: string | URL | Request, { method, body }: RequestInit = {}) => {
      sent = new Request(url, { method: method!, body: body ?? null });
      return new Response('{"publications":[]}');
    };
    await mine.send(new FluxServer({ url: "http://a", tenant: "t", fetch: recorder as typeof fetch }));
    const { pathname, searchParams } = new URL(sent!.url);
    t.equal(`${sent!.method} ${pathname}`, `${call.method} ${basePath}${call.path.replace(":room", "r").replace(":user", "u")}`);
    t.same([...searchParams.keys()].sort(), fieldsOf(call.query).map(({ name }) => name).sort(), `${title}: query`);
    const text = await sent!.text();
    if (call.body !== null) t.ok(call.body.safeParse(JSON.parse(text)).success, `${title}: body ${text}`);
    t.same([...mine.answer].sort(), fieldsOf(call.answer).map(({ name }) => name).sort(), `${title}: answer`);
  }
});

/** The application's backend decides on sessions, joins, publishes and new tokens. */
import { join } from "node:path";
import t from "tap";
import { hookSecret, startHookBackend } from "./support/hookbackend.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { openTcp } from "./support/rawtcp.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open, type OpenOptions, type TestSession } from "./support/session.ts";
import { keyPair, secret, signed, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";
import { encodeBinary } from "./support/wire.ts";

const backend = await startHookBackend(t);
const allow = { allow: true };
const hooks = {
  hookSecret,
  hookConnect: `${backend.url}/connect`,
  hookRefresh: `${backend.url}/refresh`,
  hookTimeoutMs: 30_000,
  namespaces: {
    chat: { durable: true, hookJoin: `${backend.url}/join`, hookPublish: `${backend.url}/publish` },
    open: { publish: "anyone" },
  },
} as const;
const node = await startNode(t, { ...hooks, reactors: 1, authSecret: secret, tcpPort: 0, presenceGraceMs: 0 });

t.beforeEach(() => {
  for (const path of ["/connect", "/join", "/publish", "/refresh"]) backend.answer(path, allow);
});

/** Issued a while ago, so that a sign-out makes it invalid, and two of them differ. */
let issued = Math.floor(Date.now() / 1000) - 1000;
const tokenOf = (sub: string, claims: object = {}) => token({ sub, iat: issued++, ...claims }, secret);
const come = async (sub: string, options: OpenOptions = {}, claims: object = {}) => open(node, { ...options, hello: { token: await tokenOf(sub, claims), ...options.hello } });
const lastAsked = (path: string) => backend.of(path).at(-1)?.question;
const codeOf = async (session: TestSession, command: Parameters<TestSession["request"]>[0]) => {
  const { error } = await session.request(command);
  return error == null ? "ok" : error.code;
};

t.test("a session begins when the backend allows it: the question is signed, and says who comes", async (t) => {
  const session = await come("ann", { hello: { device: "phone" } });
  t.equal(session.ready?.user, "ann");
  t.match(backend.of("/connect").at(-1), { verified: true, question: { hook: "connect", node: node.config.nodeId, user: "ann", device: "phone", client: "test" } });
  t.notOk("token" in lastAsked("/connect")!, "the node has read it");
  await session.bye();
});

t.test("a session that the backend denies is closed with the backend's code and reason", async (t) => {
  for (const [answer, ending] of [
    [{ allow: false, code: 4501, reason: "banned" }, { code: 4501, reason: "denied: banned" }],
    [{ allow: false }, { code: 4500, reason: "denied" }],
    [{ allow: false, code: 4100, reason: "ä".repeat(200) }, { code: 4100, reason: `denied: ${"ä".repeat(50)}` }],
  ] as const) {
    backend.answer("/connect", answer);
    const session = await open(node, { hello: null });
    await session.send({ hello: { version: 1, token: await tokenOf("bob") } }, 1);
    t.match(await session.closed(), ending);
  }
});

t.test("the backend names the user and rooms: the session has both, also after a resume, without another question", async (t) => {
  backend.answer("/connect", { allow: true, user: "ann@acme", rooms: ["chat:team", "open:all"] });
  const first = await come("ann", {}, { rooms: {} });
  t.match(first.ready, { user: "ann@acme", assigned: ["chat:team", "open:all"] });
  await first.waitFor(() => first.events.filter(({ joined }) => joined?.assigned === true).length === 2, "both rooms");
  t.equal((await node.user("ann@acme")).sessions.length, 1);
  const asked = backend.asked.length;
  backend.answer("/connect", { allow: false });
  await lose(first);
  const again = await open(node, { hello: { ...resumeOf(first), token: await tokenOf("ann", { rooms: {} }) } });
  t.match(again.ready, { user: "ann@acme", resumed: true, assigned: ["chat:team", "open:all"] }, "with a newer token");
  t.strictSame([...(again.ready?.rooms ?? [])].sort(), ["chat:team", "open:all"]);
  await lose(again);
  const alone = await open(node, { hello: resumeOf(again) });
  t.match(alone.ready, { user: "ann@acme", resumed: true }, "without a token");
  t.match((await alone.request({ refresh: { token: await tokenOf("ann", { rooms: {} }) } })).refreshed, { resumeToken: /./ }, "the new token names the user as the first did");
  t.equal(backend.asked.length, asked + 1, "only the refresh was asked about");
  t.equal(await codeOf(alone, { refresh: { token: await tokenOf("bob") } }), "unauthorized");
  await alone.bye();
});

t.test("a verdict that has aged does not hold for a resume; one of another user's token never does", async (t) => {
  backend.answer("/connect", { allow: true, maxAgeMs: 1, user: "short" });
  const first = await come("ann");
  await until(() => Date.now() > first.ready!.time! + 1, "it to age");
  backend.answer("/connect", { allow: true, user: "other" });
  await lose(first);
  const asked = backend.of("/connect").length;
  const second = await open(node, { hello: { ...resumeOf(first), token: await tokenOf("ann") } });
  t.match(second.ready, { user: "other", resumed: false });
  t.equal(backend.of("/connect").length, asked + 1);
  await lose(second);
  backend.answer("/connect", { allow: true });
  const bob = await open(node, { hello: { ...resumeOf(second), token: await tokenOf("bob") } });
  t.match(bob.ready, { user: "bob", resumed: false });
  t.match(lastAsked("/connect"), { user: "bob" });
  await bob.bye();
});

t.test("a known token does not bring the verdict of an earlier session along", async (t) => {
  const own = await tokenOf("ann");
  backend.answer("/connect", { allow: true, user: "one" });
  const first = await open(node, { hello: { token: own } });
  await lose(first);
  await lose(await open(node, { hello: { ...resumeOf(first), token: own } }));
  backend.answer("/connect", { allow: true, user: "two" });
  const second = await open(node, { hello: { token: own } });
  t.equal(second.ready?.user, "two");
  await second.bye();
});

t.test("remembered verdicts answer the same question of the same token; a sign-out clears them", async (t) => {
  const own = await tokenOf("kim");
  backend.answer("/connect", { allow: true, maxAgeMs: 60_000, user: "kim@acme" });
  backend.answer("/join", { allow: true, maxAgeMs: 60_000 });
  const counts = () => [backend.of("/connect").length, backend.of("/join").length];
  const before = counts();
  for (let i = 0; i < 3; i++) {
    const session = await open(node, { hello: { token: own } });
    t.equal(session.ready?.user, "kim@acme");
    await session.join("chat:a");
    await session.bye();
  }
  t.strictSame(counts(), before.map((count) => count + 1));
  const other = await come("kim");
  await other.join("chat:b");
  t.strictSame(counts(), before.map((count) => count + 2), "another token, another room");
  const kept = sumOf(await node.metrics(), "flux_hook_verdicts_kept");
  await node.disconnect("kim@acme", { signOut: true });
  await other.closed();
  t.equal(sumOf(await node.metrics(), "flux_hook_verdicts_kept"), kept - 4, "two about joins, and two that made somebody this user");
});

t.test("after a sign-out no resume token brings back what was decided before it", async (t) => {
  backend.answer("/connect", { allow: true, user: "lee@acme" });
  const before = await come("lee");
  await lose(before);
  await node.disconnect("lee@acme", { signOut: true });
  await until(() => Math.floor(Date.now() / 1000) * 1000 > before.ready!.time! + 1000, "a new token to be newer");
  const session = await open(node, { hello: null });
  await session.send({ hello: { version: 1, ...resumeOf(before), token: await token({ sub: "lee" }, secret) } }, 1);
  t.match(await session.closed(), { code: 3010 }, "it is to come as a new session, which the backend decides on");
});

for (const json of [false, true]) {
  t.test(`a command that waits holds its session's later ones, in order, and nobody else's (${json ? "JSON" : "binary"})`, async (t) => {
    const [ann, bob] = [await come("ann", { json }), await come("bob", { json })];
    await bob.join("open:all");
    await ann.join("open:all");
    const held = backend.hold("/join");
    const order: string[] = [];
    ann.onEvent((event) => void order.push(event.joined ? "joined" : event.published ? "published" : event.pong ? "pong" : event.error ? event.error.code! : "other"));
    const texts = ["1", "2", "3"].map((text) => Buffer.from(text));
    const batch = [
      ann.request({ join: { room: "chat:slow" } }),
      ...texts.map((payload) => ann.request({ publish: { room: "open:all", payload, format: 1 } })),
      ann.request({ ping: {} }),
      ann.request({ publish: { room: "chat:slow", payload: Buffer.from('"in"'), format: 1 } }),
      ann.request({ leave: { room: "chat:slow" } }),
    ];
    await held.waiting(1);
    t.ok((await bob.request({ ping: {} })).pong, "another session is answered");
    await node.publish("open:all", "news");
    await ann.waitFor(() => ann.publications.some(({ payload }) => payload.toString() === '"news"'), "deliveries go on");
    t.strictSame(order.filter((one) => one !== "other"), []);
    t.ok(sumOf(await node.metrics(), "flux_commands_held_bytes") > 0);
    held.release(allow);
    const answers = await Promise.all(batch);
    t.notOk(answers.some(({ error }) => error), JSON.stringify(answers.find(({ error }) => error)?.error));
    await bob.waitFor(() => bob.publications.length === 4, "what ann published");
    t.strictSame(bob.publications.slice(-3).map(({ payload }) => payload.toString()), ["1", "2", "3"]);
    t.match(lastAsked("/publish"), { hook: "publish", user: "ann", room: "chat:slow", data: "in", session: ann.ready!.session });
    t.equal(sumOf(await node.metrics(), "flux_commands_held_bytes"), 0);
    await ann.bye();
    await bob.bye();
  });
}

t.test("join and publish are denied with a code and a reason; data that the backend changed is what is published", async (t) => {
  const [ann, json] = [await come("ann"), await come("jo", { json: true })];
  await json.join("chat:x");
  backend.answer("/join", { allow: false, code: "rate_limited", reason: "not now" });
  t.match((await ann.request({ join: { room: "chat:x" } })).error, { code: "rate_limited", text: "not now", retryable: true });
  backend.answer("/join", { allow: false });
  t.match((await ann.request({ join: { room: "chat:x" } })).error, { code: "forbidden", retryable: false });
  backend.answer("/join", allow);
  await ann.join("chat:x");
  backend.answer("/publish", ({ data, b64 }: Record<string, unknown>) => (data === undefined ? { allow: true, b64: Buffer.from(`<${Buffer.from(String(b64), "base64").toString()}>`).toString("base64") } : { allow: true, data: { clean: data } }));
  await ann.publish("chat:x", '{"n":12345678901234567890}');
  await json.publish("chat:x", '"j"');
  await ann.publish("chat:x", Buffer.from("bytes"));
  await json.waitFor(() => json.publications.length === 3, "all three");
  t.strictSame(json.publications.map(({ payload, sender }) => `${sender} ${payload.toString()}`), ['ann {"clean":{"n":12345678901234567000}}', 'jo {"clean":"j"}', "ann <bytes>"]);
  backend.answer("/publish", { allow: false, code: "too_large", reason: "no novels" });
  t.match((await ann.request({ publish: { room: "chat:x", payload: Buffer.from('"a"'), format: 1 } })).error, { code: "too_large", text: "no novels" });
  t.equal(await codeOf(ann, { publish: { room: "chat:x", payload: Buffer.from("{"), format: 1 } }), "bad_request", "what is no JSON is refused unasked");
  t.equal((await node.history("chat:x")).publications.length, 3);
  await ann.bye();
  await json.bye();
});

t.test("a new token: the backend allows it, joins the session into rooms, or denies it", async (t) => {
  const ann = await come("ann", {}, { rooms: {} });
  backend.answer("/refresh", { allow: true, rooms: ["chat:new"] });
  t.ok((await ann.request({ refresh: { token: await tokenOf("ann", { rooms: {} }) } })).refreshed);
  await ann.waitFor(() => ann.events.some(({ joined }) => joined?.room === "chat:new"), "the room");
  t.match(lastAsked("/refresh"), { hook: "refresh", user: "ann", session: ann.ready!.session });
  backend.answer("/refresh", { allow: false, reason: "gone" });
  t.match((await ann.request({ refresh: { token: await tokenOf("ann", { rooms: {} }) } })).error, { code: "forbidden", text: "gone" });
  await ann.bye();
});

t.test("a room into which the application joins the user needs no verdict; the verdict does not replace the token's right", async (t) => {
  const ann = await come("ann", {}, { rooms: { "open:*": ["join"] } });
  const before = backend.of("/join").length;
  t.equal(await codeOf(ann, { join: { room: "chat:mine" } }), "forbidden");
  await node.join("ann", "chat:given");
  await ann.waitFor(() => ann.events.some(({ joined }) => joined?.room === "chat:given"), "the room");
  t.equal(await codeOf(ann, { join: { room: "chat:given" } }), "ok", "joined again, with a position of its own");
  t.equal(backend.of("/join").length, before);
  await node.leave("ann", "chat:given");
  await ann.bye();
});

t.test("rooms of one new token after the other stay within what a resume token carries", async (t) => {
  const ann = await come("ann", {}, { rooms: {} });
  let resumeToken = "";
  for (let n = 0; n < 12; n++) {
    backend.answer("/refresh", { allow: true, rooms: Array.from({ length: 90 }, (_, i) => `chat:${n}-${i}-${"x".repeat(30)}`) });
    resumeToken = (await ann.request({ refresh: { token: await tokenOf("ann", { rooms: {} }) } })).refreshed!.resumeToken!;
  }
  t.ok(resumeToken.length < 16_384, `${resumeToken.length}`);
  await ann.bye();
});

t.test("frames that wait behind a command are answered, also when a new token is verified meanwhile", async (t) => {
  // Verifying such a token takes turns of the loop: a command can begin to wait before it is done.
  const pair = keyPair("Ed25519");
  const slow = await startNode(t, { ...hooks, reactors: 1, authKeys: [join(t.testdir({ "key.pem": pair.pem }), "key.pem")] });
  const now = Math.floor(Date.now() / 1000);
  const signedAt = (iat: number) => signed({ sub: "ann", iat, exp: now + 3600 }, pair.private, { alg: "EdDSA" });
  const ann = await open(slow, { hello: { token: await signedAt(now - 20) } });
  const [publishes, refreshes] = [backend.hold("/publish"), backend.hold("/refresh")];
  t.equal(await codeOf(ann, { join: { room: "chat:x" } }), "ok");
  const next = await signedAt(now - 10);
  const answer = (id: number) => ann.events.find((event) => event.id === id);
  const frames = [{ id: 101, refresh: { token: next } }, { id: 102, publish: { room: "chat:x", payload: Buffer.from("1"), format: 1 } }, { id: 103, ping: { time: 7 } }];
  await ann.sendMessage(Buffer.concat(frames.map(encodeBinary)));
  await publishes.waiting(1);
  await refreshes.waiting(1);
  refreshes.release(allow);
  publishes.release(allow);
  await ann.waitFor(() => [101, 102, 103].every((id) => answer(id)), "all answers: the last used to be dropped");
  t.match([101, 102, 103].map(answer), [{ refreshed: {} }, { published: {} }, { pong: {} }]);
  await until(async () => sumOf(await slow.metrics(), "flux_commands_held_bytes") === 0, "nothing held");
  await ann.bye();
});

// ------------------------------------------------------------------------------- what may happen meanwhile

t.test("while a command waits: the socket is lost, the user is disconnected, the token expires", async (t) => {
  const held = backend.hold("/join");
  const lost = await come("lost");
  void lost.send({ join: { room: "chat:w" } }, 1);
  await held.waiting(1);
  await lost.send({ publish: { room: "open:all", payload: Buffer.from("1"), format: 1 } });
  await lose(lost);
  const ended = await come("ended");
  void ended.send({ join: { room: "chat:w" } }, 1);
  await held.waiting(2);
  await node.disconnect("ended");
  t.match(await ended.closed(), { code: 3504 });
  // The token has to outlive the way to the backend, however slow the machine is.
  for (let seconds = 1, isAsked = false; !isAsked; seconds *= 2) {
    const expiring = await come("expiring", {}, { exp: Math.floor(Date.now() / 1000) + seconds }).catch((error: unknown) => {
      if (!String(error).includes("token_expired")) throw error;
      return null;
    });
    if (expiring === null) continue;
    expiring.send({ join: { room: "chat:w" } }, 1).catch(() => {}); // the socket may be gone
    const closed = expiring.closed();
    isAsked = await Promise.race([held.waiting(3).then(() => true), closed.then(() => false)]);
    t.match(await closed, { code: 3005 });
  }
  held.release(allow);
  const back = await open(node, { hello: resumeOf(lost) });
  t.match(back.ready, { resumed: true, rooms: [] });
  t.equal(await codeOf(back, { join: { room: "chat:w" } }), "ok", "the late verdict of the lost socket is not this one's");
  await back.bye();
  await until(async () => sumOf(await node.metrics(), "flux_members") === 0, "nobody to be in a room");
  t.equal(sumOf(await node.metrics(), "flux_commands_held_bytes"), 0);
});

t.test("while a command waits, bye and half-closed TCP come after its answer; a hello that waits is given up with its socket", async (t) => {
  const held = backend.hold("/join");
  const tcp = await openTcp(node, { hello: { token: await tokenOf("tcp") } });
  const joined = tcp.request({ join: { room: "chat:t" } });
  const echoed = tcp.request({ echo: { payload: Buffer.from("x") } });
  await held.waiting(1);
  tcp.raw.half();
  const bye = await come("bye");
  await bye.send({ join: { room: "chat:t" } }, 1);
  const ended = bye.bye();
  await held.waiting(2);
  held.release(allow);
  t.ok((await joined).joined);
  t.ok((await echoed).echo);
  t.match(await ended, { code: 1000 });
  await tcp.raw.ended;
  const connect = backend.hold("/connect");
  const early = await open(node, { hello: null });
  await early.send({ hello: { version: 1, token: await tokenOf("early") } }, 1);
  await early.send({ bye: {} });
  await connect.waiting(1);
  await lose(early);
  connect.release(allow);
  await until(async () => sumOf(await node.metrics(), "flux_sockets") === 0, "nobody to be there");
  t.equal((await node.user("early")).sessions.length, 0);
});

t.test("too many commands behind one are refused with overloaded, in bounded memory; behind hello the socket is closed", async (t) => {
  const held = backend.hold("/join");
  const ann = await come("ann");
  const joined = ann.request({ join: { room: "chat:q" } });
  await held.waiting(1);
  const pings = Array.from({ length: 70 }, () => ann.request({ ping: {} }));
  const refused = await Promise.all(pings.slice(64));
  t.ok(refused.every(({ error }) => error?.code === "overloaded" && error.retryable));
  t.equal(sumOf(await node.metrics(), "flux_commands_held_refused_total"), 6);
  held.release(allow);
  t.ok((await joined).joined);
  t.ok((await Promise.all(pings.slice(0, 64))).every(({ pong }) => pong));
  await ann.bye();
  const connect = backend.hold("/connect");
  const early = await open(node, { hello: null });
  await early.send({ hello: { version: 1, token: await tokenOf("early") } }, 1);
  await connect.waiting(1);
  for (let i = 0; i < 65; i++) await early.send({ ping: {} });
  t.match(await early.closed(), { code: 3013 });
  connect.release(allow);
});

t.test("commands that each need a verdict follow one another", async (t) => {
  const ann = await come("ann");
  const { connections } = backend;
  const rooms = Array.from({ length: 20 }, (_, i) => `chat:n${i}`);
  const joins = rooms.map((room) => ann.request({ join: { room } }));
  t.ok((await Promise.all(joins)).every(({ joined }) => joined));
  t.strictSame(backend.of("/join").slice(-20).map(({ question }) => question.room), rooms);
  t.ok(backend.connections - connections <= 1, "over one connection, which stays open");
  await ann.bye();
});

t.test("a drain waits for the commands that wait, and for those behind them", async (t) => {
  const leaving = await startNode(t, { ...hooks, reactors: 1, authSecret: secret });
  const ann = await open(leaving, { hello: { token: await tokenOf("ann") } });
  const held = backend.hold("/publish");
  await ann.join("chat:d");
  const sent = ann.request({ publish: { room: "chat:d", payload: Buffer.from("1"), format: 1 } });
  const behind = ann.request({ ping: {} });
  await held.waiting(1);
  const drained = leaving.drain({ windowMs: 0 });
  await ann.waitFor(() => ann.events.some(({ reconnect }) => reconnect), "the drain");
  held.release(allow);
  t.ok((await sent).published, "what came before the drain is published");
  t.ok((await behind).pong);
  t.match(await ann.closed(), { code: 3001 });
  await drained;
});

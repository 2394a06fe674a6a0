/** Sessions with tokens: how a token comes, what it allows, how it ends and is renewed, and who does not meet whom. */
import t, { type Test } from "tap";
import type { Gateway } from "../dist/index.js";
import { warningAt } from "../src/reactor/session/expiry.ts";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { open, type Command, type OpenOptions, type TestSession } from "./support/session.ts";
import { keyPair, secret, signed, startKeyServer, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const seconds = () => Math.floor(Date.now() / 1000);
const node = (t: Test, options: NodeOptions = {}) => startNode(t, { reactors: 1, authSecret: secret, ...options });
const publish = (room: string): Command => ({ publish: { room, payload: Buffer.from("1"), format: 1 } });

/** A session whose token says that. */
async function as(node: Gateway, claims: Record<string, unknown>, options: OpenOptions = {}): Promise<TestSession> {
  const { hello, ...rest } = options;
  return open(node, { ...rest, hello: { token: await token(claims, secret), ...hello } });
}

/** What the node closes a client with that says this hello. */
async function closing(node: Gateway, hello: object, options: OpenOptions = {}): Promise<unknown> {
  const session = await open(node, { ...options, hello: null });
  await session.send({ hello: { version: 1, ...hello } }, 1);
  return session.closed();
}

t.test("a token may come in hello, in the Authorization header or in the query; hello's counts", async (t) => {
  const gateway = await node(t);
  const [ann, bob] = [await token({ sub: "ann" }, secret), await token({ sub: "bob" }, secret)];
  const header = (value: string) => ({ headers: { Authorization: value } });
  for (const json of [false, true]) {
    t.equal((await open(gateway, { json, hello: { token: ann } })).ready?.user, "ann");
    t.equal((await open(gateway, { json, ...header(`Bearer ${ann}`) })).ready?.user, "ann");
    t.equal((await open(gateway, { json, ...header(`bearer ${ann}`) })).ready?.user, "ann");
    t.equal((await open(gateway, { json, ...header(`Bearer  \t${ann} `) })).ready?.user, "ann", "with more spaces than one");
    t.equal((await open(gateway, { json, hello: { token: `${ann}\r\n` } })).ready?.user, "ann", "as it stands in a file, with the end of its line");
    t.equal((await open(gateway, { json, path: `/ws?token=${ann}%0A` })).ready?.user, "ann");
    t.equal((await open(gateway, { json, path: `/ws?token=${ann}` })).ready?.user, "ann");
    t.equal((await open(gateway, { json, path: `/ws?a=b&token=${ann}&c=d` })).ready?.user, "ann");
    t.equal((await open(gateway, { json, ...header(`Bearer ${bob}`), path: `/ws?token=${bob}`, hello: { token: ann } })).ready?.user, "ann");
  }
  t.match(await closing(gateway, {}), { code: 3500, reason: "invalid_token" }, "none");
  t.match(await closing(gateway, {}, header(`Basic ${ann}`)), { code: 3500 });
  t.match(await closing(gateway, {}, { path: "/ws?token=" }), { code: 3500 });
  t.match(await closing(gateway, { token: "\n" }), { code: 3500 }, "of an empty file");
  t.match(await closing(gateway, { token: `${ann} ${ann}` }), { code: 3500 }, "two");
  t.match(await closing(gateway, {}, header(`Bearer${ann}`)), { code: 3500 }, "with no space at all");
  t.match(await closing(gateway, {}, header("Bearer ")), { code: 3500 }, "of nothing");
  t.match(await closing(gateway, { token: "x" }, header(`Bearer ${ann}`)), { code: 3500 }, "a bad one in hello is not made up for");
});

t.test("where anonymous clients are allowed beside keys, no token is none, and a bad one is still refused", async (t) => {
  const gateway = await node(t, { allowAnonymous: true, host: "127.0.0.1" });
  t.match((await open(gateway)).ready?.user, /^anon-/);
  t.equal((await as(gateway, { sub: "ann" })).ready?.user, "ann");
  t.match(await closing(gateway, { token: await token({ sub: "ann" }, "a secret that nobody has given it") }), { code: 3500 });
});

t.test("each right is asked for by its command, in every room it names", async (t) => {
  const gateway = await node(t, { namespaces: { open: { durable: true, publish: "anyone" } } });
  const rooms = { "chat:read*": ["join"], "chat:talk": ["join", "publish"], "open:post": ["publish"], "chat:*-all": ["join", "publish", "history", "presence"] };
  for (const json of [false, true]) {
    const session = await as(gateway, { sub: "ann", rooms, send: false }, { json });
    const codeOf = async (command: Command) => (await session.request(command)).error?.code ?? "fine";
    t.equal(await codeOf({ join: { room: "chat:other" } }), "forbidden");
    t.equal(await codeOf({ join: { room: "open:post" } }), "forbidden");
    t.equal(await codeOf({ join: { room: "chat:read:it" } }), "fine");
    t.equal(await codeOf(publish("chat:read:it")), "forbidden");
    t.equal(await codeOf({ history: { room: "chat:read:it" } }), "forbidden");
    t.equal(await codeOf({ join: { room: "chat:talk" } }), "fine");
    t.equal(await codeOf(publish("chat:talk")), "fine");
    t.equal(await codeOf({ history: { room: "chat:talk" } }), "forbidden");
    t.equal(await codeOf({ join: { room: "chat:1-all" } }), "fine");
    t.equal(await codeOf({ history: { room: "chat:1-all" } }), "fine");
    t.equal(await codeOf(publish("open:post")), "fine", "without being in the room");
    t.equal(await codeOf(publish("open:other")), "forbidden");
    t.equal(await codeOf({ send: { user: "bob", payload: Buffer.from("1"), format: 1 } }), "forbidden");
    t.equal(await codeOf({ join: { room: "@inbox" } }), "fine", "the user's own");
    t.equal(await codeOf({ leave: { room: "chat:talk" } }), "fine");
    t.equal(await codeOf(publish("chat:talk")), "not_joined");
    await session.bye();
  }
});

t.test("limits of the token are the session's", async (t) => {
  const { node: gateway } = await startNodeOnHeldClock(t, { authSecret: secret, reactors: 1 });
  const session = await as(gateway, { sub: "ann", limits: { commandsPerSecond: 4, rooms: 1 } });
  t.match(session.ready, { commandsPerSecond: 4, maxRooms: 1 });
  await session.join("chat:a");
  t.match(await session.request({ join: { room: "chat:b" } }), { error: { code: "too_many_rooms" } });
  const replies = await Promise.all(Array.from({ length: 8 }, () => session.request({ ping: {} })));
  t.equal(replies.filter(({ pong }) => pong).length, 6, "two seconds of 4, of which the joins were two");
  t.ok(replies.slice(6).every(({ error }) => error?.code === "rate_limited"));
  t.match((await as(gateway, { sub: "bob" })).ready, { commandsPerSecond: 500, maxRooms: 100 });
});

t.test("tenants share no room, no user and no inbox, whatever they call them", async (t) => {
  const gateway = await node(t);
  const acme = await as(gateway, { sub: "ann", tenant: "acme" });
  const evil = await as(gateway, { sub: "ann", tenant: "evil" });
  const none = await as(gateway, { sub: "ann" });
  const all = [acme, evil, none];
  for (const session of all) {
    await session.join("chat:a");
    await session.join("@inbox");
  }
  for (const [i, session] of all.entries()) {
    t.equal((await session.request(publish("chat:a"))).published?.receivers, 1, "only itself");
    await session.request({ send: { user: "ann", payload: Buffer.from(String(i)), format: 1 } });
  }
  for (const [i, session] of all.entries()) {
    await session.waitFor(() => session.publications.length === 2, "its own two");
    await session.request({ ping: {} });
    t.equal(session.publications.length, 2);
    t.same(session.publications.find(({ room }) => room === "@inbox")?.payload.toString(), String(i));
    t.equal((await session.request({ history: { room: "chat:a" } })).history?.publications?.length, 1);
  }
  for (const room of ["acme\u001fchat:a", "\u001f@inbox\u001fann", "acme\u001f@inbox\u001fann"]) {
    for (const command of [{ join: { room } }, publish(room), { history: { room } }, { leave: { room } }]) {
      const { error } = await evil.request(command);
      t.ok(["bad_request", "unknown_namespace", "not_joined"].includes(error?.code ?? ""), `${JSON.stringify(command)}: ${error?.code}`);
    }
  }
  t.match(await evil.request({ send: { user: "x\u001f@inbox\u001fann", payload: Buffer.from("1"), format: 1 } }), { error: { code: "bad_request" } });
  t.equal((await gateway.disconnect("ann", { tenant: "acme" })).sessions, 1);
  t.match(await acme.closed(), { code: 3504 });
  t.ok((await evil.request({ ping: {} })).pong);
  t.ok((await none.request({ ping: {} })).pong);
});

t.test("nobody resumes the session of another user or tenant, however good both tokens are", async (t) => {
  const gateway = await node(t);
  const victim = await as(gateway, { sub: "ann", tenant: "acme" });
  const resume = { session: victim.ready!.session!, token: victim.ready!.resumeToken!, positions: [] };
  for (const claims of [{ sub: "bob", tenant: "acme" }, { sub: "ann", tenant: "evil" }, { sub: "ann" }]) {
    const session = await as(gateway, claims, { hello: { resume } });
    t.equal(session.ready?.resumed, false);
    t.not(session.ready?.session, victim.ready?.session);
  }
  t.ok((await victim.request({ ping: {} })).pong, "and the victim is where it was");

  await t.test("a resume token that was captured is its session's: each use takes the session over, until its user is signed out", async (t) => {
    const mine = await token({ sub: "ann" }, secret);
    const victim = await open(gateway, { hello: { token: mine } });
    const resume = { session: victim.ready!.session!, token: victim.ready!.resumeToken!, positions: [] };
    const thief = await open(gateway, { hello: { resume } });
    t.match(thief.ready, { resumed: true, user: "ann" });
    t.match(await victim.closed(), { code: 3010, reason: "session_replaced" }, "which the user is told");
    const again = await open(gateway, { hello: { resume } });
    t.match(again.ready, { resumed: true, session: thief.ready?.session }, "used twice");
    t.match(await thief.closed(), { code: 3010 });
    const back = await open(gateway, { hello: { token: mine, resume } });
    t.match(back.ready, { resumed: true }, "and its owner takes it back by the same");
    t.match(await again.closed(), { code: 3010 });
    await gateway.disconnect("ann", { signOut: true });
    t.match(await back.closed(), { code: 3504 });
    for (const { ready } of [victim, thief, again]) {
      t.match(await closing(gateway, { resume: { ...resume, token: ready!.resumeToken! } }), { code: 3504 }, "none of them opens anything any more");
    }
    t.match(await closing(gateway, { token: mine }), { code: 3504 }, "nor does the token");
  });
});

t.test("a warning comes tokenWarningMs before the end, or at 80 % of the token's lifetime where that is later", async (t) => {
  const hour = 3_600_000;
  const at = (issuedAt: number, expiresAt: number, now = issuedAt) => warningAt({ issuedAt, expiresAt }, 60_000, now);
  t.equal(at(hour, 2 * hour), 2 * hour - 60_000);
  t.equal(at(hour, hour + 300_000), hour + 240_000, "both are the same");
  t.equal(at(hour, hour + 120_000), hour + 96_000);
  t.equal(at(hour, hour + 10_000), hour + 8_000, "as soon as it is there it would be asked for again and again");
  t.equal(at(0, 2 * hour + 10_000, 2 * hour), 2 * hour + 8_000, "the lifetime of a token without iat begins now");
  t.equal(at(hour, 0), 0, "one without exp never ends");
});

t.test("a session is warned once before its token expires, not as soon as it is there, and closed with 3005 when it does", async (t) => {
  const { node: gateway, clock } = await startNodeOnHeldClock(t, { authSecret: secret, reactors: 1, tokenWarningMs: 3_600_000 });
  const isWarned = ({ events }: TestSession) => events.some(({ expiring }) => expiring != null);
  const iat = seconds();
  const exp = iat + 3600;
  const mine = await token({ sub: "ann", iat, exp }, secret);
  const session = await open(gateway, { hello: { token: mine } });
  t.equal(session.ready?.expires, exp * 1000);
  t.equal((await open(gateway, { hello: { token: mine } })).ready?.user, "ann", "until then it may be used again");
  const shorter = await open(gateway, { hello: { token: await token({ sub: "bob", iat, exp: iat + 3000 }, secret) } });
  clock.passDate(2_600_000);
  await shorter.waitFor(() => isWarned(shorter), "the warning of a token whose lifetime is over by four fifths");
  t.ok((await session.request({ ping: {} })).pong);
  t.notOk(isWarned(session), "one with a longer lifetime has not been warned in the same look");
  clock.passDate(400_000);
  await session.waitFor(() => isWarned(session), "the warning");
  t.equal((await session.request({ refresh: { token: mine } })).refreshed?.expires, exp * 1000, "the same again");
  clock.passDate(600_000);
  t.match(await session.closed(), { code: 3005, reason: "token_expired" });
  t.same(session.events.filter(({ expiring }) => expiring != null).map(({ expiring }) => expiring?.expires), [exp * 1000], "once");
  t.match(await closing(gateway, { token: mine }), { code: 3005 }, "and it opens nothing any more");
  t.match(await closing(gateway, { token: await token({ sub: "ann", exp }, secret) }), { code: 3005 }, "nor does one that is not remembered");
});

t.test("refresh in time keeps the session, with what the new token allows", async (t) => {
  const { node: gateway, clock } = await startNodeOnHeldClock(t, { authSecret: secret, reactors: 1 });
  const exp = seconds() + 3600;
  const first = await token({ sub: "ann", exp }, secret);
  const session = await open(gateway, { hello: { token: first } });
  for (const room of ["chat:a", "chat:b", "@inbox"]) await session.join(room);
  clock.passDate(3_590_000);
  await session.waitFor(() => session.events.some(({ expiring }) => expiring != null), "the warning");
  const rooms = { "chat:a": ["join"] };
  const { refreshed } = await session.request({ refresh: { token: await token({ sub: "ann", exp: exp + 36_000, rooms }, secret) } });
  t.equal(refreshed?.expires, (exp + 36_000) * 1000);
  t.ok(refreshed?.resumeToken);
  t.ok((await open(gateway, { hello: { token: first } })).ready, "the first token is good until its own end");
  await session.waitFor(() => session.events.some(({ left }) => left?.room === "chat:b"), "to be out of chat:b");
  t.notOk(session.events.some(({ left }) => left?.room === "chat:a" || left?.room === "@inbox"));
  t.match(await session.request(publish("chat:a")), { error: { code: "forbidden" } });
  t.match(await session.request({ join: { room: "chat:b" } }), { error: { code: "forbidden" } });
  clock.passDate(10_000);
  t.ok((await session.request({ ping: {} })).pong, "it lives on");
  t.match(await closing(gateway, { token: first }), { code: 3005 }, "and who has the first token does not");

  session.raw.destroy();
  const id = session.ready!.session!;
  const hello = { resume: { session: id, token: session.ready!.resumeToken!, positions: [] } };
  t.match(await closing(gateway, hello), { code: 3005 }, "the first resume token ended with the first token");
  const newer = await as(gateway, { sub: "ann", rooms }, { hello });
  t.match(newer.ready, { resumed: true, session: id }, "but tells the session where a good token comes along");
  newer.raw.destroy();
  const alone = await open(gateway, { hello: { resume: { session: id, token: refreshed!.resumeToken!, positions: [] } } });
  t.match(alone.ready, { resumed: true, session: id, user: "ann" });
  t.match(await alone.request({ join: { room: "chat:b" } }), { error: { code: "forbidden" } }, "with the rights of the token it was made for");
});

t.test("refresh refuses what is no better: expired, forged, another's, older than the one in use", async (t) => {
  const gateway = await node(t);
  const now = seconds();
  const session = await as(gateway, { sub: "ann", tenant: "acme", exp: now + 3600 });
  const refresh = async (claims: Record<string, unknown>, key = secret) => (await session.request({ refresh: { token: await token(claims, key) } })).error;
  const right = { sub: "ann", tenant: "acme" };
  t.match(await refresh({ ...right, exp: now - 1 }), { code: "unauthorized", text: "token: has expired" });
  t.match(await refresh(right, "a secret that nobody has given it"), { code: "unauthorized" });
  t.match(await refresh({ sub: "bob", tenant: "acme" }), { code: "unauthorized", text: "token: belongs to another user" });
  t.match(await refresh({ sub: "ann" }), { code: "unauthorized", text: "token: belongs to another user" });
  t.match(await refresh({ ...right, iat: now - 60 }), { code: "unauthorized", text: "token: older than the token in use" });
  for (const token of ["", "x", "x".repeat(9000)]) t.match(await session.request({ refresh: { token } }), { error: { code: "unauthorized" } });
  t.notOk(await refresh(right), "and is there for the right one");
});

t.test("refreshing again and again is refused for its rate long before other commands would be", async (t) => {
  const { node: gateway } = await startNodeOnHeldClock(t, { authSecret: secret, reactors: 1, commandsPerSecond: 50 });
  const session = await as(gateway, { sub: "ann" });
  const bad = await Promise.all(Array.from({ length: 30 }, (_, i) => token({ sub: `u${i}` }, secret)));
  const replies = await Promise.all(bad.map((token) => session.request({ refresh: { token } })));
  t.same(replies.map(({ error }) => error?.code), [...Array.from({ length: 5 }, () => "unauthorized"), ...Array.from({ length: 25 }, () => "rate_limited")], "20 commands each, of 100");
});

t.test("whoever is signed out does not come back with a token that does not say when it was issued", async (t) => {
  const gateway = await node(t);
  const { SignJWT } = await import("jose");
  const timeless = await new SignJWT({ sub: "ann" }).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(secret));
  const session = await open(gateway, { hello: { token: timeless } });
  t.equal((await gateway.disconnect("ann", { signOut: true })).sessions, 1);
  t.match(await session.closed(), { code: 3504 });
  t.match(await closing(gateway, { token: timeless }), { code: 3504 });
  const resume = { session: session.ready!.session!, token: session.ready!.resumeToken!, positions: [] };
  t.match(await closing(gateway, { resume }), { code: 3504 });
  t.match(await closing(gateway, { token: timeless, resume }), { code: 3504 });
  t.ok((await as(gateway, { sub: "ann", iat: seconds() + 2 })).ready, "but with a newer one");
});

t.test("ten sockets with one token, then as many that resume with it, cost one look at the signature a reactor", async (t) => {
  const gateway = await node(t);
  const verified = async () => sumOf(await gateway.metrics(), "flux_tokens_verified_total");
  const mine = await token({ sub: "ann" }, secret);
  const sessions = await Promise.all(Array.from({ length: 10 }, () => open(gateway, { hello: { token: mine } })));
  t.ok((await verified()) <= 2);
  const before = await verified();
  for (const { ready, raw } of sessions) {
    raw.destroy();
    const back = await open(gateway, { hello: { token: mine, resume: { session: ready!.session!, token: ready!.resumeToken!, positions: [] } } });
    t.equal(back.ready?.resumed, true);
  }
  t.equal(await verified(), before, "wherever they came");
});

t.test("keys from a URL let clients in; while they are away who needs them is told to come back, and the node lives", async (t) => {
  const pair = keyPair("Ed25519");
  const keys = await startKeyServer(null);
  t.teardown(() => keys.close());
  const gateway = await node(t, { reactors: 2, authJwksUrl: keys.url });
  const theirs = await signed({ sub: "ann" }, pair.private, { alg: "EdDSA", kid: "1" });
  t.match(await closing(gateway, { token: theirs }), { code: 3014, reason: "overloaded" });
  const bob = await as(gateway, { sub: "ann" });
  t.match(await bob.request({ refresh: { token: theirs } }), { error: { code: "unavailable", retryable: true } });
  t.equal(sumOf(await gateway.metrics(), "flux_auth_keys_unavailable"), 2, "on both reactors");
  keys.body = { keys: [{ ...pair.jwk, kid: "1" }] };
  let user: string | null | undefined;
  await until(async () => {
    user = await open(gateway, { hello: { token: theirs } }).then(({ ready }) => ready?.user, () => undefined);
    return user !== undefined;
  }, "the keys");
  t.equal(user, "ann");
});

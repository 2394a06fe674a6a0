/** The SDK's session beyond one socket: resumed, begun anew, over a reload of the page, in a duplicated tab. */
import { passHub } from "./support/hubclock.ts";
import t from "tap";
import type { Client, ClientOptions, Ready } from "../src/client/index.ts";
import { closes } from "../src/errors.ts";
import type { ServerFrame } from "../src/protocol/messages.ts";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { startProxy } from "./support/proxy.ts";
import { epoch, publication, startScripted } from "./support/scripted.ts";
import { isReady, listen, ManualClock, numbers, publicationsIn, startClient } from "./support/sdk.ts";
import { MemoryStorage } from "./support/storage.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

function readies(client: Client): Ready[] {
  const heard: Ready[] = [];
  client.on("ready", (ready) => heard.push(ready));
  return heard;
}

/** For all tests that need nothing special of it; each has rooms of its own. */
const node = await startNode(t);

t.test("a socket that is lost costs no session: the node brings it back into its rooms, and what was missed comes once", async (t) => {
  const proxy = await startProxy(t, node.port);
  const publisher = startClient(t, node.url).join("chat:1a");
  const client = startClient(t, proxy.url);
  const heard = readies(client);
  const [room, other] = [client.join("chat:1a"), client.join("live:1b")];
  const [inRoom, inOther] = [listen(room), listen(other)];
  await Promise.all([publisher.joined, room.joined, other.joined]);
  await publisher.publish(1);
  await until(() => publicationsIn(inRoom).length === 1, "the first");
  proxy.refuse(true);
  proxy.cut();
  await until(() => client.state === "waiting", "the loss to be noticed");
  for (const n of numbers(2, 60)) await publisher.publish(n);
  proxy.refuse(false);
  await until(() => publicationsIn(inRoom).length === 60, "what was missed");
  await publisher.publish(61);
  await until(() => publicationsIn(inRoom).length === 61, "what is live");
  t.same(publicationsIn(inRoom), numbers(1, 61));
  t.same(heard.map(({ resumed }) => resumed), [false, true]);
  t.equal(heard[1]?.session, heard[0]?.session);
  t.same(inRoom.filter(({ kind }) => kind !== "publication"), [
    { kind: "joined", what: { recovered: false, rejoined: false } },
    { kind: "joined", what: { recovered: true, rejoined: true } },
    { kind: "recovered", what: [1, 60, 59] },
  ]);
  await until(() => inOther.length === 2, "the other room again");
  t.equal((await other.publish("still here")).receivers, 1);
});

t.test("a room that was left, or joined, while the socket was away is so afterwards", async (t) => {
  const proxy = await startProxy(t, node.port);
  const writer = startClient(t, node.url).join("chat:2a");
  const client = startClient(t, proxy.url);
  const [left, again] = [client.join("chat:2a"), client.join("chat:2b")];
  await Promise.all([writer.joined, left.joined, again.joined]);
  proxy.refuse(true);
  proxy.cut();
  await until(() => client.state === "waiting", "the loss to be noticed");
  await Promise.all([left.leave(), again.leave()]);
  const [newer, added] = [client.join("chat:2b"), client.join("chat:2c")];
  const heard = listen(left);
  proxy.refuse(false);
  await Promise.all([newer.joined, added.joined]);
  t.equal(client.session?.resumed, true);
  t.equal((await writer.publish(1)).receivers, 1, "only the writer is in it");
  t.equal((await newer.publish(1)).receivers, 1);
  t.same(publicationsIn(heard), []);
});

t.test("a session that is over is begun anew, and the rooms are recovered all the same", async (t) => {
  const node = await startNode(t, { reactors: 1, sessionTtlMs: 60_000 });
  const proxy = await startProxy(t, node.port);
  const writer = startClient(t, node.url).join("chat:a");
  const client = startClient(t, proxy.url);
  const heard = readies(client);
  const room = client.join("chat:a");
  const inRoom = listen(room);
  await Promise.all([writer.joined, room.joined]);
  proxy.refuse(true);
  proxy.cut();
  for (const n of numbers(1, 20)) await writer.publish(n);
  await until(async () => sumOf(await node.metrics(), "flux_sockets") === 1, "the node to notice the loss");
  passHub(t, 61_000);
  proxy.refuse(false);
  await until(() => publicationsIn(inRoom).length === 20, "what was missed");
  t.same(publicationsIn(inRoom), numbers(1, 20));
  t.same(heard.map(({ resumed }) => resumed), [false, false]);
  t.not(heard[1]?.session, heard[0]?.session);
});

t.test("after a reload the page has its session, what was before, what it missed, and nothing twice", async (t) => {
  const writer = startClient(t, node.url).join("chat:4a");
  const storage = new MemoryStorage();
  const before = startClient(t, node.url, { storage });
  const first = before.join("chat:4a", { history: 5 });
  const inFirst = listen(first);
  await Promise.all([writer.joined, first.joined]);
  for (const n of numbers(1, 20)) await writer.publish(n);
  await until(() => publicationsIn(inFirst).length === 20, "the publications");
  const { session, user } = before.session ?? {};
  await before.suspend();
  for (const n of numbers(21, 200)) await writer.publish(n);

  const after = startClient(t, node.url, { storage });
  const heard = readies(after);
  const second = after.join("chat:4a", { history: 5 });
  const inSecond = listen(second);
  await second.joined;
  await writer.publish(201);
  await until(() => publicationsIn(inSecond).includes(201), "the last");
  t.match(heard, [{ resumed: true, session, user }]);
  t.same(publicationsIn(inSecond), numbers(16, 201), "five from before, then all that was missed");
  t.same(inSecond[0], { kind: "joined", what: { recovered: true, rejoined: true } });
  t.notOk(inSecond.some(({ kind }) => kind === "gap"));
});

t.test("after a reload in which nothing was missed the page has what was before", async (t) => {
  const storage = new MemoryStorage();
  const before = startClient(t, node.url, { storage });
  const first = before.join("chat:nothing", { history: 5 });
  for (const n of numbers(1, 8)) await first.publish(n);
  await until(() => first.position?.seq === 8, "the last");
  await before.suspend();
  const second = startClient(t, node.url, { storage }).join("chat:nothing", { history: 5 });
  const heard = listen(second);
  await second.publish(9);
  await until(() => publicationsIn(heard).includes(9), "the next one");
  t.same(publicationsIn(heard), numbers(4, 9));
});

t.test("a page that takes its time to join goes on from where the one before it was", async (t) => {
  const writer = startClient(t, node.url).join("chat:5a");
  const storage = new MemoryStorage();
  const before = startClient(t, node.url, { storage });
  await Promise.all([writer.joined, before.join("chat:5a").joined]);
  await before.suspend();
  for (const n of numbers(1, 10)) await writer.publish(n);
  const after = startClient(t, node.url, { storage });
  await isReady(after);
  await after.ping();
  const heard = listen(after.join("chat:5a"));
  await until(() => publicationsIn(heard).length === 10, "what was missed");
  t.same(publicationsIn(heard), numbers(1, 10));
});

t.test("a duplicated tab begins a session of its own, and takes nothing from the other", async (t) => {
  const writer = startClient(t, node.url).join("chat:6a");
  const storage = new MemoryStorage();
  const original = startClient(t, node.url, { storage });
  const room = original.join("chat:6a");
  const inOriginal = listen(room);
  await room.joined;
  await writer.publish(1);
  await until(() => publicationsIn(inOriginal).length === 1, "the first");
  await until(() => (storage.getItem(storage.keys[0] ?? "") ?? "").includes('"chat:6a"'), "the place to be saved");
  const duplicate = startClient(t, node.url, { storage: new MemoryStorage(storage) });
  const changes: string[] = [];
  original.on("state", ({ state }) => changes.push(state));
  const inDuplicate = listen(duplicate.join("chat:6a"));
  await until(() => inDuplicate.length > 0, "the duplicate to be in the room");
  t.not(duplicate.session?.session, original.session?.session);
  await writer.publish(2);
  await until(() => publicationsIn(inOriginal).length === 2 && publicationsIn(inDuplicate).includes(2), "the second in both");
  t.same(changes, []);
});

t.test("two clients of one page do not share what is kept", async (t) => {
  const storage = new MemoryStorage();
  const [a, b] = [startClient(t, node.url, { storage }), startClient(t, node.url, { storage })];
  await Promise.all([isReady(a), isReady(b)]);
  const { session } = a.session ?? {};
  await b.suspend();
  await a.suspend();
  const c = startClient(t, node.url, { storage });
  await isReady(c);
  t.equal(c.session?.session, session);
});

t.test("close() ends the session here and at the node, and nothing is kept", async (t) => {
  const storage = new MemoryStorage();
  const client = startClient(t, node.url, { storage });
  await isReady(client);
  const { session } = client.session ?? {};
  await client.close();
  t.same(storage.keys, []);
  const next = startClient(t, node.url, { storage });
  await isReady(next);
  t.not(next.session?.session, session);
});

t.test("suspend and wake: the same client goes on", async (t) => {
  const writer = startClient(t, node.url).join("chat:9a");
  const client = startClient(t, node.url);
  const room = client.join("chat:9a");
  const heard = listen(room);
  await Promise.all([writer.joined, room.joined]);
  const { session } = client.session ?? {};
  const waiting: unknown[] = [];
  client.on("state", ({ state, retryInMs, cause }) => state === "waiting" && waiting.push([retryInMs, cause?.name]));
  await client.suspend();
  t.same(waiting, [[null, "suspended"]]);
  await writer.publish(1);
  const published = room.publish(2);
  client.wake();
  await published;
  await until(() => publicationsIn(heard).length === 2, "both");
  t.same(publicationsIn(heard), [1, 2]);
  t.equal(client.session?.session, session);
});

t.test("what the storage holds may be anything, and it may be full", async (t) => {
  const node = await startScripted(t);
  for (const text of ["", "{", "null", "17", '{"version":2}', '{"version":1,"user":3,"places":[]}']) {
    const storage = new MemoryStorage();
    storage.setItem(`flux ${node.url}`, text);
    await isReady(startClient(t, node.url, { storage }));
  }
  t.same(node.commands("hello").map(({ hello }) => hello?.resume ?? null), Array(6).fill(null));

  const full = new MemoryStorage();
  full.setItem = () => {
    throw new Error("quota exceeded");
  };
  const client = startClient(t, node.url, { storage: full });
  const errors: string[] = [];
  client.on("error", ({ code }) => errors.push(code));
  await client.join("chat:a").joined;
  await client.suspend();
  t.same(errors, ["not_saved"]);
});

const ready = (more: Partial<NonNullable<ServerFrame["ready"]>>): ServerFrame => ({
  ready: { session: "s1", user: "u", node: "n", version: 1, heartbeatMs: 25_000, maxFrameBytes: 65_536, resumeToken: "r1", ...more },
});

t.test("hello says which session and where it was; another socket's session is not asked for again", async (t) => {
  const node = await startScripted(t, ({ hello, join }, session) => {
    if (hello) return [ready({ resumed: hello.resume != null, rooms: hello.resume ? ["chat:a"] : [] })];
    return join ? [{ joined: { room: "chat:a", position: { epoch, seq: 1 } } }, { id: 0, publication: publication(session.number + 1) }] : undefined;
  });
  const client = startClient(t, node.url);
  const room = client.join("chat:a");
  const heard = listen(room);
  await until(() => publicationsIn(heard).length === 1, "a publication");
  node.sessions[0]?.cut();
  await until(() => node.sessions.length === 2 && client.state === "ready", "a resumed session");
  const [, second] = node.commands("hello");
  t.match(second?.hello?.resume, { session: "s1", token: "r1", positions: [{ room: "chat:a", position: { epoch, seq: 2 } }] });
  t.equal(node.commands("join").length, 1, "the node brings it back in");
  const published = room.publish("waits for the room");
  node.sessions[1]?.send({ id: 0, joined: { room: "chat:a", position: { epoch, seq: 2 }, recovered: true } });
  await published;

  node.sessions[1]?.close(closes.session_replaced.code, "session_replaced");
  await until(() => node.commands("hello").length === 3, "a new session");
  t.equal(node.commands("hello")[2]?.hello?.resume ?? null, null);
  await until(() => node.commands("join").length === 2, "the room");
  t.match(node.commands("join")[1]?.join?.recover, { seq: 2 });
});

t.test("a room that the node could not bring back is asked for, and the answer says why", async (t) => {
  const node = await startScripted(t, ({ hello, join }, session) => {
    if (hello) return [ready({ resumed: hello.resume != null, rooms: ["chat:a"] }), ...(hello.resume ? [{ id: 0, left: { room: "chat:a" } }] : [])];
    return join && session.number === 2 ? [{ error: { code: "forbidden", text: "not any more" } }] : undefined;
  });
  const client = startClient(t, node.url);
  const room = client.join("chat:a");
  const heard = listen(room);
  await room.joined;
  node.sessions[0]?.cut();
  await until(() => heard.length === 3, "the refusal");
  t.same(heard.slice(1), [{ kind: "error", what: "forbidden" }, { kind: "left", what: "forbidden" }]);
});

t.test("rooms of the session that the application does not want any more are left", async (t) => {
  const node = await startScripted(t, ({ hello }) => (hello ? [ready({ resumed: true, rooms: ["chat:a", "chat:b"] })] : undefined));
  const client = startClient(t, node.url);
  await client.join("chat:c").joined;
  await client.ping();
  t.same(node.commands("leave").map(({ leave }) => leave?.room), ["chat:a", "chat:b"]);
});

// ------------------------------------------------------------ tokens

function startWithTokens(t: Parameters<typeof startClient>[0], url: string, give: (reason: string, asked: number) => string | Promise<string>, options: ClientOptions = {}) {
  const reasons: string[] = [];
  const errors: string[] = [];
  const client = startClient(t, url, { token: (reason) => give(reason, reasons.push(reason)), ...options });
  client.on("error", ({ code }) => errors.push(code));
  return { client, reasons, errors };
}

const tokensSaid = (node: Awaited<ReturnType<typeof startScripted>>) => node.commands("hello").map(({ hello }) => hello?.token);

t.test("a token provider is asked once, and again when the token has expired", async (t) => {
  const node = await startScripted(t);
  const { client, reasons } = startWithTokens(t, node.url, (_reason, asked) => `t${asked}`);
  await isReady(client);
  node.sessions[0]?.cut();
  await until(() => node.sessions.length === 2 && client.state === "ready", "another session");
  node.sessions[1]?.close(closes.token_expired.code, "token_expired");
  await until(() => node.sessions.length === 3 && client.state === "ready", "a third session");
  t.same(tokensSaid(node), ["t1", "t1", "t2"]);
  t.same(reasons, ["connect", "expired"]);
});

t.test("a provider that fails is an error, and is asked again", async (t) => {
  const node = await startScripted(t);
  const { client, reasons, errors } = startWithTokens(t, node.url, (_reason, asked) => {
    if (asked === 1) throw new Error("offline");
    return asked === 2 ? Promise.reject(new Error("still")) : "t3";
  });
  await isReady(client);
  t.same(errors, ["no_token", "no_token"]);
  t.same(reasons, ["connect", "connect", "connect"]);
  t.same(tokensSaid(node), ["t3"]);
});

t.test("a token the node refuses is asked for again; the same one again is the end", async (t) => {
  const node = await startScripted(t, ({ hello }, session) => {
    if (!hello || hello.token === "good") return undefined;
    session.close(closes.invalid_token.code, "invalid_token");
    return [];
  });
  const { client, reasons } = startWithTokens(t, node.url, (_reason, asked) => (asked === 3 ? "good" : `bad ${asked}`));
  await isReady(client);
  t.same(reasons, ["connect", "refused", "refused"]);
  const { client: stubborn } = startWithTokens(t, node.url, () => "bad");
  const closed = new Promise((resolve) => stubborn.on("closed", resolve));
  t.match(await closed, { code: closes.invalid_token.code });
  const fixed = startClient(t, node.url, { token: "bad" });
  t.match(await new Promise((resolve) => fixed.on("closed", resolve)), { code: closes.invalid_token.code });
});

t.test("a token of one's own that has expired is the end, not a loop", async (t) => {
  const node = await startScripted(t, ({ hello }, session) => {
    if (hello) session.close(closes.token_expired.code, "token_expired");
    return hello ? [] : undefined;
  });
  const client = startClient(t, node.url, { token: "old" });
  t.match(await new Promise((resolve) => client.on("closed", resolve)), { code: closes.token_expired.code });
});

t.test("before the token expires a new one is given to the node, until it takes it", async (t) => {
  let refused = false;
  const node = await startScripted(t, ({ refresh }) => {
    if (!refresh) return undefined;
    if (refused) return [{ refreshed: { expires: 2_000_000_000_000 } }];
    refused = true;
    return [{ error: { code: "unauthorized", text: "not yet", retryable: false } }];
  });
  const { client, reasons, errors } = startWithTokens(t, node.url, (_reason, asked) => `t${asked}`);
  const expiring: Date[] = [];
  client.on("expiring", (when) => expiring.push(when));
  const refreshed = new Promise((resolve) => client.on("refreshed", resolve));
  await isReady(client);
  node.sessions[0]?.send({ id: 0, expiring: { expires: 1_900_000_000_000 } });
  t.same(await refreshed, new Date(2_000_000_000_000));
  t.same(expiring, [new Date(1_900_000_000_000)]);
  t.same(reasons, ["connect", "expiring", "refused"]);
  t.same(errors, ["unauthorized"]);
  t.same(node.commands("refresh").map(({ refresh }) => refresh?.token), ["t2", "t3"]);
  node.sessions[0]?.cut();
  await until(() => node.sessions.length === 2 && client.state === "ready", "another session");
  t.same(tokensSaid(node), ["t1", "t3"], "the new one is what later sockets say");
});

t.test("a token is given to the node once: a provider that gives the same one again is asked later, at a bounded rate", async (t) => {
  let expires = 1_900_000_000_000;
  const node = await startScripted(t, ({ refresh }) => (refresh ? [{ refreshed: { expires } }] : undefined));
  const clock = new ManualClock();
  let given = "the same";
  const { client, reasons } = startWithTokens(t, node.url, () => given, { clock });
  const expiring: Date[] = [];
  const refreshed: (Date | null)[] = [];
  client.on("expiring", (when) => expiring.push(when));
  client.on("refreshed", (when) => refreshed.push(when));
  await isReady(client);
  const warn = async () => {
    node.sessions.at(-1)?.send({ id: 0, expiring: { expires } });
    await client.echo("behind it");
  };
  const turn = () => new Promise(setImmediate);
  await warn();
  await warn();
  node.sessions[0]?.cut();
  await until(() => client.state === "waiting", "the loss to be noticed");
  clock.advance(200);
  await until(() => node.sessions.length === 2 && client.state === "ready", "another socket");
  await warn();
  t.same(reasons, ["connect", "expiring"], "on whatever socket the node warns");
  t.same(node.commands("refresh"), []);
  for (let i = 0; i < 60; i++) (clock.advance(1000), await turn());
  t.ok(reasons.length >= 3 && reasons.length <= 8, `asked ${reasons.length} times`);
  t.same(node.commands("refresh"), []);
  given = "another";
  for (let i = 0; i < 30 && refreshed.length === 0; i++) (clock.advance(1000), await client.echo("turn"));
  expires += 1000;
  await warn();
  t.same(node.commands("refresh").map(({ refresh }) => refresh?.token), ["another"]);
  t.same(expiring.map((when) => when.getTime()), [expires - 1000, expires]);
});

t.test("an application without provider refreshes by hand", async (t) => {
  const node = await startScripted(t, ({ refresh }) => (refresh ? [{ refreshed: {} }] : undefined));
  const client = startClient(t, node.url, { token: "t1" });
  await isReady(client);
  t.equal(await client.refresh("t2"), null);
  t.equal(node.commands("refresh")[0]?.refresh?.token, "t2");
});

t.test("a session that has been refreshed can be resumed when its first token has expired", async (t) => {
  const secret = "a secret of at least thirty-two bytes, for tests";
  const { node, clock } = await startNodeOnHeldClock(t, { reactors: 1, authSecret: secret });
  const proxy = await startProxy(t, node.port);
  const expires = Math.floor(Date.now() / 1000) + 3600;
  const provide: ClientOptions["token"] = (reason) => token({ sub: "ada", exp: reason === "connect" ? expires : expires + 36_000 }, secret);
  const client = startClient(t, proxy.url, { token: provide });
  const heard = readies(client);
  const refreshed = new Promise<Date | null>((resolve) => client.on("refreshed", resolve));
  await isReady(client);
  clock.passDate(3_590_000);
  t.equal((await refreshed)?.getTime(), (expires + 36_000) * 1000);
  clock.passDate(20_000);
  proxy.cut();
  await until(() => heard.length === 2, "another socket");
  t.match(heard, [{ resumed: false, user: "ada" }, { resumed: true }]);
  t.equal(heard[1]?.session, heard[0]?.session);
});

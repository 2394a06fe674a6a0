/** The SDK with what applications and devices do to it: texts and durations that no node takes, providers that hang, phones that sleep. */
import { runInNewContext } from "node:vm";
import t from "tap";
import { WebSocket } from "ws";
import { connect, type ClientOptions, type StateChange, type WebSocketConstructor } from "../src/client/index.ts";
import { systemClock } from "../src/client/clock.ts";
import { closes } from "../src/errors.ts";
import type { ClientFrame } from "../src/protocol/messages.ts";
import { epoch, startScripted } from "./support/scripted.ts";
import { isReady, ManualClock, numbers, startClient } from "./support/sdk.ts";
import { until } from "./support/until.ts";

const half = "\ud83d";
const bad = { code: "bad_request" };

t.test("half a character, or a number that is none, rejects the call; the socket stays", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url, { token: () => "t" });
  await t.rejects(client.watch([half]), bad, "also without a session");
  const room = client.join("chat:a");
  await room.joined;
  for (const name of [`chat:${half}`, `chat:${half}x`, `chat:\udc00`]) await t.rejects(client.join(name).joined, bad);
  await t.rejects(client.join("chat:b", { recover: { epoch: half, seq: 1 } }).joined, bad);
  for (const seq of [-1, 1.5, NaN, Infinity]) await t.rejects(client.join("chat:c", { recover: { epoch, seq } }).joined, bad);
  for (const limit of [-1, NaN, Infinity]) await t.rejects(room.history({ limit }), bad);
  await t.rejects(room.presence({ after: half }), bad);
  await t.rejects(room.publish(1, { key: half }), bad);
  await t.rejects(client.publish(`chat:${half}`, 1), bad);
  await t.rejects(client.send(half, 1), bad);
  await t.rejects(client.send("u", 1, { key: half }), bad);
  await t.rejects(client.watch(["ada", half]), bad);
  await t.rejects(client.refresh(half), bad);
  client.unwatch([half]);
  await room.publish({ text: half, whole: "😀" });
  await client.join("chat:😀").joined;
  t.equal(client.state, "ready");
  t.equal(node.sessions.length, 1);
  t.notMatch(JSON.stringify(["join", "watch", "send", "history", "refresh"].map((kind) => node.commands(kind as "join"))), /\ufffd/);
  for (const options of [{ device: half }, { name: half }, { token: half }, { device: "a\nb" }, { device: "ü".repeat(65) }]) {
    t.throws(() => connect(node.url, { WebSocket, ...options }), bad, JSON.stringify(options));
  }
});

t.test("a room that was asked for with a bad position does not keep the session from being resumed", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url);
  await client.join("chat:a").joined;
  node.sessions[0]?.cut();
  const refused = client.join("chat:b", { recover: { epoch: half, seq: 1 } });
  await t.rejects(refused.joined, bad);
  await until(() => node.sessions.length === 2 && client.state === "ready", "another socket");
  t.match(node.commands("hello")[1]?.hello?.resume, { session: "s", positions: [{ room: "chat:a" }] });
});

// ------------------------------------------------------------ tokens

/** A provider whose answers the test gives. */
function provider() {
  const asked: { reason: string; answer: (token: unknown) => void }[] = [];
  const token = ((reason: string) => new Promise((answer) => asked.push({ reason, answer }))) as unknown as NonNullable<ClientOptions["token"]>;
  return { asked, token };
}

t.test("a token provider that never answers is asked again; a late answer counts, but never replaces a newer token", async (t) => {
  const node = await startScripted(t, ({ refresh }) => (refresh ? [{ refreshed: {} }] : undefined));
  const clock = new ManualClock();
  const { asked, token } = provider();
  const client = startClient(t, node.url, { token, clock, connectTimeoutMs: 1000 });
  const errors: string[] = [];
  client.on("error", ({ code }) => errors.push(code));
  const timeOut = async (count: number) => {
    clock.advance(1000);
    await until(() => client.state === "waiting", "the wait");
    clock.advance(200);
    await until(() => asked.length === count, "the next question");
  };
  await timeOut(2);
  await timeOut(3);
  t.same(errors, ["no_token", "no_token"]);
  asked[1]?.answer("second");
  clock.advance(1000);
  await until(() => client.state === "waiting", "the third to be given up");
  clock.advance(200);
  await isReady(client);
  asked[0]?.answer("first");
  await client.ping();
  node.sessions[0]?.cut();
  await until(() => client.state === "waiting", "the loss to be noticed");
  clock.advance(200);
  await until(() => node.sessions.length === 2 && client.state === "ready", "another socket");
  t.same(node.commands("hello").map(({ hello }) => hello?.token), ["second", "second"]);
  asked[2]?.answer("third");
  await client.refresh("by hand");
  await client.ping();
  t.equal(asked.length, 3);
});

t.test("a provider that does not answer before the token expires is asked again, too; what is no token is none", async (t) => {
  const node = await startScripted(t, ({ refresh }) => (refresh ? [{ refreshed: { expires: 0 } }] : undefined));
  const clock = new ManualClock();
  const { asked, token } = provider();
  const client = startClient(t, node.url, { token, clock, connectTimeoutMs: 1000 });
  const errors: string[] = [];
  client.on("error", ({ code }) => errors.push(code));
  asked[0]?.answer("t1");
  await isReady(client);
  node.sessions[0]?.send({ id: 0, expiring: { expires: Date.now() + 60_000 } });
  for (const [i, answer] of [undefined, 17, null, half].entries()) {
    await until(() => asked.length === i + 2, "the question");
    if (answer === undefined) clock.advance(1000);
    else asked.at(-1)?.answer(answer);
    await until(() => errors.length === i + 1, "the error");
    clock.advance(1000);
  }
  await until(() => asked.length === 6, "the last question");
  asked.at(-1)?.answer("t2");
  await until(() => node.commands("refresh").length > 0, "the refresh");
  t.same(errors, ["no_token", "no_token", "no_token", "no_token"]);
  t.same(node.commands("refresh").map(({ refresh }) => refresh?.token), ["t2"]);
  t.equal(client.state, "ready");
});

t.test("tokens that live shortly are refreshed in the middle of their time, not in a loop", async (t) => {
  const clock = new ManualClock();
  for (const [lifeMs, most] of [[3000, 13], [40_000, 4]] as const) {
    // Each token is warned of as soon as it is accepted.
    const node = await startScripted(t, ({ hello, refresh }, session) => {
      if (hello || refresh) setImmediate(() => session.send({ id: 0, expiring: { expires: Date.now() + lifeMs + (refresh ? Number(refresh.token) : 0) } }));
      return refresh ? [{ refreshed: { expires: 1 } }] : undefined;
    });
    let asked = 0;
    const client = startClient(t, node.url, { clock, token: () => String(++asked) });
    await isReady(client);
    for (let i = 0; i < 60; i++) (clock.advance(1000), await client.echo("a turn"));
    const refreshes = node.commands("refresh").length;
    t.ok(refreshes >= 2 && refreshes <= most, `${refreshes} refreshes in a minute`);
    t.equal(asked, refreshes + 1);
    await client.close();
  }
});

t.test("a token that has expired is not sent again: the provider is asked until it gives another", async (t) => {
  const node = await startScripted(t);
  let asked = 0;
  const client = startClient(t, node.url, { token: () => (++asked < 5 ? "old" : "new") });
  await isReady(client);
  node.sessions[0]?.close(closes.token_expired.code, "token_expired");
  await until(() => node.sessions.length === 2 && client.state === "ready", "another session");
  t.same(node.commands("hello").map(({ hello }) => hello?.token), ["old", "new"]);
});

// ------------------------------------------------------------ the node's rate

/** As a node counts, docs/protocol.md says how: a burst of two seconds. */
function counting(clock: ManualClock, rate: number) {
  let paidUntil = 0;
  const counted = { refused: 0, cost: 0 };
  const takes = ({ ping, join, history, watch, presence }: ClientFrame): boolean => {
    if (ping) return true; // the test's own
    const read = join?.history ?? history?.limit ?? watch?.users?.length ?? (presence ? 256 : 0);
    const cost = join?.recover ? 9 : 1 + read / 16;
    const now = clock.now();
    const from = Math.max(paidUntil, now);
    counted.cost += cost;
    if (from - now > 2000 - (cost * 1000) / rate) return ++counted.refused === 0;
    paidUntil = from + (cost * 1000) / rate;
    return true;
  };
  return { takes, counted };
}

t.test("a client that comes back into a hundred rooms stays within the node's rate, and publishes meanwhile", async (t) => {
  const clock = new ManualClock();
  let { takes, counted } = counting(clock, 100);
  const limits = { commandsPerSecond: 100, publicationsPerCommand: 16, recoveryCost: 8, bytesPerSecond: 10_000, maxFrameBytes: 1000 };
  const node = await startScripted(t, (command) => {
    if (command.hello) {
      ({ takes, counted } = counting(clock, 100)); // of this session
      return [{ ready: { session: "s", user: "u", node: "n", version: 1, time: 1, heartbeatMs: 100_000, ...limits } }];
    }
    if (!takes(command)) return [{ error: { code: "rate_limited", text: "", retryable: true } }];
    if (command.watch) return [{ watched: {} }];
    return command.presence ? [{ presence: { room: "chat:1" } }] : undefined;
  });
  const client = startClient(t, node.url, { clock, random: () => 0 });
  const rooms = numbers(1, 100).map((n) => client.join(`chat:${n}`));
  const members = rooms[0]!.members();
  const users = numbers(1, 150).map((n) => `user-${n}`);
  const watched = client.watch(users);
  const pass = async (until: () => boolean) => {
    for (let i = 0; i < 100 && !until(); i++) (clock.advance(500), await client.ping());
  };
  await isReady(client);
  await pass(() => node.commands("join").length === 100 && node.commands("watch").length > 0 && node.commands("presence").length > 0);
  t.equal(counted.refused, 0, "the first time");
  node.sessions[0]?.cut();
  await until(() => client.state === "waiting", "the loss to be noticed");
  const before = clock.now();
  let joinsBefore = Infinity;
  const published = rooms[0]!.publish("in between").then(() => (joinsBefore = node.commands("join").length));
  clock.advance(0);
  await isReady(client);
  await pass(() => node.commands("join").length === 200);
  await Promise.all([published, watched, pass(() => joinsBefore < Infinity)]);
  t.equal(counted.refused, 0, "and again");
  t.ok(counted.cost >= 900, `${counted.cost} commands' worth`);
  t.ok(clock.now() - before < 15_000, `${clock.now() - before} ms`);
  t.ok(joinsBefore < 190, `a publish does not wait for all rooms, but for ${joinsBefore - 100}`);
  members.stop();
});

t.test("publishes stay within the bytes that the node allows", async (t) => {
  const clock = new ManualClock();
  let bytes = 0;
  const node = await startScripted(t, ({ hello, publish }) => {
    bytes += publish?.payload?.length ?? 0;
    return hello ? [{ ready: { session: "s", user: "u", node: "n", version: 1, time: 1, heartbeatMs: 100_000, maxFrameBytes: 4000, bytesPerSecond: 10_000 } }] : undefined;
  });
  const client = startClient(t, node.url, { clock, commandTimeoutMs: 100_000 });
  const room = client.join("chat:a");
  await room.joined;
  const published = Promise.all(numbers(1, 50).map(() => room.publish(new Uint8Array(900))));
  await client.ping();
  t.ok(bytes <= 10_000, `${bytes} bytes at once`);
  for (let i = 0; i < 60; i++) (clock.advance(100), await client.ping());
  t.equal((await published).length, 50);
});

// ------------------------------------------------------------ time and devices

t.test("suspend() and wake() are no failures: the next real one is waited for as the first", async (t) => {
  const node = await startScripted(t);
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock, random: () => 1, backoff: { baseMs: 500, capMs: 20_000 } });
  for (let i = 0; i < 10; i++) {
    await isReady(client);
    await client.suspend();
    client.wake();
  }
  await isReady(client);
  const waits: StateChange[] = [];
  client.on("state", (change) => change.state === "waiting" && waits.push(change));
  node.sessions.at(-1)?.cut();
  await until(() => waits.length > 0, "the loss to be noticed");
  t.equal(waits[0]?.retryInMs, 500);
});

t.test("durations may be longer than a timer can be, or have no end", async (t) => {
  const waits: number[] = [];
  const setTimer = globalThis.setTimeout;
  const due: (() => void)[] = [];
  globalThis.setTimeout = ((run: () => void, ms: number) => (waits.push(ms), due.push(run))) as unknown as typeof setTimeout;
  t.teardown(() => (globalThis.setTimeout = setTimer));
  const runs: string[] = [];
  systemClock.after(2 ** 31 + 5, () => runs.push("long"));
  systemClock.after(Infinity, () => runs.push("never"));
  due.shift()!();
  due.shift()!();
  t.same(waits, [2 ** 31 - 1, 2 ** 31 - 1, 6, 2 ** 31 - 1]);
  t.same(runs, []);
  due.shift()!();
  t.same(runs, ["long"]);
  globalThis.setTimeout = setTimer;
  const node = await startScripted(t);
  const forever = { connectTimeoutMs: Infinity, commandTimeoutMs: Infinity, graceMs: Infinity, keyWindowMs: Infinity, locateTimeoutMs: Infinity };
  const client = startClient(t, node.url, { ...forever, token: () => "t" });
  const changes: StateChange[] = [];
  client.on("state", (change) => changes.push(change));
  await client.join("chat:a").publish(1);
  await client.ping();
  t.same(changes.map(({ state }) => state), ["ready"]);
});

t.test("buffers of another realm are binary, too", async (t) => {
  const node = await startScripted(t);
  const foreign = (data: ArrayBuffer): ArrayBuffer => {
    const buffer = runInNewContext(`new ArrayBuffer(${data.byteLength})`) as ArrayBuffer;
    new Uint8Array(buffer).set(new Uint8Array(data));
    return buffer;
  };
  const Foreign = function (url: string, protocols: string[]) {
    return new Proxy(new WebSocket(url, protocols), {
      get: (socket, name) => {
        const value: unknown = Reflect.get(socket, name);
        return typeof value === "function" ? (value.bind(socket) as unknown) : value;
      },
      set: (socket, name, value: (event: object) => void) =>
        Reflect.set(socket, name, name === "onmessage" ? ({ data }: { data: ArrayBuffer }) => value({ data: foreign(data) }) : value),
    });
  } as unknown as WebSocketConstructor;
  const client = startClient(t, node.url, { WebSocket: Foreign });
  await isReady(client);
  t.equal(await client.echo("heard").then(() => true, (error: unknown) => error), true);
  t.equal(node.sessions.length, 1);
});

t.test("a page that is looked at again asks its socket at once whether anybody is there", async (t) => {
  const events = new EventTarget();
  const page = { visibilityState: "visible", addEventListener: events.addEventListener.bind(events), removeEventListener: events.removeEventListener.bind(events) };
  for (const [name, value] of Object.entries({ document: page, addEventListener: page.addEventListener, removeEventListener: page.removeEventListener })) {
    const property = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.teardown(() => (property ? Object.defineProperty(globalThis, name, property) : Reflect.deleteProperty(globalThis, name)));
  }
  const node = await startScripted(t, ({ ping }, { number }) => (ping && number === 1 ? [] : undefined));
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock, storage: null, device: "d", graceMs: 1000 });
  await isReady(client);
  const change = (visibilityState: string) => {
    page.visibilityState = visibilityState;
    events.dispatchEvent(new Event("visibilitychange"));
  };
  clock.advance(1);
  change("hidden");
  await client.echo("behind it");
  t.same(node.commands("ping"), []);
  clock.advance(1);
  change("visible");
  await until(() => node.commands("ping").length === 1, "the question");
  clock.advance(1000);
  await until(() => client.state === "waiting", "the dead socket to be left");
  await client.close();
  change("visible");
  t.equal(node.commands("ping").length, 1);
});

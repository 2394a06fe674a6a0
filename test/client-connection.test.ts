/** The SDK's way to the node: when it comes back, when it does not, and how it notices that nobody is there. */
import t, { type Test } from "tap";
import { WebSocket } from "ws";
import { backoffMs } from "../src/client/clock.ts";
import { Emitter } from "../src/client/emitter.ts";
import { Pace } from "../src/client/rooms/pace.ts";
import { connect, type ClientOptions, type Closed, type StateChange } from "../src/client/index.ts";
import { closes } from "../src/errors.ts";
import type { ServerFrame } from "../src/protocol/messages.ts";
import { isReady, ManualClock, startClient } from "./support/sdk.ts";
import { startScripted, type ScriptedSession } from "./support/scripted.ts";
import { until } from "./support/until.ts";

const ready: ServerFrame = { ready: { session: "s", user: "u", node: "n", version: 1, time: 1, heartbeatMs: 20, maxFrameBytes: 1000 } };

t.test("backoff doubles up to its cap, and jitter takes anything between nothing and all of it", async (t) => {
  const backoff = { baseMs: 500, capMs: 20_000 };
  const attempts = [0, 1, 2, 3, 4, 5, 6, 60, 5000];
  const longest = attempts.map((attempt) => backoffMs(attempt, backoff, () => 1));
  t.same(longest, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000]);
  t.same(attempts.map((attempt) => backoffMs(attempt, backoff, () => 0)), attempts.map(() => 0));
  t.equal(backoffMs(3, backoff, () => 0.25), 1000);
});

t.test("attempts that fail are spaced by backoff; a session that lasted begins it anew", async (t) => {
  const node = await startScripted(t);
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock, random: () => 0.5, backoff: { baseMs: 500, capMs: 3000 } });
  const waits: (number | null)[] = [];
  client.on("state", ({ state, retryInMs }) => state === "waiting" && waits.push(retryInMs));
  const lose = async (afterMs: number) => {
    await isReady(client);
    clock.advance(afterMs);
    node.sessions.at(-1)?.cut();
    await until(() => client.state === "waiting", "the loss to be noticed");
    clock.advance(waits.at(-1) ?? 0);
  };
  for (const lastedMs of [0, 0, 0, 0, 0, 4999, 5000, 0]) await lose(lastedMs);
  t.same(waits, [250, 500, 1000, 1500, 1500, 1500, 250, 500]);
});

/** A client on a clock that stands, with random() in the middle; the node tells it this window in ready, and then others. */
async function inWindow(t: Test, returnWindowMs: number, options: ClientOptions = {}) {
  return losing(t, await startScripted(t, ({ hello }) => (hello ? [{ ready: { ...ready.ready, returnWindowMs } }] : undefined)), options);
}

async function losing(t: Test, node: Awaited<ReturnType<typeof startScripted>>, options: ClientOptions = {}) {
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock, random: () => 0.5, backoff: { baseMs: 500, capMs: 20_000 }, ...options });
  const waits: (number | null)[] = [];
  client.on("state", ({ state, retryInMs }) => state === "waiting" && waits.push(retryInMs));
  /** @returns the wait that follows */
  const lose = async (how: (session: ScriptedSession) => void) => {
    await isReady(client);
    const before = waits.length;
    how(node.sessions.at(-1)!);
    await until(() => waits.length > before, "the loss to be noticed");
    return waits.at(-1);
  };
  return { node, clock, client, waits, lose, cut: () => lose((session) => session.cut()) };
}

t.test("who loses a node without a word comes back anywhere in the window that the node has told", async (t) => {
  const { clock, waits, cut } = await inWindow(t, 8000);
  t.equal(await cut(), 4000);
  clock.advance(3999);
  t.equal(waits.length, 1, "no sooner");
  clock.advance(1);
  t.equal(await cut(), 4000, "a session that did not last has waits no shorter");
});

t.test("a client comes back at its place in the window, whatever chance would have had it do", async (t) => {
  for (const [returnPlace, wait] of [[1, 8000 / 65_536], [16_384, 2000], [65_536, 8000], [4_000_000_000, 8000], [0, 4000]] as const) {
    const node = await startScripted(t, ({ hello }) => (hello ? [{ ready: { ...ready.ready, returnWindowMs: 8000, returnPlace } }] : undefined));
    t.equal(await (await losing(t, node)).cut(), wait, `place ${returnPlace}`);
  }
  const node = await startScripted(t, ({ hello }) => (hello ? [{ ready: { ...ready.ready, returnPlace: 65_536 } }] : undefined));
  t.equal(await (await losing(t, node)).cut(), 250, "where there is no window, it is chance");
});

t.test("the window is for the first wait: if nobody is there, the next ones are the client's own", async (t) => {
  let isAway = false;
  const node = await startScripted(t, ({ hello }, session) => {
    if (!hello) return undefined;
    if (!isAway) return [{ ready: { ...ready.ready, returnWindowMs: 8000 } }];
    session.cut();
    return [];
  });
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock, random: () => 0.5, backoff: { baseMs: 500, capMs: 20_000 } });
  const waits: (number | null)[] = [];
  client.on("state", ({ state, retryInMs }) => state === "waiting" && waits.push(retryInMs));
  await isReady(client);
  isAway = true;
  node.sessions[0]?.cut();
  for (const so of [1, 2, 3]) {
    await until(() => waits.length === so, "an attempt to fail");
    clock.advance(waits.at(-1) ?? 0);
  }
  t.same(waits, [4000, 500, 1000]);
});

t.test("a window that is told later takes the place of the one before, wider or narrower, also with the next session", async (t) => {
  const { clock, lose, cut } = await inWindow(t, 1000);
  const told = (windowMs: number) => lose((session) => {
    session.send({ returnWindow: { windowMs } });
    session.close(3001, "shutdown");
  });
  t.equal(await told(6000), 3000);
  clock.advance(3000);
  t.equal(await told(2200), 1100);
  clock.advance(1100);
  t.equal(await cut(), 1000, "what ready says holds, and the backoff of the third attempt is wider than that");
});

t.test("no window is wider than the client's cap, and none narrower than its backoff", async (t) => {
  const most = 2 ** 32 - 1;
  t.equal(await (await inWindow(t, most)).cut(), 10_000);
  t.equal(await (await inWindow(t, most, { backoff: { baseMs: 20, capMs: 200 } })).cut(), 100);
  for (const little of [0, 1, 499]) t.equal(await (await inWindow(t, little)).cut(), 250);
});

t.test("the window is for what may have befallen all clients of the node, not for what is this one's own", async (t) => {
  for (const [name, { code }] of Object.entries(closes)) {
    if (name === "bye" || code >= 3500) continue; // the end, and what no node says unasked
    const own = ["moved", "token_expired", "slow_consumer", "session_replaced", "rate_limited"].includes(name);
    const { lose } = await inWindow(t, 8000);
    t.equal(await lose((session) => session.close(code, name)), own ? 250 : 4000, name);
  }
  const { lose } = await inWindow(t, 8000);
  const delayMs = await lose((session) => {
    session.send({ reconnect: { reason: "drain", delayMs: 70, url: "" } });
    session.close(3001, "shutdown");
  });
  t.equal(delayMs, 70, "a node that drains has given everybody a time of its own");
});

t.test("a device that has lost its network does not wait as if the node were gone", async (t) => {
  const property = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  t.teardown(() => (property ? Object.defineProperty(globalThis, "navigator", property) : Reflect.deleteProperty(globalThis, "navigator")));
  for (const [onLine, wait] of [[false, 250], [true, 4000], [undefined, 4000]] as const) {
    Object.defineProperty(globalThis, "navigator", { value: { onLine }, configurable: true });
    t.equal(await (await inWindow(t, 8000)).cut(), wait, `onLine ${onLine}`);
  }
});

/** A browser, as far as it tells of the network of its device. */
function browser(t: Test) {
  const network = { onLine: true };
  const events = new EventTarget();
  const faked = {
    navigator: network,
    addEventListener: events.addEventListener.bind(events),
    removeEventListener: events.removeEventListener.bind(events),
  };
  for (const [name, value] of Object.entries(faked)) {
    const property = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.teardown(() => (property ? Object.defineProperty(globalThis, name, property) : Reflect.deleteProperty(globalThis, name)));
  }
  return {
    network,
    comeBack() {
      network.onLine = true;
      events.dispatchEvent(new Event("online"));
    },
  };
}

t.test("when a device has its network again, what was tried without it is tried anew, and nothing else", async (t) => {
  const { network, comeBack } = browser(t);
  const { client, clock, waits, cut } = await inWindow(t, 8000);
  await cut();
  comeBack();
  t.same(waits, [4000], "it was not the network: the others come back, too");
  clock.advance(4000);
  network.onLine = false;
  await cut();
  comeBack();
  t.same(waits.slice(1), [500, 250]);
  comeBack();
  t.equal(waits.length, 3, "it is told more than once");
  clock.advance(250);
  await isReady(client);
  network.onLine = false;
  await cut();
  await client.suspend();
  comeBack();
  t.equal(waits.at(-1), null, "its page is gone");
  await client.close();
  comeBack();
  t.equal(client.state, "closed");
});

t.test("a socket that has died with the network of before is noticed when there is one again", async (t) => {
  const { comeBack } = browser(t);
  const node = await startScripted(t, ({ hello, ping }, { number }) => {
    if (hello) return [{ ready: { ...ready.ready, heartbeatMs: 100_000 } }];
    return ping && number === 1 ? [] : undefined;
  });
  const { client, clock, waits } = await losing(t, node, { graceMs: 1000 });
  await isReady(client);
  clock.advance(1);
  comeBack();
  clock.advance(1000);
  await until(() => waits.length === 1, "it to be given up");
  clock.advance(waits[0]!);
  await isReady(client);
  comeBack();
  t.equal(await client.ping(), 0, "it is answered");
  clock.advance(1000);
  t.equal(client.state, "ready", "one that answers is kept");
});

t.test("a node that is away is tried again and again", async (t) => {
  const node = await startScripted(t, ({ hello }, session) => {
    if (!hello || session.number > 3) return undefined;
    session.cut();
    return [];
  });
  const client = startClient(t, node.url);
  const states: string[] = [];
  client.on("state", ({ state }) => states.push(state));
  await isReady(client);
  t.same(states, ["waiting", "connecting", "waiting", "connecting", "waiting", "connecting", "ready"]);
});

for (const [name, { code, text }] of Object.entries(closes)) {
  if (name === "bye") continue; // below
  const isFinal = code >= 3500;
  t.test(`close ${code} ${name} ${isFinal ? "is the end, and says why" : "is come back from"}`, async (t) => {
    const node = await startScripted(t);
    const client = startClient(t, node.url);
    const closed: Closed[] = [];
    const changes: StateChange[] = [];
    client.on("closed", (why) => closed.push(why));
    client.on("state", (change) => changes.push(change));
    await isReady(client);
    const room = client.join("chat:a");
    await room.joined;
    const left = new Promise((resolve) => room.on("left", resolve));
    changes.length = 0;
    node.sessions[0]?.close(code, name);
    await until(() => changes.length > 0, "a change of state");
    t.match(changes[0], { state: isFinal ? "closed" : "waiting", cause: { code, name, text } });
    if (isFinal) {
      t.same(closed, [{ code, name, text }]);
      t.match(await left, { code: "closed" }, "its rooms end with it");
      await t.rejects(room.publish(1), { code: "closed" });
      await t.rejects(client.join("chat:b").joined, { code: "closed" });
      t.equal(client.state, "closed");
    } else {
      await isReady(client);
      t.equal(closed.length, 0);
    }
    t.equal(node.sessions.length, isFinal ? 1 : 2);
  });
}

for (const code of [1000, 1001]) {
  t.test(`close ${code} of a proxy is come back from, with the session: the client has said no bye`, async (t) => {
    const node = await startScripted(t);
    const client = startClient(t, node.url);
    const changes: StateChange[] = [];
    await isReady(client);
    client.on("state", (change) => changes.push(change));
    node.sessions[0]?.close(code, "the proxy says so");
    await until(() => changes.length > 0, "a change of state");
    t.match(changes[0], { state: "waiting", cause: { code, name: "socket_closed", text: "the proxy says so" } });
    await isReady(client);
    t.match(node.commands("hello").at(-1)?.hello?.resume, { session: "s" });
  });
}

t.test("codes of applications are come back from up to 4499 and not from 4500 on, which is the node's own", async (t) => {
  for (const [code, state] of [[4499, "waiting"], [4501, "closed"]] as const) {
    const node = await startScripted(t);
    const client = startClient(t, node.url);
    await isReady(client);
    const changed = new Promise<StateChange>((resolve) => client.on("state", resolve));
    node.sessions[0]?.close(code, "of the application");
    t.match(await changed, { state, cause: { code, text: "of the application" } });
  }
});

t.test("a node that goes away says when and where to come back", async (t) => {
  const next = await startScripted(t);
  const first = await startScripted(t, (command, session) => {
    if (!command.join) return undefined;
    session.send({ reconnect: { reason: "drain", delayMs: 70, url: next.url } });
    session.close(3001, "shutdown");
    return [];
  });
  const clock = new ManualClock();
  const client = startClient(t, first.url, { clock });
  const changes: StateChange[] = [];
  client.on("state", (change) => changes.push(change));
  client.join("chat:a");
  await until(() => client.state === "waiting", "the loss to be noticed");
  t.equal(changes.at(-1)?.retryInMs, 70, "not its own backoff");
  clock.advance(69);
  t.equal(client.state, "waiting");
  clock.advance(1);
  await isReady(client);
  t.equal(next.sessions.length, 1);

  next.sessions[0]?.cut();
  await until(() => client.state === "waiting", "the loss to be noticed");
  clock.advance(1000);
  await until(() => first.sessions.length === 2, "a return to its own url");
});

t.test("publishes that a node refuses on its way out are made again, once, where the client is sent to", async (t) => {
  const next = await startScripted(t);
  const first = await startScripted(t, (command, session) => {
    if (!command.publish) return undefined;
    session.send({ reconnect: { reason: "drain", delayMs: 0, url: next.url } });
    session.send({ id: command.id ?? 0, error: { code: "unavailable", text: "the node is going away", retryable: true } });
    session.close(3001, "shutdown");
    return [];
  });
  const client = startClient(t, first.url);
  const room = client.join("chat:a");
  await room.joined;
  await Promise.all([room.publish(1), room.publish(2)]);
  const sent = next.commands("publish").map(({ publish }) => publish);
  t.same(sent.map((publish) => Buffer.from(publish?.payload ?? []).toString()), ["1", "2"], "in their order");
  const before = first.commands("publish").map(({ publish }) => publish?.key);
  t.equal(sent[0]?.key, before[0], "under the same key");
  t.equal(next.commands("hello").length, 1);
});

t.test("a wait that is longer than a timer can be is not taken for none", async (t) => {
  const node = await startScripted(t, (command, session) => {
    if (!command.join) return undefined;
    session.send({ reconnect: { reason: "drain", delayMs: 2 ** 32 - 1, url: "" } });
    session.close(3001, "shutdown");
    return [];
  });
  const client = startClient(t, node.url);
  const changes: StateChange[] = [];
  client.on("state", (change) => changes.push(change));
  client.join("chat:a");
  await until(() => client.state === "waiting", "the loss to be noticed");
  t.equal(changes.at(-1)?.retryInMs, 2 ** 32 - 1);
});

t.test("a url that is none does not end the attempts", async (t) => {
  const node = await startScripted(t, (command, session) => {
    if (!command.join || session.number > 1) return undefined;
    session.send({ reconnect: { reason: "moved", delayMs: 0, url: "no url at all" } });
    session.cut();
    return [];
  });
  const client = startClient(t, node.url);
  await client.join("chat:a").joined;
  t.equal(node.sessions.length, 2);
});

t.test("a socket that fell silent is probed, dropped and replaced", async (t) => {
  let isDeaf = false;
  const node = await startScripted(t, (command, session) => {
    if (command.hello) return [ready]; // heartbeat 20 ms
    return isDeaf && session.number === 1 ? [] : undefined;
  });
  const client = startClient(t, node.url, { graceMs: 3_000 }); // a busy machine may answer late
  const changes: StateChange[] = [];
  client.on("state", (change) => changes.push(change));
  await isReady(client);
  await until(() => node.commands("ping").length >= 3, "probes");
  t.same(changes.map(({ state }) => state), ["ready"], "a quiet socket whose pings are answered is kept");
  isDeaf = true;
  await until(() => node.sessions.length === 2, "another socket");
  t.match(changes.find(({ state }) => state === "waiting"), { cause: { text: /the node sent nothing/ } });
  await isReady(client);
});

t.test("a socket that never gets a session is given up after connectTimeoutMs", async (t) => {
  const node = await startScripted(t, ({ hello }, session) => (hello && session.number === 1 ? [] : undefined));
  const client = startClient(t, node.url, { connectTimeoutMs: 40 });
  await isReady(client);
  t.ok(node.sessions.length >= 2);
});

t.test("a stream that cannot be read is left and begun anew", async (t) => {
  const garbage = [Buffer.from("0000000308ffff", "hex"), Buffer.from("ffffffff", "hex"), "text"];
  for (const bytes of garbage) {
    const node = await startScripted(t, ({ echo }, session) => {
      if (!echo || session.number > 1) return undefined;
      session.raw(bytes);
      return [];
    });
    const client = startClient(t, node.url);
    await isReady(client);
    await t.rejects(client.echo(1), { code: "disconnected" });
    await isReady(client);
    t.equal(await client.echo(2), 2);
  }
});

t.test("frames may be split over messages", async (t) => {
  const node = await startScripted(t, (command, session) => {
    if (!command.echo) return undefined;
    session.sendSplit({ ...command });
    return [];
  });
  const client = startClient(t, node.url);
  await isReady(client);
  const bytes = new Uint8Array(3000).map((_, i) => i);
  t.same(await client.echo(bytes), bytes);
});

t.test("commands fail with the socket, with the time, and without a session", async (t) => {
  const node = await startScripted(t, (command) => (command.echo || command.history ? [] : undefined));
  const client = startClient(t, node.url, { commandTimeoutMs: 100 });
  const room = client.join("chat:a");
  await t.rejects(client.ping(), { code: "disconnected" }, "not connected yet");
  await room.joined;
  t.type(await client.ping(), "number");
  await t.rejects(client.echo(1), { code: "timeout", retryable: true });
  const history = room.history({ limit: 5 });
  node.sessions[0]?.cut();
  await t.rejects(history, { code: "disconnected", retryable: true });
});

t.test("an error without an id is an event", async (t) => {
  const node = await startScripted(t, ({ hello }) => (hello ? [ready, { id: 0, error: { code: "rate_limited", text: "slow down", retryable: true } }] : undefined));
  const client = startClient(t, node.url);
  const error = await new Promise((resolve) => client.on("error", resolve));
  t.match(error, { code: "rate_limited", text: "slow down", retryable: true, message: "rate_limited: slow down" });
});

t.test("close says bye, ends with 1000 and stays closed", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url);
  await isReady(client);
  const closed = new Promise((resolve) => client.on("closed", resolve));
  const echo = client.echo(1);
  await Promise.all([client.close(), t.rejects(echo, { code: "disconnected" })]);
  t.match(await closed, { code: 1000, name: "bye" });
  await until(() => node.commands("bye").length === 1, "bye");
  await client.close();
  t.equal(client.state, "closed");
  t.equal(client.session, null);
});

t.test("close says bye behind a hello that is not answered: what hello goes on with ends as well", async (t) => {
  const node = await startScripted(t, ({ hello }) => (hello ? [] : undefined));
  const client = startClient(t, node.url, { graceMs: 600_000 });
  await until(() => node.commands("hello").length === 1, "hello");
  await client.close();
  t.same(node.commands("bye").length, 1);
});

t.test("suspend before the answer to hello resolves when the socket is gone", async (t) => {
  const node = await startScripted(t, ({ hello }) => (hello ? [] : undefined));
  const client = startClient(t, node.url, { graceMs: 600_000 });
  await until(() => node.commands("hello").length === 1, "hello");
  await client.suspend();
  t.same([client.state, node.commands("bye").length], ["waiting", 0]);
});

t.test("close while waiting or connecting ends it too", async (t) => {
  const node = await startScripted(t, ({ hello }) => (hello ? [] : undefined));
  const connecting = startClient(t, node.url);
  await connecting.close();
  const waiting = startClient(t, "ws://127.0.0.1:1/ws", { backoff: { baseMs: 60_000, capMs: 60_000 }, random: () => 1 });
  await until(() => waiting.state === "waiting", "a failed attempt");
  await waiting.close();
  t.same([connecting.state, waiting.state], ["closed", "closed"]);
});

t.test("without any WebSocket the error says what to pass", async (t) => {
  const property = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  Reflect.deleteProperty(globalThis, "WebSocket");
  t.teardown(() => property && Object.defineProperty(globalThis, "WebSocket", property));
  t.throws(() => connect("ws://127.0.0.1:1/ws"), /pass \{ WebSocket: \(await import\("ws"\)\)\.WebSocket \}/);
  Object.defineProperty(globalThis, "WebSocket", { value: WebSocket, configurable: true });
  const node = await startScripted(t);
  const client = connect(node.url);
  t.teardown(() => client.close());
  await isReady(client);
});

t.test("publishes are paced: a second's worth at once, then as time allows", async (t) => {
  const clock = new ManualClock();
  const pace = new Pace(clock);
  t.equal(pace.take(), 0, "not limited before the node has said so");
  pace.set({ commandsPerSecond: 100 });
  t.same(Array.from({ length: 100 }, () => pace.take()), Array.from({ length: 100 }, () => 0));
  t.equal(pace.take(), 10, "the next one in 10 ms");
  clock.advance(10);
  t.same([pace.take(), pace.take()], [0, 10]);
  clock.advance(60_000);
  t.same(Array.from({ length: 101 }, () => pace.take()).filter((waitMs) => waitMs > 0).length, 1, "no more than a second's worth is saved up");
});

t.test("a listener that throws is reported, and keeps nothing from the others", async (t) => {
  const emitter = new Emitter<{ event: number }>();
  const seen: number[] = [];
  emitter.on("event", () => {
    throw new Error("of the listener");
  });
  const off = emitter.on("event", (value) => seen.push(value));
  const rethrown: (() => void)[] = [];
  const microtasks = t.capture(globalThis, "queueMicrotask", (run: () => void) => void rethrown.push(run));
  emitter.emit("event", 1);
  microtasks.restore();
  t.same(seen, [1]);
  t.equal(rethrown.length, 1);
  t.throws(() => rethrown[0]?.(), /of the listener/);
  off();
  off();
  const silent = new Emitter<{ event: number }>();
  silent.emit("event", 2);
  t.same(seen, [1]);
});

t.test("a page that may not connect is told which origin to allow", async (t) => {
  const node = await startScripted(t, ({ hello }, session) => {
    if (hello) session.close(3505, "forbidden_origin: allow it with --allowed-origins http://127.0.0.1:5173");
    return hello ? [] : undefined;
  });
  const client = startClient(t, node.url);
  const closed = await new Promise((resolve) => client.on("closed", resolve));
  t.same(closed, { code: 3505, name: "forbidden_origin", text: "pages of this origin may not connect (allowedOrigins): allow it with --allowed-origins http://127.0.0.1:5173" });
});

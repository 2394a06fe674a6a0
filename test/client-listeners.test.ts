/** Listeners that leave the session in the middle of what the client does, and tokens that a node does not take. */
import { setImmediate as turn } from "node:timers/promises";
import t from "tap";
import type { OnReply } from "../src/client/connection/commands.ts";
import { Stream, type StreamOwner } from "../src/client/rooms/stream.ts";
import { Watches } from "../src/client/watches.ts";
import { closes } from "../src/errors.ts";
import type { ClientFrame } from "../src/protocol/messages.ts";
import { startNode } from "./support/node.ts";
import { startProxy } from "./support/proxy.ts";
import { epoch, startScripted } from "./support/scripted.ts";
import { isReady, ManualClock, numbers, startClient } from "./support/sdk.ts";
import { until } from "./support/until.ts";

/** Minutes of the client's time, with turns of the loop for promises. */
async function pass(clock: ManualClock, seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    clock.advance(1000);
    await turn();
  }
}

// ------------------------------------------------------------ tokens

t.test("a client that a listener closes asks for no more tokens", async (t) => {
  for (const event of ["error", "expiring"] as const) {
    const node = await startScripted(t);
    const clock = new ManualClock();
    let asked = 0;
    const token = () => {
      if (++asked > 1 && event === "error") throw new Error("logged out");
      return `t${asked}`;
    };
    const client = startClient(t, node.url, { clock, token });
    client.on(event, () => void client.close());
    await isReady(client);
    node.sessions[0]?.send({ expiring: { expires: Date.now() + 60_000 } });
    await until(() => client.state === "closed", "closed");
    await turn();
    const before = asked;
    await pass(clock, 60);
    t.equal(asked, before, event);
  }
});

t.test("a token that a node could not check just then is given again, and is not the expired one", async (t) => {
  const putOff = { error: { code: "unavailable", text: "no keys", retryable: true } };
  const node = await startScripted(t, ({ refresh }) => (refresh ? [node.commands("refresh").length === 1 ? putOff : { refreshed: {} }] : undefined));
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock, token: (reason) => (reason === "connect" ? "t1" : "t2") });
  await isReady(client);
  node.sessions[0]?.send({ expiring: { expires: Date.now() + 60_000 } });
  await until(async () => (await pass(clock, 1), node.commands("refresh").length === 2), "the second refresh");
  t.same(node.commands("refresh").map(({ refresh }) => refresh?.token), ["t2", "t2"]);
});

t.test("a token that the node was not given in time is the one that the next socket gives", async (t) => {
  const node = await startScripted(t, ({ refresh }) => (refresh ? [] : undefined));
  const client = startClient(t, node.url, { token: (reason) => (reason === "connect" ? "t1" : "t2") });
  const errors: string[] = [];
  client.on("error", ({ code }) => errors.push(code));
  await isReady(client);
  node.sessions[0]?.send({ expiring: { expires: Date.now() + 60_000 } });
  await until(() => node.commands("refresh").length === 1, "a refresh");
  node.sessions[0]?.close(closes.token_expired.code);
  await until(() => node.commands("hello").length === 2, "another hello");
  t.same(node.commands("hello").map(({ hello }) => hello?.token), ["t1", "t2"]);
  t.notOk(errors.includes("no_token"), errors.join());
});

t.test("a token that the node rejects does not take the place of the one in use", async (t) => {
  const node = await startScripted(t, ({ refresh }) => (refresh ? [{ error: { code: "unauthorized", text: "another user's" } }] : undefined));
  const client = startClient(t, node.url, { token: "ann" });
  await isReady(client);
  await t.rejects(client.refresh("bob"), { code: "unauthorized" });
  node.sessions[0]?.cut();
  await until(() => node.commands("hello").length === 2, "another hello");
  t.equal(node.commands("hello")[1]?.hello?.token, "ann");
});

t.test("nor does one that the provider gave", async (t) => {
  const node = await startScripted(t, ({ refresh }) => (refresh ? [{ error: { code: "unauthorized", text: "another user's" } }] : undefined));
  const client = startClient(t, node.url, { token: (reason) => (reason === "connect" ? "ann" : "bob") });
  let errors = 0;
  client.on("error", () => errors++);
  await isReady(client);
  node.sessions[0]?.send({ expiring: { expires: Date.now() + 60_000 } });
  await until(() => errors > 0, "the refusal");
  node.sessions[0]?.cut();
  await until(() => node.commands("hello").length === 2, "another hello");
  t.equal(node.commands("hello")[1]?.hello?.token, "ann");
});

// ------------------------------------------------------------ many rooms

t.test("a client with more rooms than one hello can name comes back, into all of them", async (t) => {
  const node = await startNode(t, { reactors: 1, frameBytesMax: 2048, commandsPerSecond: 0, allowAnonymous: true });
  const proxy = await startProxy(t, node.port);
  const client = startClient(t, proxy.url);
  const rooms = numbers(1, 80).map((i) => client.join(`live:a-room-with-a-rather-long-name-${i}`));
  await Promise.all(rooms.map(({ joined }) => joined));
  const heard = new Set<number>();
  for (const [i, room] of rooms.entries()) room.on("publication", () => heard.add(i));
  let joined = 0;
  for (const room of rooms) room.on("joined", () => joined++);
  proxy.cut();
  await until(() => joined === rooms.length || client.state === "closed", "all rooms");
  t.equal(client.state, "ready");
  for (const { name } of rooms) await client.publish(name, 1);
  await until(() => heard.size === rooms.length, "a publication in each");
  t.equal(client.stats().sessions, 2);
});

// ------------------------------------------------------------ listeners that suspend

t.test("what is published while a listener of the first `joined` has suspended the client is recovered", async (t) => {
  for (const history of [0, 2]) {
    const node = await startNode(t, { reactors: 1, allowAnonymous: true, namespaces: { chat: { durable: true, publish: "anyone" } } });
    const url = `ws://127.0.0.1:${node.port}/ws`;
    const publisher = startClient(t, url);
    for (const n of [1, 2]) await publisher.publish("chat:a", n);
    const client = startClient(t, url);
    const heard: unknown[] = [];
    const room = client.join("chat:a", { history });
    room.on("publication", ({ data }) => heard.push(data));
    room.on("gap", ({ text }) => heard.push(text));
    let suspended: Promise<void> | null = null;
    room.on("joined", () => (suspended ??= client.suspend()));
    await until(() => suspended !== null, "joined");
    await suspended;
    for (const n of [3, 4]) await publisher.publish("chat:a", n);
    const resumed = new Promise<boolean>((resolve) => client.on("ready", (ready) => resolve(ready.resumed)));
    client.wake();
    t.equal(await resumed, true);
    await until(() => heard.length >= 2 + history, "the publications");
    t.same(heard, history === 2 ? [1, 2, 3, 4] : [3, 4]);
  }
});

t.test("a listener that suspends the client at its first `ready` keeps the session", async (t) => {
  const node = await startScripted(t, ({ hello }) => (hello ? [{ ready: { session: "s1", resumeToken: "r1", user: "u", time: Date.now() } }] : undefined));
  const client = startClient(t, node.url);
  let suspended: Promise<void> | null = null;
  client.on("state", ({ state }) => state === "ready" && (suspended ??= client.suspend()));
  await until(() => suspended !== null, "ready");
  await suspended;
  client.wake();
  await until(() => node.commands("hello").length === 2, "another hello");
  t.match(node.commands("hello")[1]?.hello?.resume, { session: "s1", token: "r1" });
});

t.test("close() by a listener of a url that is not used is final", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url, { origins: [new URL(node.url).origin] });
  const states: string[] = [];
  client.on("state", ({ state }) => states.push(state));
  let closed: Promise<void> | null = null;
  client.on("error", () => (closed = client.close()));
  await isReady(client);
  node.sessions[0]?.send({ reconnect: { delayMs: 0, url: "ws://elsewhere.example/ws" } });
  node.sessions[0]?.close(closes.shutdown.code);
  await until(() => closed !== null, "an error");
  await closed;
  t.equal(client.state, "closed");
  t.equal(states.at(-1), "closed", states.join());
});

t.test("suspend() by a listener of `unreachable` settles", async (t) => {
  const client = startClient(t, "ws://127.0.0.1:1/ws", { backoff: { baseMs: 1, capMs: 1 } });
  let isSettled = false;
  client.on("error", () => void client.suspend().then(() => (isSettled = true)));
  await until(() => isSettled, "suspended");
  t.equal(client.state, "waiting");
});

t.test("close() by a listener of the first `joined`, and a join there, leave no rejection", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url);
  const rejections: unknown[] = [];
  const note = (why: unknown) => rejections.push(why);
  process.on("unhandledRejection", note);
  t.teardown(() => process.off("unhandledRejection", note));
  const room = client.join("chat:a");
  room.on("joined", () => {
    client.join("chat:a");
    void client.close();
  });
  await until(() => client.state === "closed", "closed");
  for (let i = 0; i < 3; i++) await turn();
  t.same(rejections, []);
});

t.test("a session that a listener leaves in the middle of a page is not live, and goes on in the next", (t) => {
  const arrival = (seq: number) => ({ epoch, seq, prev: seq - 1, wire: { room: "chat:a" } });
  const head = (seq: number) => ({ epoch, seq });
  const owner = (more: Partial<StreamOwner>): StreamOwner =>
    ({ deliver: () => {}, onGap: () => {}, onRecovered: () => {}, onLive: () => {}, onMissed: () => {}, readHistory: () => {}, ...more });

  let live = 0;
  const page: Stream = new Stream(null, 20, owner({ deliver: () => page.interrupt(), onLive: () => live++ }));
  page.begin(head(3), null, false);
  page.replay([1, 2, 3].map(arrival), false);
  t.equal(live, 0);
  t.match(page.position, head(1), "2 and 3 are still to come");

  let reads = 0;
  const repair: Stream = new Stream(null, 20, owner({ onRecovered: () => repair.interrupt(), readHistory: () => reads++ }));
  repair.begin(head(9), { epoch, seq: 0 }, true);
  repair.replay([arrival(1)], true);
  repair.sync(head(9));
  t.equal(reads, 0, "there is no session to read from");

  let missed = 0;
  const late: Stream = new Stream(null, 20, owner({ deliver: ({ seq }) => seq === 4 && late.interrupt(), onMissed: () => missed++ }));
  late.begin(head(3), null, false);
  late.replay([], false);
  late.replay([4, 5].map(arrival), false);
  t.match([late.position, missed], [head(4), 0]);
  t.end();
});

// ------------------------------------------------------------ publishes and watches

t.test("a publish whose answer was lost before the device slept is not repeated when the node has forgotten its key", async (t) => {
  const node = await startScripted(t, ({ publish }) => (publish ? [] : undefined));
  const client = startClient(t, node.url);
  const room = client.join("chat:a");
  await room.joined;
  const published = room.publish(1);
  await until(() => node.commands("publish").length === 1, "the publish");
  // The clock of timers stands still while a device sleeps, that of the calendar does not.
  const today = Date.now;
  Date.now = () => today() + 600_000;
  t.teardown(() => (Date.now = today));
  node.sessions[0]?.cut();
  await t.rejects(published, { code: "disconnected" });
  await until(() => client.state === "ready", "another session");
  await client.ping();
  t.equal(node.commands("publish").length, 1);
});

t.test("users that are unwatched before the node was asked are not watched", async (t) => {
  const node = await startScripted(t, ({ watch }) => (watch ? [{ watched: { statuses: (watch.users ?? []).map((user) => ({ user, online: true })) } }] : undefined));
  const client = startClient(t, node.url);
  const early = client.watch(["ada"]);
  client.unwatch(["ada"]);
  t.same(await early, []);
  await isReady(client);
  await client.watch(["bob"]);
  await client.ping();
  const watched = new Set<string>();
  for (const { watch, unwatch } of [...node.commands("watch"), ...node.commands("unwatch")]) {
    for (const user of watch?.users ?? []) watched.add(user);
    for (const user of unwatch?.users ?? []) watched.delete(user);
  }
  t.same([...watched], ["bob"]);

  // A command may wait for its turn: then it leaves behind the unwatch.
  const told: ClientFrame[] = [];
  let answer: OnReply = () => {};
  const watches = new Watches({ send: (_, onReply) => void (answer = onReply), tell: (command) => told.push(command), onStatus: () => {}, onError: () => {}, clock: new ManualClock(), random: () => 0 });
  const asked = watches.watch(["eve"]);
  watches.unwatch(["eve"]);
  told.length = 0;
  answer({ reply: { watched: { statuses: [{ user: "eve", online: true }] } } });
  await asked;
  t.match(told, [{ unwatch: { users: ["eve"] } }]);
});

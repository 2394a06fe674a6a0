/** Every limit a node is configured with, small enough to be reached, and the code that says so. */
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { closes, type CloseName } from "../src/errors.ts";
import { Format } from "../src/protocol/messages.ts";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode } from "./support/node.ts";
import { exchange, opcodes, openRawSocket, type Ending, type IncomingFrame } from "./support/rawsocket.ts";
import { open, type Command, type SeenPosition, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";
import { encodeBinary } from "./support/wire.ts";

const closed = (name: CloseName): Ending => ({ code: closes[name].code, reason: name });

async function pings(session: TestSession): Promise<boolean> {
  return Boolean((await session.request({ ping: { time: 1 } })).pong);
}

t.test("a socket that does not say hello in time is closed 3000, whatever else it sends; one that did stays", async (t) => {
  const node = await startNode(t, { reactors: 1, handshakeTimeoutMs: 300 });
  // On a slow machine it may need more than one try.
  let prompt: TestSession | undefined;
  while (!prompt) prompt = await open(node).catch(() => undefined);
  const started = performance.now();
  const [silent, trickling] = await Promise.all([open(node, { hello: null }), open(node, { hello: null })]);
  const hello = encodeBinary({ id: 1, hello: { version: 1, client: "slow".repeat(100) } });
  let over = false;
  void trickling.raw.ended.then(() => (over = true));
  const trickle = (async () => {
    for (let i = 0; !over && i < hello.length - 1; i++) {
      await trickling.sendMessage(hello.subarray(i, i + 1));
      await trickling.raw.send({ opcode: opcodes.ping });
      await sleep(20); // so that hello takes longer than it may
    }
  })();
  t.strictSame(await silent.closed(), closed("handshake_timeout"));
  const tookMs = performance.now() - started;
  t.ok(tookMs >= 295, `not before its time: ${tookMs} ms`);
  t.strictSame(await trickling.closed(), closed("handshake_timeout"));
  await trickle;
  t.ok(await pings(prompt), "one that said hello before them stays");
});

t.test("a socket that does not answer its ping is closed 3012, and so is one with a frame begun that does not end", async (t) => {
  const node = await startNode(t, { reactors: 1, heartbeatMs: 400, heartbeatGraceMs: 1_000 });
  const deaf = await open(node, { pong: false });
  let pinged = 0;
  deaf.raw.onFrame((frame: IncomingFrame) => void (frame.opcode === opcodes.ping && pinged++));
  const dripping = await open(node);
  let dripped = false;
  void dripping.raw.ended.then(() => (dripped = true));
  const drip = (async () => {
    const frame = encodeBinary({ echo: { payload: Buffer.alloc(60_000) } });
    for (let at = 0; !dripped; at++) {
      await dripping.sendMessage(frame.subarray(at, at + 1));
      await dripping.raw.send({ opcode: opcodes.pong });
      await sleep(50);
    }
  })();
  t.strictSame(await deaf.closed(), closed("no_heartbeat"));
  t.equal(pinged, 1, "it was pinged once");
  t.strictSame(await dripping.closed(), closed("no_heartbeat"), "a byte and a pong now and then");
  await drip;
});

t.test("a socket that answers its pings stays", async (t) => {
  const node = await startNode(t, { reactors: 1, heartbeatMs: 50, heartbeatGraceMs: 60_000 });
  const session = await open(node, { pong: false });
  let answered = 0;
  session.raw.onFrame((frame: IncomingFrame) => {
    if (frame.opcode !== opcodes.ping) return;
    answered++;
    void session.raw.send({ opcode: opcodes.pong, payload: frame.payload });
  });
  await until(() => answered >= 5, "five pings, of which each but the first needs an answer to the one before");
  session.raw.destroy();
});

t.test("more sockets than the node may hold are refused with 503, until one goes", async (t) => {
  const node = await startNode(t, { reactors: 1, socketsMax: 5 });
  const sessions = await Promise.all(Array.from({ length: 5 }, () => open(node)));
  await t.rejects(openRawSocket({ port: node.port }), /answered 503/);
  const upgrade = ["GET /ws HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
  const answer = (await exchange(node.port, [...upgrade, "", ""].join("\r\n"), (received) => received.includes("}}"))).toString();
  t.match(answer, /^HTTP\/1\.1 503 /);
  t.match(answer, /^Retry-After: \d+\r$/im);
  t.match(answer, /"code":"overloaded"/);
  t.ok((await Promise.all(sessions.map(pings))).every(Boolean), "those it holds go on");
  await sessions[0]?.bye();
  let next: TestSession | undefined;
  while (!next) next = await open(node).catch(() => undefined);
  t.ok(await pings(next), "there is room again");
});

t.test("ready tells a session its limits", async (t) => {
  const node = await startNode(t, { reactors: 1, frameBytesMax: 2_048, roomsPerSessionMax: 7, roomNameBytesMax: 33, commandsPerSecond: 44, heartbeatMs: 5_555 });
  const limits = { maxFrameBytes: 2_048, maxRooms: 7, maxRoomNameBytes: 33, commandsPerSecond: 44, heartbeatMs: 5_555 };
  t.match((await open(node)).ready, limits);
  t.match((await open(node, { json: true })).ready, limits);
});

t.test("rooms of a session, bytes of a room's name and rooms of the node are limited", async (t) => {
  const node = await startNode(t, { reactors: 1, roomsPerSessionMax: 3, roomNameBytesMax: 10, roomsMax: 4 });
  const [first, second] = await Promise.all([open(node), open(node)]);
  const join = async (session: TestSession, room: string): Promise<string> => (await session.request({ join: { room } })).error?.code ?? "joined";
  t.equal(await join(first, "0123456789"), "joined");
  t.equal(await join(first, "0123456789a"), "bad_request");
  t.equal(await join(first, "b"), "joined");
  t.equal(await join(first, "c"), "joined");
  t.equal(await join(first, "d"), "too_many_rooms");
  t.equal(await join(second, "d"), "joined");
  t.equal(await join(second, "e"), "overloaded", "the node has four rooms");
  t.equal(await join(second, "b"), "joined", "and they are open to others");
  await first.publish("b", "1");
  await second.waitFor(() => second.publications.length === 1, "the publication");
});

t.test("rooms that nobody is in give up their places, the longest empty first: they used to keep others out for a minute", async (t) => {
  const node = await startNode(t, { reactors: 1, roomsMax: 3 });
  const [walker, other] = await Promise.all([open(node), open(node)]);
  const visit = async (room: string): Promise<SeenPosition> => {
    await walker.join(room);
    const position = await walker.publish(room, "1");
    await walker.leave(room);
    return position;
  };
  await other.join("chat:stays");
  const old = await visit("chat:old");
  const recent = await visit("chat:recent");
  await visit("chat:old");
  await walker.join("chat:new");
  t.equal((await walker.request({ join: { room: "chat:old", recover: old } })).joined?.recovered, true, "visited again, it was not the longest empty");
  t.equal((await other.request({ join: { room: "chat:late" } })).error?.code, "overloaded", "every room has members");
  await walker.leave("chat:new");
  const again = await walker.join("chat:recent", { recover: recent });
  t.equal(again.recovered, false, "its place was taken");
  t.not(again.position.epoch, recent.epoch);
  await walker.bye();
  for (let i = 0; i < 20; i++) {
    await other.join(`live:${i}`);
    await other.leave(`live:${i}`);
  }
  await other.publish("chat:stays", '"still here"');
});

t.test("an idempotency key is found behind 10,000 newer ones, which used to push it out within seconds", async (t) => {
  const node = await startNode(t, { reactors: 1, commandsPerSecond: 0 });
  const [payer, busy] = await Promise.all([open(node), open(node, { keep: false })]);
  for (const session of [payer, busy]) await session.join("chat:orders");
  const pay = () => payer.request({ publish: { room: "chat:orders", payload: Buffer.from('"pay"'), format: Format.JSON, key: "order-1" } });
  const first = (await pay()).published;
  t.notOk(first?.duplicate);
  const publish = (key: string) => busy.request({ publish: { room: "chat:orders", payload: Buffer.of(1), key } });
  for (let i = 0; i < 10_500; i += 500) await Promise.all(Array.from({ length: 500 }, (_, n) => publish(`key-${i + n}`)));
  const second = (await pay()).published;
  t.equal(second?.duplicate, true);
  t.same(second?.position, first?.position);
  t.equal(payer.publications.filter(({ payload }) => payload.toString() === '"pay"').length, 1);
});

t.test("a frame may be as large as the limit and no larger", async (t) => {
  const node = await startNode(t, { reactors: 1, frameBytesMax: 1_024 });
  const echo = (length: number): Buffer => encodeBinary({ id: 9, echo: { payload: Buffer.alloc(length) } });
  const largest = Array.from({ length: 1_024 }, (_, length) => echo(length)).find((frame) => frame.length === 4 + 1_024);
  if (!largest) throw new Error("no echo is as large as the limit");
  const [session, tooLarge, twoMessages, inJson] = await Promise.all([open(node), open(node), open(node), open(node, { json: true })]);
  await session.sendMessage(largest);
  await session.waitFor(() => session.events.some((event) => event.echo), "the echo");
  t.ok(await pings(session));
  await tooLarge.sendMessage(echo(1_025));
  t.strictSame(await tooLarge.closed(), closed("frame_too_large"));
  await twoMessages.sendMessage(echo(1_025).subarray(0, 600));
  await twoMessages.closed().then((ending) => t.strictSame(ending, closed("frame_too_large"), "as soon as it is announced"));
  const fragmented = await open(node);
  await fragmented.raw.send({ opcode: opcodes.binary, payload: Buffer.alloc(3_000), fin: false });
  await fragmented.raw.send({ opcode: opcodes.continuation, payload: Buffer.alloc(1_100), fin: false });
  t.equal(await fragmented.closed(), "dropped", "a message that never ends is held up to four frames");
  await inJson.sendMessage(JSON.stringify({ id: 9, echo: { data: "x".repeat(1_024) } }));
  t.strictSame(await inJson.closed(), closed("frame_too_large"));
});

t.test("commands per second: twice as many at once, then as they come; 0 is no limit", async (t) => {
  const { node, clock } = await startNodeOnHeldClock(t, { reactors: 1, commandsPerSecond: 10 });
  const session = await open(node);
  const many = async (count: number): Promise<number> =>
    (await Promise.all(Array.from({ length: count }, () => pings(session)))).filter(Boolean).length;
  t.equal(await many(30), 20, "at once");
  t.equal(await many(5), 0);
  clock.pass(99);
  t.equal(await many(1), 0);
  clock.pass(1);
  t.equal(await many(2), 1, "one every tenth of a second");
  clock.pass(1_000);
  t.equal(await many(15), 10, "ten in a second");
  clock.pass(3_600_000);
  t.equal(await many(30), 20, "no more are saved up");

  const unlimited = await startNode(t, { reactors: 1, commandsPerSecond: 0 });
  const free = await open(unlimited);
  const answers = await Promise.all(Array.from({ length: 5_000 }, () => pings(free)));
  t.ok(answers.every(Boolean), "all of 5,000 are answered");
});

t.test("reading history costs by how much is asked for: a page of hundreds used to cost what a ping does", async (t) => {
  const { node } = await startNodeOnHeldClock(t, { reactors: 1, commandsPerSecond: 20 });
  /** How many commands at once are let through, of what is 40 in all. */
  const admitted = async (count: number, command: (i: number) => Command, before: Command[] = []): Promise<number> => {
    const session = await open(node);
    for (const one of before) await session.request(one);
    const replies = await Promise.all(Array.from({ length: count }, (_, i) => session.request(command(i))));
    t.ok(replies.every((reply) => !reply.error || reply.error.code === "rate_limited"));
    return replies.filter((reply) => !reply.error).length;
  };
  const join = (room: string) => ({ join: { room } });
  const history = (limit?: number) => ({ history: { room: "chat:r", ...(limit && { limit }) } });
  const position = { epoch: "another", seq: 1 };
  t.equal(await admitted(60, () => ({ ping: { time: 1 } })), 40, "pings, 1 each");
  t.equal(await admitted(60, (i) => join(`chat:${i}`)), 40, "plain joins, 1 each");
  t.equal(await admitted(50, () => history(16), [join("chat:r")]), 19, "history of 16, 2 each");
  t.equal(await admitted(20, () => history(), [join("chat:r")]), 5, "history of 100 by default, 7.25 each");
  t.equal(await admitted(30, (i) => ({ join: { room: `chat:${i}`, history: 48 } })), 10, "joins with 48 of history, 4 each");
  t.equal(await admitted(20, (i) => ({ join: { room: `chat:${i}`, recover: position } })), 4, "joins that recover, 9 each");
});

t.test("heartbeats may be of 20 minutes, which is longer than uWebSockets' own timeout can be", async (t) => {
  const node = await startNode(t, { reactors: 1, heartbeatMs: 20 * 60_000 });
  const session = await open(node);
  t.equal(session.ready?.heartbeatMs, 20 * 60_000);
  t.ok(await pings(session));
});

t.test("a socket that says nothing has its whole handshake timeout, which used to end with uWebSockets' own after 16 s", async (t) => {
  // Only the silent one is looked at, so nobody has to be quick; uWS's timers tick every four seconds.
  const node = await startNode(t, { reactors: 1, heartbeatMs: 1_000, heartbeatGraceMs: 1_000, handshakeTimeoutMs: 600_000 });
  const silent = await open(node, { hello: null });
  await Promise.race([sleep(20_500), silent.raw.ended]);
  const reply = await silent.request({ hello: { version: 1 } });
  t.ok(reply.ready, "it may still say hello");
});

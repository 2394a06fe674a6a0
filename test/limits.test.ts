/** Every limit a node is configured with, small enough to be reached, and the code that says so. */
import t from "tap";
import { closes, type CloseName } from "../src/errors.ts";
import { startNode } from "./support/node.ts";
import { exchange, opcodes, openRawSocket, type Ending, type IncomingFrame } from "./support/rawsocket.ts";
import { open, type TestSession } from "./support/session.ts";
import { encodeBinary } from "./support/wire.ts";

const closed = (name: CloseName): Ending => ({ code: closes[name].code, reason: name });

/** Resolves after the time; for tests that something does not happen in it. */
function pass(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function pings(session: TestSession): Promise<boolean> {
  return Boolean((await session.request({ ping: { time: 1 } })).pong);
}

t.test("a socket that does not say hello in time is closed 3000, whatever else it sends", async (t) => {
  const node = await startNode(t, { handshakeTimeoutMs: 300 });
  const started = performance.now();
  const [silent, trickling, prompt] = await Promise.all([open(node, { hello: null }), open(node, { hello: null }), open(node)]);
  const hello = encodeBinary({ id: 1, hello: { version: 1, client: "slow".repeat(100) } });
  let over = false;
  void trickling.raw.ended.then(() => (over = true));
  const trickle = (async () => {
    for (let i = 0; !over && i < hello.length - 1; i++) {
      await trickling.sendMessage(hello.subarray(i, i + 1));
      await trickling.raw.send({ opcode: opcodes.ping });
      await pass(20);
    }
  })();
  t.strictSame(await silent.closed(), closed("handshake_timeout"));
  const tookMs = performance.now() - started;
  t.ok(tookMs >= 295, `not before its time: ${tookMs} ms`);
  t.strictSame(await trickling.closed(), closed("handshake_timeout"));
  await trickle;
  await pass(400);
  t.ok(await pings(prompt), "one that said hello stays");
});

t.test("a silent socket is pinged, and closed 3012 if it does not answer", async (t) => {
  const node = await startNode(t, { heartbeatMs: 400, heartbeatGraceMs: 1_000 });
  const started = performance.now();
  const quiet = async (answers: boolean): Promise<{ session: TestSession; pings: () => number }> => {
    const session = await open(node, { pong: false });
    let count = 0;
    session.raw.onFrame((frame: IncomingFrame) => {
      if (frame.opcode !== opcodes.ping) return;
      count++;
      if (answers) void session.raw.send({ opcode: opcodes.pong, payload: frame.payload });
    });
    return { session, pings: () => count };
  };
  const [deaf, answering, talking] = [await quiet(false), await quiet(true), await open(node, { pong: false })];
  let stop = false;
  const talk = (async () => {
    while (!stop) {
      t.ok(await pings(talking));
      await pass(100);
    }
  })();
  t.strictSame(await deaf.session.closed(), closed("no_heartbeat"));
  const tookMs = performance.now() - started;
  t.ok(tookMs >= 1_300, `not before its time: ${tookMs} ms`);
  t.equal(deaf.pings(), 1, "it was pinged once");
  let answeringEnded = false;
  void answering.session.raw.ended.then(() => (answeringEnded = true));
  while (!answeringEnded && (answering.pings() < 5 || performance.now() - started < 3_000)) await pass(50);
  t.notOk(answeringEnded, `one that answers stays, and is pinged again: ${answering.pings()} times`);
  stop = true;
  await talk;
  answering.session.raw.destroy();
});

t.test("more sockets than the node may hold are refused with 503, until one goes", async (t) => {
  const node = await startNode(t, { socketsMax: 5 });
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
  const node = await startNode(t, { frameBytesMax: 2_048, roomsPerSessionMax: 7, roomNameBytesMax: 33, commandsPerSecond: 44, heartbeatMs: 5_555 });
  const limits = { maxFrameBytes: 2_048, maxRooms: 7, maxRoomNameBytes: 33, commandsPerSecond: 44, heartbeatMs: 5_555 };
  t.match((await open(node)).ready, limits);
  t.match((await open(node, { json: true })).ready, limits);
});

t.test("rooms of a session, bytes of a room's name and rooms of the node are limited", async (t) => {
  const node = await startNode(t, { roomsPerSessionMax: 3, roomNameBytesMax: 10, roomsMax: 4 });
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

t.test("a frame may be as large as the limit and no larger", async (t) => {
  const node = await startNode(t, { frameBytesMax: 1_024 });
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
  await inJson.sendMessage(JSON.stringify({ id: 9, echo: { data: "x".repeat(1_024) } }));
  t.strictSame(await inJson.closed(), closed("frame_too_large"));
});

t.test("commands per second: twice as many at once, then as they come; 0 is no limit", async (t) => {
  const node = await startNode(t, { commandsPerSecond: 10 });
  const session = await open(node);
  const many = async (count: number): Promise<number> =>
    (await Promise.all(Array.from({ length: count }, () => pings(session)))).filter(Boolean).length;
  const started = performance.now();
  const atOnce = await many(30);
  const earned = Math.ceil((performance.now() - started) / 100);
  t.ok(atOnce >= 20 && atOnce <= 20 + earned, `20 at once: ${atOnce}`);
  await pass(1_000);
  const afterwards = await many(15);
  const since = Math.ceil((performance.now() - started) / 100);
  t.ok(afterwards >= 10 && atOnce + afterwards <= 20 + since, `10 more after a second: ${afterwards}`);

  const unlimited = await startNode(t, { commandsPerSecond: 0 });
  const free = await open(unlimited);
  const answers = await Promise.all(Array.from({ length: 5_000 }, () => pings(free)));
  t.ok(answers.every(Boolean), "all of 5,000 are answered");
});

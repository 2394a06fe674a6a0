/** Raw TCP: the same sessions as on WebSockets, on a stream of bytes that may be cut anywhere. */
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { resolveConfig } from "../src/config/config.ts";
import { canSharePorts } from "../src/platform/machine.ts";
import { BufferPool } from "../src/protocol/framing.ts";
import type { Reactor } from "../src/reactor/reactor.ts";
import { createSession } from "../src/reactor/session/session.ts";
import { TcpAudience } from "../src/reactor/transport/tcpaudience.ts";
import { TcpSocket } from "../src/reactor/transport/tcpsocket.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { connectTcp, exchange, within } from "./support/rawsocket.ts";
import { openTcp, rawTcp } from "./support/rawtcp.ts";
import { open, openOn, seen, type TestSession } from "./support/session.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { until } from "./support/until.ts";
import { binaryReader, encodeBinary, lengthPrefixed } from "./support/wire.ts";

const start = (t: Pick<Test, "teardown">, options: NodeOptions = {}) => startNode(t, { tcpPort: 0, ...options });
/** Tests share nodes, for to start one takes longer than they do; on `quiet` sockets are counted. */
const [shared, quiet, hurried, patient, unlimited] = await Promise.all([
  start(t),
  start(t),
  start(t, { reactors: 1, handshakeTimeoutMs: 500, heartbeatMs: 300, heartbeatGraceMs: 300 }),
  start(t, { reactors: 1, heartbeatMs: 300, heartbeatGraceMs: 60_000 }),
  start(t, { reactors: 1, socketQueueBytesMax: 256 * 1024, commandsPerSecond: 0, bytesPerSecond: 0 }),
]);
const words = ({ publications }: TestSession) => publications.map(({ payload }) => JSON.parse(payload.toString()) as string);
const helloBytes = encodeBinary({ id: 1, hello: { version: 1 } });

function resumeOf({ ready }: TestSession, room: string, position: { epoch: string; seq: number }) {
  return { resume: { session: ready!.session!, token: ready!.resumeToken!, positions: [{ room, position }] } };
}

// --------------------------------------------------------------------------------- the same session

t.test("members on TCP and on WebSockets of both forms get the same publications in the same order, whoever publishes", async (t) => {
  const node = shared;
  const members = await Promise.all([openTcp(node), openTcp(node), open(node), open(node, { json: true })]);
  for (const member of members) await member.join("chat:a");
  const each = 50;
  await Promise.all(members.map(async (member, m) => {
    for (let i = 0; i < each; i++) await member.publish("chat:a", JSON.stringify(`${m}-${i}`), { excludeSelf: false });
  }));
  for (const member of members) await member.waitFor(() => member.publications.length === 4 * each, "all of them");
  const [first, ...others] = members.map(words);
  t.equal(new Set(first).size, 4 * each);
  for (const other of others) t.same(other, first);
  const prevs = members[0]!.publications.map(({ prev, seq }) => seq - prev);
  t.ok(prevs.every((step) => step === 1), "and without a gap");
});

t.test("a publisher that excludes itself is left out, on TCP as on a WebSocket, and nobody else is", async (t) => {
  const node = shared;
  const members = await Promise.all([openTcp(node), openTcp(node), open(node), open(node)]);
  for (const member of members) await member.join("chat:a");
  await members[0]!.publish("chat:a", '"tcp"', { excludeSelf: true });
  await members[2]!.publish("chat:a", '"websocket"', { excludeSelf: true });
  await members[1]!.publish("chat:a", '"last"');
  for (const member of members) await member.waitFor(() => words(member).includes("last"));
  t.same(members.map(words), [["websocket", "last"], ["tcp", "websocket", "last"], ["tcp", "last"], ["tcp", "websocket", "last"]]);
});

for (const [from, to] of [["TCP", "WebSocket"], ["WebSocket", "TCP"]] as const) {
  t.test(`a session begun on ${from} is resumed on ${to} with what it missed`, async (t) => {
    const node = shared;
    const away = from === "TCP" ? await openTcp(node) : await open(node);
    const beside = await openTcp(node);
    const { position } = await away.join("chat:a");
    await beside.join("chat:a");
    away.raw.destroy();
    await away.raw.ended;
    for (let i = 0; i < 40; i++) await beside.publish("chat:a", JSON.stringify(`missed ${i}`));
    const hello = resumeOf(away, "chat:a", position);
    const back = to === "TCP" ? await openTcp(node, { hello }) : await open(node, { hello });
    t.equal(back.ready?.resumed, true);
    await beside.publish("chat:a", '"live"');
    await back.waitFor(() => back.publications.length === 41, "all of them");
    t.same(words(back), [...Array.from({ length: 40 }, (_, i) => `missed ${i}`), "live"]);
  });
}

t.test("every command is answered on TCP: join, history, leave, ping, echo, an error; and bye with code 1000", async (t) => {
  const node = shared;
  const session = await openTcp(node);
  await session.join("chat:every");
  const position = await session.publish("chat:every", '"one"', { key: "k" });
  t.same(await session.publish("chat:every", '"one"', { key: "k" }), position);
  t.equal((await session.request({ history: { room: "chat:every" } })).history?.publications?.length, 1);
  t.match(await session.request({ ping: { time: 7 } }), { pong: { time: 7 } });
  t.match(await session.request({ echo: { payload: Buffer.from("x") } }), { echo: { payload: Buffer.from("x") } });
  t.match(await session.request({ publish: { room: "nobody:knows", payload: Buffer.from("x") } }), { error: { code: "unknown_namespace" } });
  t.match(await session.leave("chat:every"), { left: { room: "chat:every" } });
  t.same(await session.bye(), { code: 1000, reason: "bye" });
});

// ------------------------------------------------------------------------------- cut anywhere

t.test("frames may come one byte at a time", async (t) => {
  const node = shared;
  const session = await openTcp(node, { chop: 1 });
  await session.join("chat:a");
  const text = JSON.stringify("x".repeat(3000));
  await session.publish("chat:a", text);
  await session.waitFor(() => session.publications.length === 1);
  t.equal(session.publications[0]?.payload.toString(), text);
});

t.test("a conversation may be cut in two at any byte", async (t) => {
  const node = shared;
  const talk = Buffer.concat([
    helloBytes,
    encodeBinary({ id: 2, join: { room: "live:a" } }),
    encodeBinary({ id: 3, echo: { payload: Buffer.from("abc") } }),
    encodeBinary({ id: 4, ping: { time: 1 } }),
  ]);
  for (let at = 0; at <= talk.length; at++) {
    const tcp = await connectTcp(node.tcpPort!);
    const read = binaryReader();
    const ids: number[] = [];
    tcp.on("data", (chunk: Buffer) => ids.push(...read(chunk).map(({ id }) => id ?? 0).filter((id) => id !== 0)));
    tcp.write(talk.subarray(0, at));
    await new Promise((resolve) => setImmediate(resolve));
    tcp.write(talk.subarray(at));
    await until(() => ids.length === 4, `four answers, cut at ${at}`);
    t.same(ids.sort(), [1, 2, 3, 4]);
    tcp.destroy();
  }
});

// ------------------------------------------------------------------------------------ half-close

t.test("a client that closes its half after its commands has them answered; then the socket ends without a code", async (t) => {
  const node = shared;
  const commands = Array.from({ length: 60 }, (_, i) =>
    encodeBinary({ id: 10 + i, publish: { room: "chat:a", payload: Buffer.from(`"${i}"`), format: 1 } }));
  const raw = rawTcp(await connectTcp(node.tcpPort!));
  const session = await openOn(raw, { hello: null });
  await raw.write(Buffer.concat([helloBytes, encodeBinary({ id: 2, join: { room: "chat:a" } }), ...commands]));
  raw.half();
  t.equal(await session.closed(), "dropped", "no closed frame: nothing went wrong");
  t.equal(session.events.filter(({ published }) => published).length, 60);
  t.equal(session.publications.length, 60, "and what it published came back, for it was in the room");
  const [{ ready } = {}] = session.events;
  const back = await openTcp(node, { hello: { resume: { session: ready!.session!, token: ready!.resumeToken!, positions: [] } } });
  t.equal(back.ready?.resumed, true, "the session is kept");
});

t.test("after bye and a half-close the session is over", async (t) => {
  const node = shared;
  const session = await openTcp(node);
  await session.send({ bye: {} });
  session.raw.half();
  t.same(await session.closed(), { code: 1000, reason: "bye" });
  const { session: id, resumeToken } = session.ready!;
  const again = await openTcp(node, { hello: { resume: { session: id!, token: resumeToken!, positions: [] } } });
  t.not(again.ready?.resumed, true);
});

t.test("a connection closed before hello, or in the middle of a frame, is closed and forgotten", async (t) => {
  const node = quiet;
  for (const bytes of [Buffer.alloc(0), helloBytes.subarray(0, 3), helloBytes.subarray(0, 6)]) {
    const raw = rawTcp(await connectTcp(node.tcpPort!));
    await raw.write(bytes);
    raw.half();
    t.equal(await raw.closed(), "dropped");
  }
  await untilMetric(node, "flux_sockets", 0);
});

async function untilMetric(node: { metrics(): Promise<string> }, name: string, wanted: number): Promise<void> {
  await within((async () => {
    while (sumOf(await node.metrics(), name) !== wanted) await sleep(20);
  })(), `${name} to become ${wanted}`);
}

// ----------------------------------------------------------------------------------------- bad input

const bad: [what: string, bytes: Buffer, ending: { code: number; reason: string }][] = [
  ["an HTTP request", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), { code: 3503, reason: "frame_too_large" }],
  ["a frame that announces 4 GiB", Buffer.from("ffffffff00", "hex"), { code: 3503, reason: "frame_too_large" }],
  ["bytes that are no protobuf", lengthPrefixed(Buffer.from("ffffffffff", "hex")), { code: 3501, reason: "bad_frame" }],
  ["a join before hello", encodeBinary({ id: 1, join: { room: "a" } }), { code: 3506, reason: "not_hello" }],
  ["another version", encodeBinary({ id: 1, hello: { version: 9 } }), { code: 3502, reason: "unsupported_version" }],
  ["a token that is none", encodeBinary({ id: 1, hello: { version: 1, resume: { session: "x".repeat(9), token: "y" } } }), { code: 0, reason: "" }],
];

t.test("what is wrong on TCP is told in a closed frame", async (t) => {
  const node = quiet;
  for (const [what, bytes, ending] of bad) {
    const raw = rawTcp(await connectTcp(node.tcpPort!));
    await raw.write(bytes);
    if (ending.code === 0) {
      const session = await openOn(raw, { hello: null });
      await session.waitFor(() => session.events.length > 0);
      t.ok(session.events[0]?.ready, "a forged resume begins a new session where anonymous use is allowed");
      raw.destroy();
    } else t.same(await raw.closed(), ending, what);
  }
  const session = await openTcp(node);
  await session.raw.write(Buffer.from("01000000", "hex"));
  t.same(await session.closed(), { code: 3503, reason: "frame_too_large" }, "in a session too");
  await untilMetric(node, "flux_sockets", 0);
});

t.test("random bytes close their own socket and harm nobody", async (t) => {
  const node = shared;
  const beside = await openTcp(node);
  let seed = 7;
  const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) >>> 16 & 255;
  for (let i = 0; i < 50; i++) {
    const raw = rawTcp(await connectTcp(node.tcpPort!));
    const body = Buffer.from(Array.from({ length: 40 }, random));
    await raw.write(i % 2 === 0 ? lengthPrefixed(body) : Buffer.concat([helloBytes, lengthPrefixed(body)]));
    raw.half();
    await raw.closed();
  }
  t.ok((await beside.request({ ping: {} })).pong);
});

t.test("clients that say one byte at a time, or nothing, are closed when the handshake's time is over", async (t) => {
  const node = hurried;
  const drip = await connectTcp(node.tcpPort!);
  const dripping = rawTcp(drip);
  let at = 0;
  const timer = setInterval(() => drip.write(helloBytes.subarray(at, ++at)), 100);
  const silent = rawTcp(await connectTcp(node.tcpPort!));
  t.same(await silent.closed(), { code: 3000, reason: "handshake_timeout" });
  t.same(await dripping.closed(), { code: 3000, reason: "handshake_timeout" });
  clearInterval(timer);
});

t.test("a silent session is closed, and so is one that sends a frame a byte at a time for ever; one that pings is not", async (t) => {
  // On a slow machine a ping may come too late for a grace as short as theirs, so it is on a node with a longer one.
  const node = hurried;
  const silent = await openTcp(node);
  const dripping = await openTcp(node);
  const frame = encodeBinary({ echo: { payload: Buffer.alloc(60_000) } });
  let at = 0;
  const drips = setInterval(() => void dripping.raw.write(frame.subarray(at, ++at)), 50);
  const pinging = await openTcp(patient);
  const timer = setInterval(() => void pinging.send({ ping: {} }), 50);
  t.same(await silent.closed(), { code: 3012, reason: "no_heartbeat" });
  t.same(await dripping.closed(), { code: 3012, reason: "no_heartbeat" });
  clearInterval(drips);
  t.ok((await pinging.request({ ping: {} })).pong);
  clearInterval(timer);
  pinging.raw.destroy();
});

t.test("a reader that takes nothing is closed once more than its queue's bound waits, told why, and can recover", async (t) => {
  const node = unlimited;
  const slow = await openTcp(node);
  const publisher = await openTcp(node, { keep: false });
  const { position } = await slow.join("chat:a");
  await publisher.join("chat:a");
  slow.raw.pause();
  const payload = JSON.stringify("x".repeat(16_000));
  let sent = 0;
  const slowed = async () => sumOf(await node.metrics(), "flux_slow_consumers_total") > 0;
  while (!(await slowed()) && sent < 3000) for (let i = 0; i < 20; i++, sent++) await publisher.publish("chat:a", payload);
  t.ok(await slowed(), `${sent} publications`);
  slow.raw.resume();
  t.same(await slow.closed(), { code: 3008, reason: "slow_consumer" });
  const last = slow.publications.at(-1);
  const back = await openTcp(node, { hello: resumeOf(slow, "chat:a", last ? seen(last) : position) });
  t.equal(back.ready?.resumed, true);
  t.ok((await publisher.request({ ping: {} })).pong, "the others go on");
});

t.test("a client that asks without end and takes no answer is not read any more: its answers stay bounded", async (t) => {
  const node = unlimited;
  const beside = await openTcp(node);
  const greedy = await openTcp(node);
  greedy.raw.pause();
  const slowBefore = sumOf(await node.metrics(), "flux_slow_consumers_total");
  const before = sumOf(await node.metrics(), "flux_bytes_received_total");
  const flood = Buffer.concat(Array.from({ length: 64 }, (_, i) => encodeBinary({ id: i + 1, echo: { payload: Buffer.alloc(16_000) } })));
  // 64 MiB at the most, of which the node takes what fits its queue and the kernel's.
  void (async () => {
    for (let i = 0; i < 64; i++) await greedy.raw.write(flood);
  })();
  let received = 0;
  await until(() => {
    void node.metrics().then((text) => (received = sumOf(text, "flux_bytes_received_total") - before));
    return received > 100_000;
  }, "the node to read some of it");
  let last = -1;
  while (last !== received) {
    last = received;
    await new Promise((resolve) => setTimeout(resolve, 300));
    received = sumOf(await node.metrics(), "flux_bytes_received_total") - before;
  }
  t.ok(received < 32 * 1024 * 1024, `${received} of ${64 * flood.length} bytes were read`);
  t.ok((await beside.request({ ping: {} })).pong);
  t.equal(sumOf(await node.metrics(), "flux_slow_consumers_total"), slowBefore, "it is held, not cut off");
  greedy.raw.resume();
  await greedy.waitFor(() => greedy.events.length > 1000, "its answers, once it reads");
  greedy.raw.destroy();
});

t.test("a session that floods with commands is refused, then closed 3013", async (t) => {
  const node = await start(t, { commandsPerSecond: 50 });
  const session = await openTcp(node);
  await session.raw.write(Buffer.concat(Array.from({ length: 500 }, (_, i) => encodeBinary({ id: i + 1, ping: {} }))));
  t.same(await session.closed(), { code: 3013, reason: "rate_limited" });
  t.ok(session.events.some(({ error }) => error?.code === "rate_limited"));
});

// --------------------------------------------------------------------------------------- the node

t.test("sockets of both transports count into socketsMax; one too many on TCP is told overloaded", async (t) => {
  const node = await start(t, { socketsMax: 2 });
  const first = await openTcp(node);
  const second = await open(node);
  t.same(await rawTcp(await connectTcp(node.tcpPort!)).closed(), { code: 3014, reason: "overloaded" });
  const text = await node.metrics();
  t.match(text, /flux_transport_sockets\{reactor="\d",transport="tcp"\} 1/);
  t.equal(sumOf(text, "flux_transport_sockets"), 2);
  first.raw.destroy();
  await untilMetric(node, "flux_sockets", 1);
  t.ok(await openTcp(node));
  second.raw.destroy();
});

t.test("a reactor that fails and is replaced listens again; a node that closes tells its clients to come back", async (t) => {
  const node = await start(t);
  await openTcp(node);
  node.failReactor(0);
  await untilMetric(node, "flux_reactor_restarts_total", 1);
  await untilMetric(node, "flux_reactors", 2);
  const session = await openTcp(node);
  await Promise.all([node.close(), session.closed().then((ending) => t.same(ending, { code: 3001, reason: "shutdown" }))]);
});

t.test("without the option there is no TCP port; one that is taken is refused by name", async (t) => {
  t.equal(resolveConfig().config.tcpPort, null);
  t.equal(resolveConfig({ flags: { tcpPort: "off" } }).config.tcpPort, null);
  const { tcpPort } = shared;
  await t.rejects(startNode(t, { tcpPort }), { message: new RegExp(`^--tcp-port ${tcpPort}: another process listens`) });
});

t.test("reactors share the TCP port where this Node can", async (t) => {
  const answers = { "20.20.2": false, "22.11.9": false, "22.12.0": true, "23.0.1": false, "23.1.0": true, "24.0.0": true };
  for (const [version, answer] of Object.entries(answers)) t.equal(canSharePorts(version, "linux"), answer, version);
  t.equal(canSharePorts("24.0.0", "darwin"), false);
  const node = quiet;
  await Promise.all(Array.from({ length: 40 }, () => openTcp(node)));
  const counts = [...(await node.metrics()).matchAll(/flux_transport_sockets\{reactor="\d",transport="tcp"\} (\d+)/g)].map(([, n]) => Number(n));
  t.equal(counts.reduce((sum, n) => sum + n), 40);
  t.equal(counts.filter((n) => n > 0).length, canSharePorts() ? 2 : 1, `on ${counts.join(", ")}`);
});

t.test("what is no frame at all is answered as one", async (t) => {
  const node = shared;
  const answer = await exchange(node.tcpPort!, "hello?\n");
  t.match(binaryReader()(answer), [{ closed: { code: 3503 } }]);
});

t.test("a client that reads slowly is read again when it has read a part: it used to be closed, though it sent pings", (t) => {
  const callbacks: (() => void)[] = [];
  const stream = Object.assign(new EventEmitter(), {
    writableLength: 0, paused: false,
    write(bytes: Uint8Array, written: () => void) {
      this.writableLength += bytes.length;
      callbacks.push(written);
    },
    cork() {}, uncork() {},
    isPaused() {
      return this.paused;
    },
    pause() {
      this.paused = true;
    },
    resume() {
      this.paused = false;
    },
  });
  let [drained, heard] = [0, 0];
  const reactor = {
    config: { socketQueueBytesMax: 1 << 20, bytesPerSecond: 0, frameBytesMax: 65_536 }, counters: { addAt: () => {} }, pool: new BufferPool(65_536),
    heartbeat: { heard: () => heard++ }, rooms: { drained: () => drained++ },
  } as unknown as Reactor;
  const audience = new TcpAudience();
  const session = createSession(audience, 0, "", "");
  session.state = "ready";
  const socket = new TcpSocket(reactor, session, audience, stream as unknown as Socket);
  session.socket = socket;
  const read = (bytes: number) => {
    stream.writableLength -= bytes;
    callbacks.at(-1)!();
  };
  socket.deliver(Buffer.alloc(100_000));
  stream.emit("data", Buffer.from([0]));
  t.ok(stream.paused, "with so much queued");
  socket.deliver(Buffer.alloc(20_000));
  heard = 0;
  read(50_000);
  t.ok(stream.paused && heard === 1, "what it takes is a sign of life");
  read(50_000);
  t.notOk(stream.paused, "20,000 bytes are queued");
  t.equal(drained, 1);
  socket.deliver(Buffer.alloc(100_000));
  session.state = "closing";
  stream.paused = true;
  read(100_000);
  t.ok(stream.paused, "a session that closes waits for all of it");
  read(20_000);
  t.notOk(stream.paused, "also where little was left when it began to close");
  session.socket = null; // nobody is there to be closed
  t.end();
});

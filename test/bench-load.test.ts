import t, { type Test } from "tap";
import fc from "fast-check";
import { createServer, type Server, type Socket } from "node:net";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { WebSocketServer } from "ws";
import { micros, offsetOf, stamp } from "../bench/load/clock.ts";
import type { Ear } from "../bench/load/conversation.ts";
import { binaryEventBytes, FluxConversation, readFrame, type Read } from "../bench/load/flux.ts";
import { FluxJsonArraysConversation, FluxJsonConversation, jsonEventBytes } from "../bench/load/fluxjson.ts";
import { pace } from "../bench/load/pace.ts";
import { binaryPayload, readHex, textPayload, writePayload } from "../bench/load/payload.ts";
import { PlainConversation, PlainTextConversation } from "../bench/load/plain.ts";
import { ClientSocket, type Listener, ReadBuffer } from "../bench/load/socket.ts";
import { SocketIoConversation } from "../bench/load/socketio.ts";
import { TallyEar } from "../bench/load/tallying.ts";
import { cutFrames, maskedFrame, opcodes } from "../bench/load/websocket.ts";
import { parseMetrics, byLabel, gauge } from "../bench/scrape.ts";
import { thisMachine } from "../bench/report/machine.ts";
import { costModel, hotRoom, idleCrowd } from "../bench/report/model.ts";
import { added, type Run } from "../bench/report/results.ts";
import { rowTable } from "../bench/report/table.ts";
import { connectRows } from "../bench/rows/connects.ts";
import { type RowSummary, spreadOf, summarize, type Measurement } from "../bench/report/summary.ts";
import { speedPage } from "../bench/report/tables.ts";
import { fanoutRow } from "../bench/rows/fanout.ts";
import { speedRows } from "../bench/rows/speed.ts";
import { frame } from "../src/protocol/framing.ts";
import { binary } from "../src/protocol/formats/binary.ts";
import { formats } from "../src/protocol/formats/formats.ts";
import { json } from "../src/protocol/formats/json.ts";
import { encoded, messageOf } from "./support/publications.ts";
import { Format, ServerFrame } from "../src/protocol/messages.ts";

const measured = { date: "2026-11-29T20:00:00Z", commit: "abcdef0", rounds: 3 };

type Cut = { first: number; payload: string };

/** Feeds `bytes` in pieces as ClientSocket does: what is not consumed is put in front of the next piece. */
function cutInPieces(bytes: Buffer, sizes: readonly number[]): Cut[] {
  const cuts: Cut[] = [];
  const sink = { frame: (first: number, of: Buffer, start: number, end: number) => void cuts.push({ first, payload: of.toString("hex", start, end) }) };
  let left = Buffer.alloc(0);
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    const piece = Buffer.concat([left, bytes.subarray(at, at + size)]);
    left = Buffer.from(piece.subarray(cutFrames(piece, 0, piece.length, sink)));
    at += size;
  }
  if (left.length > 0) throw new Error(`${left.length} bytes are left over`);
  return cuts;
}

/** A server's frame: as the client writes it, without the mask. */
function serverFrame(first: number, payload: Buffer): Buffer {
  const header = payload.length < 126 ? Buffer.from([first, payload.length]) : Buffer.alloc(payload.length < 65536 ? 4 : 10);
  if (payload.length >= 126) {
    header[0] = first;
    header[1] = header.length === 4 ? 126 : 127;
    if (header.length === 4) header.writeUInt16BE(payload.length, 2);
    else header.writeBigUInt64BE(BigInt(payload.length), 2);
  }
  return Buffer.concat([header, payload]);
}

t.test("frames of all three length forms are cut, however the bytes arrive", async (t) => {
  const sizes = fc.oneof(fc.nat({ max: 200 }), fc.constantFrom(0, 125, 126, 127, 65535, 65536));
  const pieces = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(fc.array(sizes, { minLength: 1, maxLength: 6 }), pieces, (lengths, pieceSizes) => {
      const frames = lengths.map((length, i) => ({ first: 0x80 | (i % 2 === 0 ? opcodes.binary : opcodes.text), payload: Buffer.alloc(length, i + 1) }));
      const cuts = cutInPieces(Buffer.concat(frames.map(({ first, payload }) => serverFrame(first, payload))), pieceSizes);
      return JSON.stringify(cuts) === JSON.stringify(frames.map(({ first, payload }) => ({ first, payload: payload.toString("hex") })));
    }),
    { numRuns: 60 },
  );
  const oneByOne = serverFrame(0x82, Buffer.from("hello"));
  t.same(cutInPieces(oneByOne, [1]), [{ first: 0x82, payload: Buffer.from("hello").toString("hex") }]);
  t.throws(() => cutInPieces(Buffer.from("8281000000002a", "hex"), [100]), /masked/, "81: one byte, masked");
});

t.test("masked frames are read by the ws package as they were meant", async (t) => {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  t.teardown(() => server.close());
  await once(server, "listening");
  const echoes: string[] = [];
  const payloads = [0, 1, 125, 126, 65535, 65536, 100_000].map((length) => Buffer.alloc(length, length % 251));
  server.on("connection", (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));

  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not listening");
  const { port } = address;
  await new Promise<void>((resolve, reject) => {
    const listener: Listener = {
      chunk: () => {},
      opened: () => payloads.forEach((payload) => socket.send(opcodes.binary, payload)),
      message: (_opcode, bytes, start, end) => {
        echoes.push(bytes.toString("hex", start, end));
        if (echoes.length === payloads.length) resolve();
      },
      closed: (reason) => reject(new Error(reason)),
    };
    const socket = new ClientSocket({ host: "127.0.0.1", port, path: "/", localAddress: "127.0.0.1", subprotocol: null }, new ReadBuffer(), listener);
    t.teardown(() => socket.close());
  });
  t.same(echoes, payloads.map((payload) => payload.toString("hex")));
});

/** Answers the upgrade and then writes what it is told, `gap` bytes at a time. `received`: by the end of the socket. */
async function scriptedServer(t: Test, bytes: Buffer, gap: number): Promise<{ port: number; received: Promise<Buffer> }> {
  let resolveReceived: (bytes: Buffer) => void = () => {};
  const received = new Promise<Buffer>((resolve) => (resolveReceived = resolve));
  let read = Buffer.alloc(0);
  const server: Server = createServer((socket: Socket) => {
    socket.setNoDelay(true);
    let upgraded = false;
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolveReceived(read));
    socket.on("data", (chunk: Buffer) => {
      if (upgraded) read = Buffer.concat([read, chunk]);
      else {
        upgraded = true;
        const key = /Sec-WebSocket-Key: (\S+)/.exec(chunk.toString())?.[1] ?? "";
        const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
        const head = Buffer.from(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
        void trickle(socket, Buffer.concat([head, bytes]), gap);
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not listening");
  return { port: address.port, received };
}

async function trickle(socket: Socket, bytes: Buffer, gap: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += gap) {
    socket.write(bytes.subarray(at, at + gap));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

type Heard = { messages: string[]; closed: string };

function listen(t: Test, port: number): Promise<Heard> {
  const heard: Heard = { messages: [], closed: "" };
  return new Promise((resolve) => {
    const listener: Listener = {
      chunk: () => {},
      opened: () => {},
      message: (opcode, bytes, start, end) => void heard.messages.push(`${opcode}:${bytes.toString("utf8", start, end)}`),
      closed: (closed) => resolve({ ...heard, closed }),
    };
    const socket = new ClientSocket({ host: "127.0.0.1", port, path: "/", localAddress: "127.0.0.1", subprotocol: null }, new ReadBuffer(), listener);
    t.teardown(() => socket.close());
  });
}

t.test("a socket joins fragments, answers a ping between them and tells the close, byte by byte", async (t) => {
  const conversation = Buffer.concat([
    serverFrame(0x01, Buffer.from("frag")), // text, not final
    serverFrame(0x89, Buffer.from("p?")), // ping
    serverFrame(0x80, Buffer.from("ments")), // continuation, final
    serverFrame(0x82, Buffer.from("whole")),
    serverFrame(0x88, Buffer.from("0bc06f7665726c6f61646564", "hex")), // close 3008 "overloaded"
  ]);
  for (const gap of [1, 7, 100_000]) {
    const { port, received } = await scriptedServer(t, conversation, gap);
    const heard = await listen(t, port);
    t.same(heard, { messages: ["1:fragments", "2:whole"], closed: "the server closed with 3008 overloaded" });
    t.equal((await received).toString("hex"), maskedFrame(opcodes.pong, Buffer.from("p?")).toString("hex"), "the pong has the ping's payload");
  }
});

t.test("a message longer than a read is handed over in one piece", async (t) => {
  const long = Buffer.alloc(300_000, "x");
  const { port } = await scriptedServer(t, Buffer.concat([serverFrame(0x82, long), serverFrame(0x88, Buffer.alloc(0))]), 50_000);
  const { messages } = await listen(t, port);
  t.equal(messages.length, 1);
  t.equal(messages[0]?.length, "2:".length + long.length);
});

t.test("a server that refuses the upgrade is named", async (t) => {
  const server = createServer((socket) => socket.end("HTTP/1.1 503 Service Unavailable\r\n\r\n"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not listening");
  t.equal((await listen(t, address.port)).closed, "upgrade rejected: HTTP/1.1 503 Service Unavailable");
});

type Delivery = { counter: number; sentAt: number; chained: boolean };

function ear(): { ear: Ear; deliveries: Delivery[]; events: string[] } {
  const deliveries: Delivery[] = [];
  const events: string[] = [];
  return {
    deliveries,
    events,
    ear: {
      ready: (socket) => void events.push(`ready ${socket}`),
      delivered: (_socket, counter, sentAt, chained) => void deliveries.push({ counter, sentAt, chained }),
      refused: (_socket, text) => void events.push(`refused ${text}`),
    },
  };
}

function payload(counter: number, sentAt: number): Buffer {
  const bytes = binaryPayload();
  writePayload(bytes, 0, counter, sentAt);
  return bytes;
}

function publication(counter: number, seq: number, prev: number): Uint8Array {
  const fields = { room: "live:bench", epoch: "e", seq, prev, sender: "anon", time: 1_700_000_000_000, payload: payload(counter, 7), format: 0 };
  return frame(ServerFrame.encode({ publication: fields }).finish());
}

t.test("the reader by hand finds in every publication and echo what the generated code wrote", async (t) => {
  const into: Read = { event: 0, seq: 0, prev: 0, payloadAt: 0, payloadBytes: 0 };
  const uint64 = fc.oneof(fc.nat(), fc.constantFrom(0, 127, 128, 2 ** 32, Number.MAX_SAFE_INTEGER));
  fc.assert(
    fc.property(fc.string(), fc.string(), uint64, uint64, fc.uint8Array({ minLength: 1, maxLength: 300 }), (room, sender, seq, prev, bytes) => {
      const encoded = ServerFrame.encode({ id: 9, publication: { room, epoch: "e", seq, prev, sender, time: prev, payload: bytes, format: 1 } }).finish();
      readFrame(encoded, 0, encoded.length, into);
      const found = Buffer.from(encoded.subarray(into.payloadAt, into.payloadAt + into.payloadBytes));
      return into.event === 10 && into.seq === seq && into.prev === prev && found.equals(bytes);
    }),
  );
  const echo = ServerFrame.encode({ id: 3, echo: { payload: payload(5, 6), format: 1 } }).finish();
  readFrame(echo, 0, echo.length, into);
  t.match(into, { event: 8, payloadBytes: 128 });
  t.throws(() => readFrame(echo, 0, echo.length - 1, into), /longer than its message/);
});

t.test("a flux conversation reads frames packed in one message and split over two, and notices a gap in prev", async (t) => {
  const { ear: listening, deliveries, events } = ear();
  const conversation = new FluxConversation(4, "member", listening);
  const hear = (bytes: Uint8Array): void => conversation.hear(opcodes.binary, Buffer.from(bytes), 0, bytes.length);
  hear(frame(ServerFrame.encode({ id: 1, ready: { session: "s" } }).finish()));
  t.same(events, [], "ready is not joined");
  hear(frame(ServerFrame.encode({ id: 2, joined: { room: "live:bench", position: { epoch: "e", seq: 10 } } }).finish()));
  t.same(events, ["ready 4"]);

  const stream = Buffer.concat([publication(1, 11, 10), publication(2, 12, 11), publication(3, 14, 13)]);
  hear(stream.subarray(0, 200));
  hear(stream.subarray(200, 203));
  hear(stream.subarray(203));
  t.same(deliveries, [
    { counter: 1, sentAt: 7, chained: true },
    { counter: 2, sentAt: 7, chained: true },
    { counter: 3, sentAt: 7, chained: false },
  ]);
  hear(frame(ServerFrame.encode({ error: { code: "rate_limited", text: "too fast" } }).finish()));
  t.same(events.at(-1), "refused rate_limited: too fast");
});

t.test("plain and socket.io conversations read what they write", async (t) => {
  const plain = ear();
  new PlainConversation(0, "echo", plain.ear).hear(opcodes.binary, payload(3, 2 ** 32 - 1), 0, 128);
  t.same(plain.deliveries, [{ counter: 3, sentAt: 2 ** 32 - 1, chained: true }]);
  const fields = { room: "live:bench", epoch: "0FAtMtJy", seq: 12_345, prev: 12_344, sender: "bench-12345-1-999", time: 1_795_323_651_843, payload: payload(1, 7), format: 0 };
  t.equal(messageOf(formats.indexOf(binary), encoded(fields)).length, binaryEventBytes, "to a member a control sends as many bytes as flux-gateway");
  new PlainConversation(0, "member", plain.ear).hear(opcodes.binary, Buffer.concat([payload(4, 5), Buffer.alloc(binaryEventBytes - 128)]), 0, binaryEventBytes);
  t.same(plain.deliveries[1], { counter: 4, sentAt: 5, chained: true });

  const socketio = ear();
  const conversation = new SocketIoConversation(0, "member", socketio.ear);
  for (const text of ['0{"sid":"x"}', '40{"sid":"y"}', `42["m","${textPayload(0xabcdef12, 2 ** 32 - 1)}"]`]) {
    conversation.hear(opcodes.text, Buffer.from(text), 0, text.length);
  }
  t.same(socketio.events, ["ready 0"]);
  t.same(socketio.deliveries, [{ counter: 0xabcdef12, sentAt: 2 ** 32 - 1, chained: true }]);
  t.equal(readHex(Buffer.from("ffffffff"), 0), 2 ** 32 - 1);
});

t.test("a JSON conversation reads publications as the node writes them, notices a gap in prev, and bare uWS sends as many bytes", async (t) => {
  const { ear: listening, deliveries, events } = ear();
  const conversation = new FluxJsonConversation(4, "member", listening);
  const arrays = ear();
  const inArrays = new FluxJsonArraysConversation(4, "member", arrays.ear);
  const hear = (text: string): void => conversation.hear(opcodes.text, Buffer.from(`..${text}`), 2, 2 + text.length);
  const fields = { room: "live:bench", epoch: "0FAtMtJy", sender: "bench-12345-1-999", time: 1_795_323_651_843, format: Format.JSON };
  const event = (seq: number, prev: number, counter: number): string =>
    messageOf(formats.indexOf(json), encoded({ ...fields, seq, prev, payload: Buffer.from(JSON.stringify(textPayload(counter, 7))) })).toString();
  hear('{"id":2,"joined":{"room":"live:bench","position":{"epoch":"0FAtMtJy","seq":"12344"},"publications":[]}}');
  hear(event(12_345, 12_344, 1));
  hear(event(12_347, 12_346, 2));
  hear('{"error":{"code":"overloaded","text":"later","retryable":true}}');
  t.same(events, ["ready 4", "refused overloaded: later"]);
  t.same(deliveries, [{ counter: 1, sentAt: 7, chained: true }, { counter: 2, sentAt: 7, chained: false }]);
  t.equal(event(12_345, 12_344, 1).length, jsonEventBytes);
  const hearArray = (...frames: string[]): void => inArrays.hear(opcodes.text, Buffer.from(`..[${frames.join()}]`), 2, 4 + frames.join().length);
  hearArray('{"id":1,"ready":{}}');
  hearArray('{"id":2,"joined":{"room":"live:bench","position":{"epoch":"0FAtMtJy","seq":"9"},"publications":[]}}');
  hearArray(event(10, 9, 1), event(12, 11, 2), event(13, 12, 3));
  hearArray(event(14, 13, 4));
  t.same([arrays.events, arrays.deliveries], [["ready 4"], [1, 2, 3, 4].map((counter) => ({ counter, sentAt: 7, chained: counter !== 2 }))]);
  t.throws(() => hearArray(event(15, 14, 5), '{"left":{}}'), /something follows/);
  t.throws(() => hear(event(1, 0, 1).replace('"data":', '"b64":')), /lacks a field/);
  t.throws(() => hear(event(12_348, 12_347, 1).replace('"}}', '."}}')), /unknown payload/);
  const plain = ear();
  const text = Buffer.from(textPayload(3, 2 ** 32 - 1).padEnd(jsonEventBytes, "."));
  new PlainTextConversation(0, "member", plain.ear).hear(opcodes.text, text, 0, text.length);
  t.same(plain.deliveries, [{ counter: 3, sentAt: 2 ** 32 - 1, chained: true }]);
});

t.test("a tally counts what is lost, out of order and broken in the server's own numbers, each socket for itself", async (t) => {
  const shared = new Uint32Array(1);
  const tally = new TallyEar(shared);
  tally.makeRoom(2);
  tally.measure(micros() - 1e6);
  tally.chunk();
  const sentAt = stamp(micros());
  for (const counter of [1, 2, 5, 3, 6]) tally.delivered(0, counter, sentAt, counter !== 5);
  for (const counter of [1, 2, 3]) tally.delivered(1, counter, stamp(micros() - 2e6), true);
  t.match(tally.tally(0), { delivered: 8, lost: 2, disordered: 1, unchained: 1 });
  t.match(tally.tally(7), { lost: 2 + 1 + 4 }, "and what should have come by now");
  t.equal(tally.tally(0).latency.count, 5, "what was sent before measuring began has no latency");
  t.equal(shared[0], 8);
});

t.test("a tally of several publishers counts each of them for itself", async (t) => {
  const shared = new Uint32Array(1);
  const tally = new TallyEar(shared);
  tally.makeRoom(1);
  tally.measure(micros(), 3);
  tally.makeRoom(2);
  // Publishers 1 and 2 change places once; publisher 3 loses its second message, 6, and has 9 before 3's turn again.
  for (const counter of [1, 2, 3, 5, 4, 9, 7, 8]) tally.delivered(1, counter, 0, true);
  t.match(tally.tally(0), { delivered: 8, lost: 1, disordered: 0 });
  tally.delivered(1, 4, 0, true);
  t.match(tally.tally(0), { lost: 1, disordered: 1 }, "and what comes twice is seen");
});

t.test("pacing keeps the rate by the clock and says how late it was", async (t) => {
  const intended: number[] = [];
  const startAt = micros() + 5000;
  const lateness = await pace({ rate: 2000, count: 200, startAt }, 500, (_n, at) => void intended.push(at));
  const took = micros() - startAt;
  t.same(intended.slice(0, 3), [startAt, startAt + 500, startAt + 1000]);
  t.equal(lateness.count, 200);
  t.ok(took >= 199 * 500, "never early");
});

t.test("metrics are summed over labels and by label", async (t) => {
  const metrics = parseMetrics('# HELP x y\nflux_sockets{reactor="0",state="ready"} 3\nflux_sockets{reactor="1",state="ready"} 4\nup 1\n');
  t.equal(gauge(metrics, "flux_sockets"), 7);
  t.same([...byLabel(metrics, "flux_sockets", "reactor")], [["0", 3], ["1", 4]]);
  t.throws(() => gauge(metrics, "gone"), /no gone/);
});

t.test("a summary has medians over rounds, ratios within rounds, and judges bars by them", async (t) => {
  const scale = { seconds: 1, members: 10, sockets: 10, relaySamples: 1, profileDir: null };
  const one = (server: "flux" | "uws", round: number, cpuMicros: number, lost: number): Measurement =>
    ({ row: "fanout-100", server, round, values: { cpuMicros, lost, p99: Number.NaN } });
  const { servers, verdicts } = summarize(fanoutRow("binary", 100), scale, [
    one("flux", 0, 6, 0), one("uws", 0, 5, 0), one("flux", 1, 10, 0), one("uws", 1, 10, 0), one("flux", 2, 6, 2), one("uws", 2, 4, 0),
    { row: "fanout-100", server: "uws", round: 3, failed: "it broke" },
  ], measured);
  const [flux, uws] = servers;
  t.match(flux?.metrics, { cpuMicros: { median: 6, min: 6, max: 10 } });
  t.match(flux?.ratio, { median: 1.2, min: 1, max: 1.5 });
  t.notOk(flux?.metrics.p99, "what is not a number is not shown");
  t.same(uws?.failures, ["it broke"]);
  t.same(verdicts.map(({ bar, met }) => [bar.metric, met]), [["cpuMicros", false], ["lost", false]], "one lossy round is too many");
  t.equal(spreadOf([]), null);
  t.match(spreadOf([4, 1, 3, 2]), { median: 2.5, min: 1, max: 4 });
});

t.test("a bar can be a cost above bare uWS, in the same round", async (t) => {
  const row = connectRows.find(({ name }) => name === "connects-json-1000-token")!;
  const scale = { seconds: 1, members: 10, sockets: 10, relaySamples: 1, profileDir: null };
  const one = (server: "flux" | "uws", round: number, cpuMicros: number): Measurement => ({ row: row.name, server, round, values: { cpuMicros } });
  const rounds = [one("flux", 0, 260), one("uws", 0, 100), one("flux", 1, 400), one("uws", 1, 210), one("flux", 2, 900), one("uws", 2, 100)];
  const missed = summarize(row, scale, rounds, measured);
  t.match(missed.verdicts, [{ measured: 190, met: false }], "160, 190 and 800");
  t.match(rowTable(row, missed), /above bare uWS +│ +190\.0 │ +│ ≤ 180 ✗ MISSED/);
  t.match(summarize(row, scale, rounds.slice(0, 2), measured).verdicts, [{ measured: 160, met: true }]);
});

t.test("a round in which a server fell behind is compared with nothing", async (t) => {
  const [row] = speedRows;
  const scale = { seconds: 1, members: 10, sockets: 10, relaySamples: 1, profileDir: null };
  const one = (server: "flux" | "uws", round: number, cpuMicros: number, share: number): Measurement =>
    ({ row: row!.name, server, round, values: { cpuMicros, share } });
  const { servers, verdicts } = summarize(row!, scale, [
    one("flux", 0, 6, 100), one("uws", 0, 5, 99), one("flux", 1, 1, 60), one("uws", 1, 5, 100), one("flux", 2, 6, 100), one("uws", 2, 1, 125),
  ], measured);
  t.match(servers.map(({ server, roundsBehind }) => [server, roundsBehind]), [["flux", 1], ["uws", 1]]);
  t.match(servers[0]?.ratios.cpuMicros, { median: 1.2, min: 1.2, max: 1.2 });
  t.match(verdicts.find(({ bar }) => bar.of === "ratio"), { measured: 1.2 });
});

/** A row with one server, each of whose metrics had this median. */
function rowOf(row: RowSummary["row"], metrics: Record<string, number>, title = "100 members × 1,000/s, binary, 128 bytes, 10 publishers"): RowSummary {
  const spreads = Object.fromEntries(Object.entries(metrics).map(([key, median]) => [key, { median, min: median, max: median }]));
  return { row, title, measured, verdicts: [], servers: [{ server: "flux", metrics: spreads, ratio: null, ratios: {}, roundsBehind: 0, failures: [] }] };
}

const modelRows = [
  rowOf("speed-binary-10-1000", { cpuPublication: 150 }, "10 members × 1,000/s, binary, 128 bytes, 10 publishers"), rowOf("speed-binary-40-1000", { cpuPublication: 450 }),
  rowOf("speed-binary-1000-100", { cpuMicros: 6.5 }), rowOf("speed-binary-1000-2000", { cpuMicros: 0.5 }),
];

t.test("the cost model takes publications and deliveries apart, and computes what more cores would hold", async (t) => {
  t.equal(costModel(modelRows.slice(1)), null, "a row is missing");
  const model = costModel(modelRows);
  if (model === null) throw new Error("no model");
  t.match(model, { publication: 50, deliveryAlone: 6.5, deliveryShared: 0.5, connect: null }, "30 more deliveries cost 300 µs more: 10 µs each, so 100 of 150 µs");
  t.equal(idleCrowd(model, 1_000_000, 15), null, "connects were not measured");

  // 25,000 members, 6 µs a write, 0.5 µs a delivery: of a second 0.625 s are deliveries, and a round of writes takes 0.15 s.
  const room = hotRoom(model, { members: 100_000, rate: 50, reactors: 4 });
  t.equal(room?.roundSeconds.toFixed(3), "0.400");
  t.equal(room?.deliveriesPerWrite.toFixed(1), "20.0");
  t.equal(room?.cores.toFixed(2), "4.00", "they have no time left");
  t.equal(hotRoom(model, { members: 100_000, rate: 50, reactors: 2 }), null, "two cannot keep up: 1.25 s of work a second");
  const quiet = hotRoom(model, { members: 1000, rate: 10, reactors: 1 });
  t.same([quiet?.deliveriesPerWrite, quiet?.cores.toFixed(3)], [1, "0.065"], "each publication has a write of its own");
});

t.test("the page says what was measured, what fell behind, and what is missing", async (t) => {
  const run: Run = { machine: thisMachine(), scale: { seconds: 10, members: 1000, sockets: 10_000, relaySamples: 1, profileDir: null }, rounds: 3, rows: modelRows, measurements: [] };
  const behind = { ...modelRows[0]!.servers[0]!, roundsBehind: 2 };
  const page = speedPage({ ...run, rows: [{ ...modelRows[0]!, servers: [behind] }, ...modelRows.slice(1)] });
  t.match(page, /Measured on 2026-11-29, commit abcdef0, medians of 3 rounds/);
  t.match(page, /\| 10 members × 1,000\/s, binary \| – \| – \| –; flux-gateway fell behind in 2 \|/);
  t.match(page, /1,000,000 idle members: not computed/);
  t.match(page, /\*\*100,000 members × 50\/s from 4 reactors\*\*.*every 400 ms, with 20 publications/);
  t.match(page, /Computed, not measured/);
  t.notMatch(page, /### Peers/, "none were measured");

  const again = rowOf("speed-binary-1000-100", { cpuMicros: 6 });
  const both = added(run, { ...run, rows: [again] });
  t.same(both.rows.map(({ row }) => row).sort(), modelRows.map(({ row }) => row).sort(), "a row that was measured again takes the place of the old one");
  t.equal(both.rows.find(({ row }) => row === again.row), again);
});

t.test("a thread that waits for a core while it sets its clock is not behind the others, and used to be", async (t) => {
  let now = 1_000_000;
  let readings = 0;
  // The thread stands still for 20 ms after the first reading, and for 3 ms after another.
  const read = () => {
    const at = now;
    readings++;
    now += readings === 1 ? 20_000 : readings === 8 ? 3_000 : 1;
    return at;
  };
  const ahead = 400_000;
  const offset = offsetOf(read, () => read() - ahead);
  t.ok(Math.abs(offset - ahead) <= 1, `${offset}`);
});

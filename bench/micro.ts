/** One bench per function of the data path, with the function's name, for a publish and a publication of 128 bytes. */
import { bench, do_not_optimize, group, run } from "mitata";
import { xxh32 } from "../src/placement/hash.ts";
import { ownersOf } from "../src/placement/ring.ts";
import { createPlacement, PlacementWriter, SharedPlacement } from "../src/placement/shared.ts";
import { RingReader, RingWriter, createRing } from "../src/link/ring.ts";
import { decodeClientFrame, decodePublication, encodeClientFrame, headerBytes, ServerFrameEncoder } from "../src/protocol/codec.ts";
import { BufferPool, cutFrames } from "../src/protocol/framing.ts";
import { formats } from "../src/protocol/formats/formats.ts";
import { encodeServerJson, json } from "../src/protocol/formats/json.ts";
import { bodyBytes, writeBody } from "../src/protocol/publicationbody.ts";
import { encoded as encodedOf, Message, messageOf } from "../test/support/publications.ts";
import { Format } from "../src/protocol/messages.ts";
import { type Read, readFrame } from "./load/flux.ts";
import { binaryPayload } from "./load/payload.ts";
import { cutFrames as cutWebSocketFrames } from "./load/websocket.ts";

const command = { id: 7, publish: { room: "live:bench", payload: binaryPayload(), format: Format.BINARY } };
const publication = {
  room: "live:bench",
  epoch: "0FAtMtJy",
  seq: 123_456,
  prev: 123_455,
  sender: "anon-Ahw0jgXt",
  time: 1_795_323_651_843,
  payload: binaryPayload(),
  format: Format.BINARY,
};
const commandFrame = encodeClientFrame(command);
const commandJson = Buffer.from(`{"id":7,"publish":{"room":"live:bench","b64":"${binaryPayload().toString("base64")}"}}`);
const encoder = new ServerFrameEncoder(64 * 1024);
const body = encoder.body(publication).slice();
const encoded = encodedOf(publication);
const event = messageOf(0, encoded);
const out = new Message(64 * 1024);
const bodies = new Uint8Array(64 * 1024);

function writePublication(wire: number): Message {
  out.clear();
  formats[wire]!.writePublication(out, encoded);
  return out;
}

group("protocol/codec", () => {
  bench("encodeClientFrame", () => do_not_optimize(encodeClientFrame(command)));
  bench("decodeClientFrame", () => do_not_optimize(decodeClientFrame(commandFrame, headerBytes, commandFrame.length)));
  bench("ServerFrameEncoder.body", () => do_not_optimize(encoder.body(publication)));
  bench("decodePublication", () => do_not_optimize(decodePublication(body)));
});

group("protocol/publicationbody", () => {
  bench("bodyBytes, writeBody", () => do_not_optimize(bodyBytes(publication) + writeBody(bodies, 0, publication)));
});

group("protocol/json", () => {
  bench("decode", () => do_not_optimize(json.decode(commandJson, 0, commandJson.length)));
  bench("writePublication", () => do_not_optimize(writePublication(formats.indexOf(json))));
  bench("encodeServerJson(published)", () =>
    do_not_optimize(encodeServerJson({ id: 7, published: { position: { epoch: "0FAtMtJy", seq: 123_456 }, receivers: 1000 } })));
});

const events = formats.map((_, wire) => messageOf(wire, encoded));
const commands = [commandFrame.subarray(headerBytes), commandJson];

// As the hub and a reactor call them: whatever format it is, from one place.
group("protocol/formats", () => {
  bench("writePublication, a format after the other", function* () {
    let n = 0;
    yield () => do_not_optimize(writePublication(n++ % formats.length));
  });
  bench("decode, a format after the other", function* () {
    let n = 0;
    yield () => {
      const wire = n++ & 1;
      do_not_optimize(formats[wire]!.decode(commands[wire]!, 0, commands[wire]!.length));
    };
  });
  bench("isAnswer, a format after the other", function* () {
    let n = 0;
    yield () => do_not_optimize(formats[n % formats.length]!.isAnswer(events[n++ % formats.length]!));
  });
});

const pool = new BufferPool(64 * 1024);
const packed = Buffer.concat(Array.from({ length: 16 }, () => commandFrame));
const half = commandFrame.length >>> 1;
const [firstHalf, secondHalf] = [commandFrame.slice(0, half), commandFrame.slice(half)];
const seen = (): boolean => true;

group("protocol/framing", () => {
  bench("cutFrames, one whole", () => do_not_optimize(cutFrames(null, commandFrame, 64 * 1024, pool, seen)));
  bench("cutFrames, 16 packed", () => do_not_optimize(cutFrames(null, packed, 64 * 1024, pool, seen)));
  bench("cutFrames, one split", () => {
    const split = cutFrames(null, firstHalf, 64 * 1024, pool, seen);
    if (typeof split === "object") do_not_optimize(cutFrames(split, secondHalf, 64 * 1024, pool, seen));
  });
});

const ring = createRing(1024 * 1024);
const [writer, reader] = [new RingWriter(ring), new RingReader(ring)];
const ignore = (): void => {};

function writeRecord(): boolean {
  const at = writer.reserve(event.length);
  writer.bytes.set(event, at);
  return writer.commit(1, event.length);
}

group("link/ring", () => {
  bench("RingWriter.reserve, commit; RingReader.read", () => {
    do_not_optimize(writeRecord());
    do_not_optimize(reader.read(1 << 20, ignore));
  });
  bench("the same, 64 records a read", () => {
    for (let i = 0; i < 64; i++) do_not_optimize(writeRecord());
    do_not_optimize(reader.read(1 << 20, ignore));
  });
});

const partitions = 1024;
const members = Array.from({ length: 100 }, (_, i) => ({ id: `gateway-${i}`, weight: 1 })).sort((a, b) => (a.id < b.id ? -1 : 1));
const placed = createPlacement(partitions);
const view = new SharedPlacement(placed, "hash", partitions);
const nodes = members.map(({ id }) => ({ id, url: `wss://${id}.example.com/ws`, tcpUrl: "", region: "", load: 0, slotsPerSecond: 10_000, weight: 1, state: "up" as const }));
new PlacementWriter(placed, partitions).write({ table: 1, nodes, self: 0, owners: ownersOf(members, partitions) });
/** As they come from a token: 28 characters, flat in memory. */
const users = Array.from({ length: 4096 }, (_, i) => Buffer.from(`user-${1_000_000 + i}@mail.example.org`).toString("latin1"));
const umlauts = users.map((user) => Buffer.from(`jörg-${user}`).toString());
const known = new Map(users.map((user, i) => [user, i % 100]));
const places = Float64Array.from({ length: 16_000 }, () => Math.random());

group("placement: look-ups, of 4,096 users in turn", () => {
  const each = (name: string, list: readonly string[], use: (user: string) => unknown) =>
    bench(name, function* () {
      let n = 0;
      yield () => do_not_optimize(use(list[n++ & 4095]!));
    });
  each("control: Map.get", users, (user) => known.get(user));
  each("xxh32", users, xxh32);
  each("SharedPlacement.ownerOf", users, (user) => view.ownerOf("", user));
  each("SharedPlacement.ownerOf, with a tenant", users, (user) => view.ownerOf("acme", user));
  each("SharedPlacement.ownerOf, not ASCII", umlauts, (user) => view.ownerOf("", user));
});

group("placement: the table of 100 nodes", () => {
  bench("control: sorting as many numbers as it has points", () => do_not_optimize(places.slice().sort()));
  bench("ownersOf", () => do_not_optimize(ownersOf(members, partitions)));
});

const read: Read = { event: 0, seq: 0, prev: 0, payloadAt: 0, payloadBytes: 0 };
const webSocketFrame = Buffer.concat([Buffer.from([0x82, 126, event.length >>> 8, event.length & 0xff]), event]);
const sink = { frame: ignore };

group("bench/load: what the load client itself costs", () => {
  bench("cutFrames", () => do_not_optimize(cutWebSocketFrames(webSocketFrame, 0, webSocketFrame.length, sink)));
  bench("readFrame", () => {
    readFrame(event, headerBytes, event.length, read);
    do_not_optimize(read);
  });
});

await run();

import fc from "fast-check";
import t from "tap";
import * as codec from "../src/protocol/codec.ts";
import { BadFrame, Batch, noFrame } from "../src/protocol/formats/format.ts";
import { binary } from "../src/protocol/formats/binary.ts";
import { formats } from "../src/protocol/formats/formats.ts";
import { decodeClientJson, encodeServerJson, json as jsonFormat, pageJson } from "../src/protocol/formats/json.ts";
import { jsonArrays } from "../src/protocol/formats/jsonarrays.ts";
import { ClientFrame, Format, Publication, ServerFrame } from "../src/protocol/messages.ts";
import { bodyOf, encoded, messageOf } from "./support/publications.ts";

const uint = fc.integer({ min: 0, max: 0xffffffff });
const wide = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const unicode = fc.string({ unit: "grapheme" });
const bytes = fc.uint8Array({ maxLength: 200 });
const position = fc.record({ epoch: unicode, seq: wide });

const commands: fc.Arbitrary<ClientFrame> = fc.oneof(
  fc.record({ id: uint, hello: fc.record({ version: uint, token: unicode, client: unicode, device: unicode }) }),
  fc.record({ id: uint, join: fc.record({ room: unicode, recover: position, history: uint }) }),
  fc.record({ id: uint, leave: fc.record({ room: unicode }) }),
  fc.record({ id: uint, publish: fc.record({ room: unicode, payload: bytes, format: fc.constantFrom(0, 1), key: unicode, excludeSelf: fc.boolean() }) }),
  fc.record({ id: uint, history: fc.record({ room: unicode, since: position, limit: uint }) }),
  fc.record({ id: uint, ping: fc.record({ time: wide }) }),
  fc.record({ id: uint, echo: fc.record({ payload: bytes, format: fc.constantFrom(0, 1) }) }),
  fc.record({ id: uint, bye: fc.constant({}) }),
);
const publications: fc.Arbitrary<Publication> = fc.record({
  room: unicode, epoch: unicode, seq: wide, prev: wide, sender: unicode, time: wide, payload: bytes, format: fc.constant(Format.BINARY),
});

t.test("every command that is encoded is decoded as it was, numbers up to 2^53 included", async (t) => {
  fc.assert(
    fc.property(commands, (frame) => {
      const encoded = codec.encodeClientFrame(frame);
      const decoded = codec.decodeClientFrame(encoded, codec.headerBytes, encoded.length);
      const again = codec.encodeClientFrame(decoded);
      if (Buffer.compare(encoded, again) !== 0) throw new Error("differs");
      if (!Object.hasOwn(frame, decoded.command!)) throw new Error(`is a ${decoded.command}`);
      if (decoded.ping && (decoded.ping.time ?? 0) !== frame.ping!.time) throw new Error("time differs");
    }),
  );
  t.pass("no counterexample");
});

t.test("a publication's body is byte for byte what protobufjs makes of it", async (t) => {
  const texts = fc.oneof(unicode, fc.string({ unit: "binary" }), fc.string({ unit: "grapheme-ascii", minLength: 120, maxLength: 300 }));
  const numbers = fc.oneof(wide, ...[0, 127, 128, 2 ** 28, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1].map((number) => fc.constant(number)));
  const any = fc.record({
    room: texts, epoch: texts, seq: numbers, prev: numbers, sender: texts, time: numbers, payload: fc.oneof(bytes, fc.uint8Array({ minLength: 300, maxLength: 20_000 })), format: fc.constantFrom(0, 1),
  });
  fc.assert(fc.property(any, (publication) => Buffer.compare(bodyOf(publication), Publication.encode(publication).finish()) === 0));
  t.same([...bodyOf({})], [], "without its fields it has no bytes");
});

t.test("a spliced publication or page is byte for byte what protobufjs reads as the whole message", async (t) => {
  const encoder = new codec.ServerFrameEncoder(64);
  fc.assert(
    fc.property(fc.array(publications, { maxLength: 5 }), uint, position, fc.boolean(), (list, id, position, flag) => {
      const bodies = list.map((publication) => Uint8Array.from(encoder.body(publication)));
      const heads = {
        joined: { room: "r", position, recovered: flag, more: !flag },
        replay: { room: "r", more: flag },
        history: { room: "r", position, more: flag },
      } as const;
      for (const kind of ["joined", "replay", "history"] as const) {
        const frame = encoder.page(kind, id, heads[kind], bodies);
        const whole = ServerFrame.encode({ id, [kind]: { ...heads[kind], publications: list } }).finish();
        same(codec.decodeServerFrame(frame, 4, frame.length), codec.decodeServerFrame(whole, 0, whole.length));
      }
      if (list.length > 0) {
        const live = messageOf(formats.indexOf(binary), encoded(list[0]!));
        const whole = ServerFrame.encode({ publication: list[0]! }).finish();
        if (Buffer.compare(live.subarray(4), whole) !== 0) throw new Error("live event differs");
      }
    }),
  );
  t.ok(encoder.grown > 0, "it grew from 64 bytes");
});

t.test("random bytes are a frame or an exception, nothing else, and never hang", async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      try {
        codec.decodeClientFrame(bytes, 0, bytes.length);
      } catch (error) {
        if (!(error instanceof Error)) throw new Error("threw something else");
      }
    }),
    { numRuns: 2000 },
  );
  t.pass("no counterexample");
});

t.test("a decoder that threw reads the next frame as if nothing had been", async (t) => {
  const good = ClientFrame.encode({ id: 5, ping: { time: 7 } }).finish();
  t.throws(() => codec.decodeClientFrame(new Uint8Array([0x2a, 0x7f, 1]), 0, 3));
  t.match(codec.decodeClientFrame(good, 0, good.length), { id: 5, ping: { time: 7 } });
});

t.test("a 64-bit number over 2^53 is refused: JavaScript could not give it back", async (t) => {
  const over = new Uint8Array([0x3a, 0x0a, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
  t.throws(() => codec.decodeClientFrame(over, 0, over.length), { message: /2\^53/ });
});

t.test("the JSON form of a command is read as the command", async (t) => {
  const read = (text: string): ClientFrame[] => {
    const found = jsonFormat.decode(Buffer.from(`..${text}`), 2, 2 + Buffer.byteLength(text));
    return (found instanceof Batch ? Array.from({ length: found.length }, (_, i) => found.at(i)) : [found]) as ClientFrame[];
  };
  t.match(read('{"id":1,"join":{"room":"a","recover":{"epoch":"e","seq":"42"}}}'), [
    { id: 1, command: "join", join: { room: "a", recover: { epoch: "e", seq: 42 } } },
  ]);
  const [publish] = read('{"publish":{"room":"a","data":{"x":[1,"ü"]},"excludeSelf":true}}');
  t.equal(Buffer.from(publish!.publish!.payload!).toString(), '{"x":[1,"ü"]}');
  t.equal(publish!.publish!.format, Format.JSON);
  const [echo] = read('{"echo":{"b64":"AQID"}}');
  t.same([...echo!.echo!.payload!], [1, 2, 3]);
  t.equal(echo!.echo!.format, Format.BINARY);
  t.equal(read('[{"bye":{}},{"ping":{}}]').length, 2);
});

t.test("a JSON frame that is wrong is refused with its id and the field's name", async (t) => {
  const cases: [string, RegExp][] = [
    ['{"id":7,"publish":{"room":"a"}}', /publish: expected one of data and b64/],
    ['{"id":7,"publish":{"room":"a","data":1,"b64":""}}', /expected one of data and b64/],
    ['{"id":7,"publish":{"room":5,"data":1}}', /publish\.room/],
    ['{"id":7,"echo":{"b64":"*"}}', /echo\.b64/],
    ['{"id":7,"join":{"room":"a","recover":{"epoch":"e","seq":"9007199254740993"}}}', /join\.recover\.seq.*2\^53/],
    ['{"id":7,"join":{"room":"\\ud800"}}', /join\.room: .*Unicode/],
    ['{"id":7,"dance":{}}', /dance/],
    ['{"id":7,"bye":{},"ping":{}}', /only one command per frame/],
  ];
  for (const [text, problem] of cases) {
    const refused = decodeClientJson(JSON.parse(text));
    t.ok(refused instanceof BadFrame && refused.id === 7, text);
    t.match((refused as BadFrame).message, problem);
  }
});

t.test("JSON events carry 64-bit numbers as strings and payloads as data or b64", async (t) => {
  const publication = { room: 'a"b', epoch: "e", seq: 2 ** 53 - 1, prev: 3, sender: "s", time: 5 };
  const json = { ...publication, payload: Buffer.from('{"x":1}'), format: Format.JSON };
  const binary = { ...publication, payload: Buffer.from([1, 2]), format: Format.BINARY };
  const shown = { room: 'a"b', epoch: "e", seq: "9007199254740991", prev: "3", sender: "s", time: "5" };
  const eventOf = (publication: Publication) => messageOf(formats.indexOf(jsonFormat), encoded(publication)).toString();
  t.same(JSON.parse(eventOf(json)), { publication: { ...shown, data: { x: 1 } } });
  t.same(JSON.parse(eventOf(binary)), { publication: { ...shown, b64: "AQI=" } });
  const encoder = new codec.ServerFrameEncoder(64);
  const bodies = [json, binary].map((one) => Uint8Array.from(encoder.body(one)));
  const head = { room: "a", position: { epoch: "e", seq: 9 }, recovered: true, more: false };
  t.same(JSON.parse(pageJson("joined", 4, head, bodies)), {
    id: 4,
    joined: {
      ...head,
      position: { epoch: "e", seq: "9" },
      publications: [{ ...shown, data: { x: 1 } }, { ...shown, b64: "AQI=" }],
    },
  });
  t.same(JSON.parse(encodeServerJson({ id: 0, pong: { time: 1, serverTime: 2 } })), { pong: { time: "1", serverTime: "2" } });
});

function same(a: unknown, b: unknown): void {
  if (JSON.stringify(canonical(a)) !== JSON.stringify(canonical(b))) throw new Error("messages differ");
}

/** The same order of keys however the fields came. */
function canonical(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value];
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, field]) => [key, canonical(field)]));
}

for (const format of formats) {
  t.test(`${format.name}: messages behind each other in a pack are one message, no longer than they are`, async (t) => {
    const { append } = format;
    if (append === null) return t.equal(format, jsonFormat, "only plain JSON has a message for each frame");
    const encoder = new codec.ServerFrameEncoder(64);
    const messages = ["", "ü".repeat(200), "]"].map((room) => Uint8Array.from(format.frame(encoder, { id: 0, left: { room } })));
    const pack = new Uint8Array(1000).fill(0x5d);
    let at = 0;
    for (const message of messages) {
      const before = at;
      at = append(pack, at, message);
      t.ok(at <= before + message.length);
    }
    const expected = format.isStream
      ? Buffer.concat(messages)
      : Buffer.from(`[${messages.map((one) => JSON.stringify((JSON.parse(Buffer.from(one).toString()) as unknown[])[0])).join()}]`);
    t.same(Buffer.from(pack.subarray(0, at)), expected);
    t.same(pack.subarray(at), new Uint8Array(1000 - at).fill(0x5d), "nothing behind it is touched");
  });
}

for (const format of formats) {
  t.test(`${format.name}: what was sent is told apart, whatever its bytes are`, async (t) => {
    const encoder = new codec.ServerFrameEncoder(64);
    const publication = { room: "a", epoch: "e", seq: 300, prev: 299, sender: "ann", time: 5, payload: Buffer.from('"x"'), format: Format.JSON };
    const known = encoded(publication);
    for (const one of [known, { ...known, publication: null }]) {
      t.same(format.firstOf(messageOf(formats.indexOf(format), one)), { room: "a", seq: 300, isPresence: false });
    }
    const presenceChanged = { room: "a", version: 7, users: 1, sessions: 1, joined: ["ann"], left: [], countsOnly: false };
    t.same(format.firstOf(format.frame(encoder, { id: 0, presenceChanged })), { room: "a", seq: 7, isPresence: true });
    t.equal(format.firstOf(format.frame(encoder, { id: 0, left: { room: "a" } })), null, "for one session alone");
    t.ok(format.isAnswer(format.frame(encoder, { id: 9, left: { room: "a" } })));
    t.notOk(format.isAnswer(format.frame(encoder, { id: 0, left: { room: "a" } })));
    t.notOk(format.isAnswer(messageOf(formats.indexOf(format), known)));
    t.equal(format.firstOf(new Uint8Array(1)), noFrame);
    for (const text of ["5", "null", '"x"', ...(format === jsonArrays ? ["[]", "[5]", "[null]", "{}"] : [])]) t.equal(format.firstOf(Buffer.from(text)), noFrame, text);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      format.firstOf(bytes);
      const read = format.decode(bytes, 0, bytes.length);
      return read === null || typeof read === "object";
    }));
  });
}

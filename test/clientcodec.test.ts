/** The codec of clients, against what protobufjs reads and writes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import t from "tap";
import { fieldsOf } from "../fields.mjs";
import { decodeServerFrame, encodeClientFrame } from "../src/protocol/clientcodec.ts";
import * as node from "../src/protocol/codec.ts";
import { fields } from "../src/protocol/fields.ts";
import { ServerFrame, type ClientFrame } from "../src/protocol/messages.ts";
import { root } from "./support/root.ts";

const text = fc.string({ unit: "grapheme", maxLength: 60 });
const scalars: Record<string, fc.Arbitrary<unknown>> = {
  u: fc.integer({ min: 0, max: 0xffffffff }),
  n: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  b: fc.boolean(),
  s: text,
  y: fc.uint8Array({ maxLength: 200 }),
};

/** Any content of a message; of a frame, one command or event. */
function contentOf(name: string): fc.Arbitrary<Record<string, unknown>> {
  const all = (fields as Record<string, string>)[name]!.split(" ").filter(Boolean).map((field) => /^\d+(\w+):(\w+)(.?)$/.exec(field)!);
  const parts = all.map(([, field, kind, mark]) => {
    const one = field === "format" ? fc.constantFrom(0, 1) : (scalars[kind!] ?? contentOf(kind!));
    return [field!, mark === "*" ? fc.array(one, { minLength: 1, maxLength: 3 }) : one] as const;
  });
  if (!name.endsWith("Frame")) return fc.record(Object.fromEntries(parts), { requiredKeys: [] });
  return fc.oneof(...parts.slice(1).map(([field, content]) => fc.record({ id: scalars.u!, [field]: content })));
}

/** Without the defaults, which one side leaves out and the other writes. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value];
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const content = Object.entries(value).map(([key, part]) => [key, plain(part)] as const);
  return Object.fromEntries(content.filter(([, part]) => !(part === 0 || part === "" || part === false || (Array.isArray(part) && part.length === 0))));
}

const isSame = (a: unknown, b: unknown) => {
  const [left, right] = [JSON.stringify(sorted(plain(a))), JSON.stringify(sorted(plain(b)))];
  if (left !== right) throw new Error(`${left} is not ${right}`);
};

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, part]) => [key, sorted(part)]));
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

t.test("the table of fields is that of flux.proto", async (t) => {
  t.equal(readFileSync(join(root, "src/protocol/fields.ts"), "utf8"), fieldsOf(readFileSync(join(root, "proto/flux.proto"), "utf8")), "run: node build.mjs");
});

t.test("every command is read by a node as it was", async (t) => {
  fc.assert(fc.property(contentOf("ClientFrame"), (frame) => {
    const bytes = encodeClientFrame(frame as ClientFrame);
    const { command, ...read } = node.decodeClientFrame(bytes, 4, bytes.length);
    if (new DataView(bytes.buffer).getUint32(0) !== bytes.length - 4) throw new Error("length");
    isSame(read, frame);
  }), { numRuns: 200 });
  t.pass("no counterexample");
});

t.test("every event of a node is read as it was", async (t) => {
  fc.assert(fc.property(contentOf("ServerFrame"), (frame) => {
    const bytes = ServerFrame.encode(frame).finish();
    isSame(decodeServerFrame(bytes, 0, bytes.length), frame);
  }), { numRuns: 200 });
  t.pass("no counterexample");
});

t.test("frames as bytes", async (t) => {
  const frames: [ClientFrame, string][] = [
    [{ id: 1, hello: { version: 1, token: "t", client: "c" } }, "0000000c 0801 1208 0801 120174 1a0163"],
    [{ id: 300, join: { room: "a", recover: { epoch: "e", seq: 2 ** 40 } } }, "00000014 08ac02 1a0f 0a0161 120a 0a0165 10808080808020"],
    [{ id: 0, bye: {} }, "00000002 4a00"],
    [{ id: 2, publish: { room: "ü", payload: Uint8Array.of(0, 255), format: 1, key: "k", excludeSelf: true } }, "00000013 0802 2a0f 0a02c3bc 120200ff 1801 22016b 2801"],
    [{ watch: { users: ["a", "", "b"] } }, "0000000a 6a08 0a0161 0a00 0a0162"],
    [{ presence: { room: "", limit: Infinity } }, "00000004 6202 2000"],
    [{ history: { limit: -1.5 } }, "00000008 3206 20ffffffff0f"],
  ];
  for (const [frame, bytes] of frames) t.equal(hex(encodeClientFrame(frame)), bytes.replaceAll(" ", ""), bytes);
  const read = (bytes: string) => decodeServerFrame(Buffer.from(bytes.replaceAll(" ", ""), "hex"), 0, bytes.replaceAll(" ", "").length / 2);
  t.same(read("0801 2a04 1001 2800"), { id: 1, published: { receivers: 1, prev: 0 } }, "an optional field that is 0 is there");
  t.same(read("aa01 00"), { closed: {} });
  t.same(read("1a03 0a0161 1a05 1203 0a0165"), { joined: { room: "a", position: { epoch: "e" } } }, "a message in two parts");
  t.same(read("4a04 0a02 efbb"), { error: { code: "\ufffd" } }, "text that is no UTF-8");
  t.same(read("4a05 0a03 efbbbf"), { error: { code: "\ufeff" } }, "a byte order mark");
});

t.test("what a later version adds is passed over", async (t) => {
  const later = "f80601 f106 0102030405060708 f206 03616263 f506 01020304"; // fields 111, 110, 110 and 110, of all wire types
  const bytes = Buffer.from(`${later} 0805 3202 0861 ${later}`.replaceAll(" ", ""), "hex");
  t.same(decodeServerFrame(bytes, 0, bytes.length), { id: 5, history: {} }, "and a field of another type");
});

t.test("random bytes are a frame or an exception, nothing else, and what threw changes nothing", async (t) => {
  const good = ServerFrame.encode({ id: 5, pong: { time: 7 } }).finish();
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    try {
      decodeServerFrame(bytes, 0, bytes.length);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
    isSame(decodeServerFrame(good, 0, good.length), { id: 5, pong: { time: 7 } });
  }), { numRuns: 500 });
  for (const cut of [1, 2, 3]) t.throws(() => decodeServerFrame(good, 0, good.length - cut), RangeError, `cut by ${cut}`);
});

t.test("large frames, and small ones after them", async (t) => {
  const payload = new Uint8Array(3_000_000).fill(7);
  for (const bytes of [payload, payload.subarray(0, 5)]) {
    const encoded = encodeClientFrame({ id: 1, echo: { payload: bytes } });
    t.equal(node.decodeClientFrame(encoded, 4, encoded.length).echo?.payload?.length, bytes.length);
  }
});

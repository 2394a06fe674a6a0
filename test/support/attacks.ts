/** What the fuzz test throws at a node, as fast-check arbitraries: from sound frames to noise. */
import fc from "fast-check";
import { buildFrame, opcodes, type FrameShape } from "./rawsocket.ts";
import { encodeBinary, lengthPrefixed } from "./wire.ts";
import type { ClientFrame } from "../../src/protocol/messages.ts";

export type Parting = "drop" | "half-close" | "bye" | "stay";

export interface TcpAttack {
  kind: "tcp";
  bytes: Uint8Array;
  chop: number;
  waitMs: number;
}

export interface SocketAttack {
  kind: "socket";
  json: boolean;
  /** The subprotocol: one with arrays reads the same from clients. */
  arrays: boolean;
  hello: boolean;
  /** Rooms it joins before anything else, as a sound client does. */
  joins: string[];
  /** Whether it reads what it is sent, or lets it pile up. */
  deaf: boolean;
  /** Bytes on the socket: WebSocket frames, or what is left of them. */
  writes: { bytes: Uint8Array; chop: number }[];
  parting: Parting;
  waitMs: number;
}

export type Attack = TcpAttack | SocketAttack;

/** Attacks by clients that know these rooms. */
export function attacks(rooms: string[]): fc.Arbitrary<Attack> {
  return fc.oneof({ weight: 1, arbitrary: tcpAttack }, { weight: 4, arbitrary: socketAttack(rooms) });
}

const chop = fc.oneof({ weight: 4, arbitrary: fc.constant(1_000_000) }, fc.integer({ min: 1, max: 40 }));
const waitMs = fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 0, max: 10 }) }, fc.integer({ min: 10, max: 300 }));

/** Lines of requests that are nearly right. */
const httpLine = fc.constantFrom(
  "GET /ws HTTP/1.1", "GET /health HTTP/1.1", "POST /ready HTTP/1.1", "GET / HTTP/1.0", "Host: localhost", "Connection: Upgrade",
  "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Protocol: flux.v1.json", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99", "Origin: http://127.0.0.1",
  "Content-Length: 10", "Content-Length: -1", "Transfer-Encoding: chunked", "Expect: 100-continue", "", "",
);
const http = fc.array(fc.oneof({ weight: 5, arbitrary: httpLine }, fc.string({ maxLength: 60, unit: "binary" })), { minLength: 1, maxLength: 14 })
  .map((lines) => Buffer.from(lines.join("\r\n")));
const tcpAttack: fc.Arbitrary<TcpAttack> = fc.record({
  kind: fc.constant("tcp" as const),
  bytes: fc.oneof(http, http.chain(mutated), fc.uint8Array({ maxLength: 2_000 })),
  chop,
  waitMs,
});

function socketAttack(rooms: string[]): fc.Arbitrary<SocketAttack> {
  return fc.boolean().chain((json) => {
    const opcode = json ? opcodes.text : opcodes.binary;
    const frame = json ? clientFrame(rooms).chain(asJson).map((one) => Buffer.from(JSON.stringify(one))) : clientFrame(rooms).map(encodeBinary);
    const sound = fc.record({ bytes: frame.map((payload) => buildFrame({ opcode, payload })), chop });
    const message = json ? textMessage(rooms) : binaryMessage(rooms);
    const wild = fc.record({ bytes: fc.oneof({ weight: 6, arbitrary: framed(message, json) }, wildFrame, fc.uint8Array({ maxLength: 500 })), chop });
    return fc.record({
      kind: fc.constant("socket" as const),
      json: fc.constant(json),
      arrays: json ? fc.boolean() : fc.constant(false),
      hello: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, fc.constant(false)),
      joins: fc.uniqueArray(fc.constantFrom(...rooms), { maxLength: 3 }),
      deaf: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
      // Mostly well-formed, for only what gets through the front can do harm behind it.
      writes: fc.tuple(fc.array(sound, { maxLength: 12 }), fc.array(wild, { maxLength: 6 })).map(([first, then]) => [...first, ...then]),
      parting: fc.constantFrom<Parting>("drop", "half-close", "bye", "stay"),
      waitMs,
    });
  });
}

/** A message as one frame, as fragments, many times over, or with a bit of its frame changed. */
function framed(message: fc.Arbitrary<Uint8Array>, json: boolean): fc.Arbitrary<Uint8Array> {
  const opcode = json ? opcodes.text : opcodes.binary;
  const whole = message.map((payload) => buildFrame({ opcode, payload }));
  const fragments = fc.tuple(message, fc.integer({ min: 1, max: 50 })).map(([payload, size]) => {
    const count = Math.max(1, Math.ceil(payload.length / size));
    return Buffer.concat(Array.from({ length: count }, (_, i) => buildFrame({
      opcode: i === 0 ? opcode : opcodes.continuation, fin: i === count - 1, payload: payload.subarray(i * size, (i + 1) * size),
    })));
  });
  const flood = fc.tuple(whole, fc.integer({ min: 2, max: 400 })).map(([frame, times]) => Buffer.concat(Array.from({ length: times }, () => frame)));
  return fc.oneof({ weight: 6, arbitrary: whole }, fragments, whole.chain(mutated), { weight: 1, arbitrary: flood });
}

/** A WebSocket frame of any opcode, bits and lengths, true or not. */
const wildFrame: fc.Arbitrary<Uint8Array> = fc.record({
  opcode: fc.integer({ min: 0, max: 15 }),
  payload: fc.uint8Array({ maxLength: 300 }),
  fin: fc.boolean(),
  rsv: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 7 })),
  masked: fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, fc.constant(false)),
  lengthBits: fc.constantFrom(undefined, undefined, 16 as const, 64 as const),
  announced: fc.oneof({ weight: 6, arbitrary: fc.constant(undefined) }, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })),
}).map(({ masked, lengthBits, announced, ...rest }) => {
  const bits = announced === undefined ? lengthBits : (64 as const);
  const shape: FrameShape = { ...rest, ...(masked ? {} : { mask: false as const }), ...(bits && { lengthBits: bits }), ...(announced !== undefined && { announced }) };
  return buildFrame(shape);
});

function binaryMessage(rooms: string[]): fc.Arbitrary<Uint8Array> {
  const frame = clientFrame(rooms).map(encodeBinary);
  const packed = fc.array(frame, { minLength: 1, maxLength: 20 }).map((frames) => Buffer.concat(frames));
  const lying = fc.tuple(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 0xffff_ffff })).map(([body, announced]) => lengthPrefixed(body, announced));
  return fc.oneof(
    { weight: 6, arbitrary: frame }, packed, { weight: 3, arbitrary: frame.chain(mutated) }, packed.chain(mutated),
    fc.uint8Array({ maxLength: 300 }).map((body) => lengthPrefixed(body)), lying, fc.uint8Array({ maxLength: 300 }),
  );
}

function textMessage(rooms: string[]): fc.Arbitrary<Uint8Array> {
  const frame = clientFrame(rooms).chain(asJson);
  const text = fc.oneof(
    { weight: 6, arbitrary: frame.map((one) => JSON.stringify(one)) },
    fc.array(frame, { maxLength: 10 }).map((frames) => JSON.stringify(frames)),
    fc.json(),
    fc.string({ maxLength: 200, unit: "binary" }),
    fc.tuple(fc.constantFrom("[", '{"a":', '[{"echo":{"data":'), fc.integer({ min: 1, max: 12_000 })).map(([opening, depth]) => opening.repeat(depth)),
  ).map((one): Uint8Array => Buffer.from(one));
  return fc.oneof({ weight: 5, arbitrary: text }, text.chain(mutated));
}

const payload = fc.oneof({ weight: 6, arbitrary: fc.uint8Array({ maxLength: 200 }) }, fc.uint8Array({ minLength: 1_000, maxLength: 20_000 }));
const seq = fc.oneof(fc.integer({ min: 0, max: 50 }), fc.maxSafeNat());

/** Any command, its fields of the right type and in or out of range. */
function clientFrame(rooms: string[]): fc.Arbitrary<ClientFrame> {
  const room = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...rooms) }, fc.string({ maxLength: 4, unit: "binary" }));
  const position = fc.record({ epoch: fc.oneof(fc.string({ maxLength: 10 }), fc.constant("")), seq });
  const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(arbitrary, { freq: 2 });
  const format = fc.constantFrom<number>(0, 0, 1, 7);
  const key = fc.constantFrom("", "", "k1", "k2", "k".repeat(200));
  const limit = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(0xffff_ffff));
  return fc.tuple(fc.integer({ min: 0, max: 0xffff_ffff }), fc.oneof(
    { weight: 4, arbitrary: fc.record({ join: fc.record({ room, recover: optional(position), history: limit }) }) },
    { weight: 2, arbitrary: fc.record({ leave: fc.record({ room }) }) },
    { weight: 6, arbitrary: fc.record({ publish: fc.record({ room, payload, format, key, excludeSelf: fc.boolean() }) }) },
    { weight: 2, arbitrary: fc.record({ history: fc.record({ room, since: optional(position), before: optional(position), limit }) }) },
    fc.record({ ping: fc.record({ time: fc.maxSafeNat() }) }),
    fc.record({ echo: fc.record({ payload, format }) }),
    fc.record({ hello: fc.record({ version: fc.integer({ min: 0, max: 3 }), token: fc.string() }) }),
  )).map(([id, command]) => ({ id, ...command }));
}

/** The frame as a JSON client writes it, its payload replaced by any JSON, base64, both or neither. */
function asJson(frame: ClientFrame): fc.Arbitrary<object> {
  const carried = fc.oneof(
    fc.jsonValue().map((data): object => ({ data })),
    fc.base64String({ maxLength: 100 }).map((b64): object => ({ b64 })),
    fc.constantFrom<object>({}, { data: 1, b64: "AA==" }, { b64: "%" }),
  );
  return carried.map((data) => {
    const [kind = "", fields = {}] = Object.entries(frame).find(([name]) => name !== "id") ?? [];
    const { payload: had, format: _, ...rest } = fields as Record<string, unknown>;
    return { id: frame.id, [kind]: { ...rest, ...(had === undefined ? {} : data) } };
  });
}

/** The bytes with a few changed, taken out, put in, repeated, or cut off. */
function mutated(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const mutation = fc.record({ how: fc.constantFrom("flip", "insert", "delete", "repeat", "cut"), at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) });
  return fc.array(mutation, { minLength: 1, maxLength: 4 }).map((mutations) => mutations.reduce((sofar, { how, at, byte }) => {
    const i = at % (sofar.length + 1);
    const [before, after] = [sofar.subarray(0, i), sofar.subarray(i)];
    switch (how) {
      case "flip": return Buffer.concat([before, Buffer.from(after.subarray(0, 1).map((one) => one ^ (byte || 1))), after.subarray(1)]);
      case "insert": return Buffer.concat([before, Buffer.of(byte), after]);
      case "delete": return Buffer.concat([before, after.subarray(1)]);
      case "repeat": return Buffer.concat([before, after.subarray(0, 8), after]);
      default: return Buffer.from(before);
    }
  }, Buffer.from(bytes)));
}

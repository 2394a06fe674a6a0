/**
 * The WebSocket layer, as sections 1 to 5 and 7 of the Autobahn test suite list it, numbers as there; section 6 is in
 * websocket-utf8.test.ts. Autobahn's messages are arbitrary bytes, these are echo commands of the same size: text in
 * the JSON subprotocol, binary in the other.
 *
 * uWebSockets fails a connection by closing TCP without a close frame. RFC 6455, 7.1.7, allows it: an endpoint SHOULD
 * send one if it can. Where it answers with a close frame, the case says with which code (1005: without any).
 */
import t from "tap";
import { converse, type Case, type Step } from "./support/conversation.ts";
import { startNode } from "./support/node.ts";
import { buildFrame, closePayload, opcodes, type FrameShape } from "./support/rawsocket.ts";
import { encodeBinary } from "./support/wire.ts";

const { continuation, text, binary, close, ping, pong } = opcodes;
const octetwise = 1;

/** A text message of exactly so many bytes that is an echo command, and its payload as JSON text. */
function echoText(bytes: number): { message: string; payload: string } {
  const payload = `"${"*".repeat(bytes - '{"id":1,"echo":{"data":""}}'.length)}"`;
  return { message: `{"id":1,"echo":{"data":${payload}}}`, payload };
}

/** The same in binary; the id makes up for sizes that a length of the payload cannot reach. */
function echoBinary(bytes: number): { message: Buffer; payload: Buffer } {
  for (const id of [1, 200, 20_000]) {
    for (let length = Math.max(0, bytes - 20); length < bytes; length++) {
      const payload = Buffer.alloc(length, 0xfe);
      const message = encodeBinary({ id, echo: { payload } });
      if (message.length === bytes) return { message, payload };
    }
  }
  throw new Error(`no echo command has ${bytes} bytes`);
}

const small = echoText(64);
const sendSmall: Step = { send: { opcode: text, payload: small.message } };
const smallEcho: Step = { echo: small.payload };
const sendPing: Step = { send: { opcode: ping } };

/** The message in `count` fragments, the first with its opcode. */
function fragments(message: string | Buffer, count: number, opcode: number = text): FrameShape[] {
  const bytes = Buffer.from(message);
  const size = Math.ceil(bytes.length / count);
  return Array.from({ length: count }, (_, i) => ({
    opcode: i === 0 ? opcode : continuation,
    fin: i === count - 1,
    payload: bytes.subarray(i * size, (i + 1) * size),
  }));
}

/** The frames one by one, in one write, and octet by octet, as Autobahn varies most cases. */
function written(frames: FrameShape[]): [how: string, steps: Step[]][] {
  const bytes = Buffer.concat(frames.map(buildFrame));
  return [
    ["frame by frame", frames.map((send) => ({ send }))],
    ["in one write", [{ write: bytes }]],
    ["octet by octet", [{ write: bytes, chop: octetwise }]],
  ];
}

const framing: Case[] = [
  { title: "1.1.1 a text message of 0 bytes is no frame of ours", json: true, steps: [{ send: { opcode: text } }], end: { code: 3501 } },
  { title: "1.2.1 a binary message of 0 bytes brings nothing", steps: [{ send: { opcode: binary } }], end: "open" },
  ...[125, 126, 127, 128, 65_535, 65_536].flatMap((bytes, i): Case[] => [
    { title: `1.1.${i + 2} a text message of ${bytes} bytes`, json: true, ...roundTrip(text, echoText(bytes)) },
    { title: `1.2.${i + 2} a binary message of ${bytes} bytes`, ...roundTrip(binary, echoBinary(bytes)) },
  ]),
  { title: "1.1.8 a text message of 65536 bytes in chops of 997", json: true, ...roundTrip(text, echoText(65_536), 997) },
  { title: "1.2.8 a binary message of 65536 bytes in chops of 997", ...roundTrip(binary, echoBinary(65_536), 997) },
  { title: "1.3.1 a text message of 100 bytes octet by octet", json: true, ...roundTrip(text, echoText(100), octetwise) },
  { title: "1.3.2 a mask of zeros", json: true, ...roundTrip(text, small, undefined, { mask: new Uint8Array(4) }) },
];

function roundTrip(
  opcode: number, { message, payload }: { message: string | Buffer; payload: string | Buffer }, chop?: number, more: Partial<FrameShape> = {},
): Pick<Case, "steps" | "end"> {
  const send = { opcode, payload: message, ...more };
  return { steps: [chop === undefined ? { send } : { send, chop }, { echo: payload }], end: "open" };
}

const notText = Buffer.of(0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff);
const long = Buffer.alloc(125, 0xfe);

const pings: Case[] = [
  { title: "2.1 a ping without payload", steps: [sendPing, { pong: "" }], end: "open" },
  { title: "2.2 a ping with a text", steps: [{ send: { opcode: ping, payload: "hello, world" } }, { pong: "hello, world" }], end: "open" },
  { title: "2.3 a ping with bytes that are no text", steps: [{ send: { opcode: ping, payload: notText } }, { pong: notText }], end: "open" },
  { title: "2.4 a ping of 125 bytes", steps: [{ send: { opcode: ping, payload: long } }, { pong: long }], end: "open" },
  { title: "2.5 a ping of 126 bytes fails", steps: [{ send: { opcode: ping, payload: Buffer.alloc(126) } }], end: "failed" },
  { title: "2.6 a ping of 125 bytes octet by octet", steps: [{ send: { opcode: ping, payload: long }, chop: octetwise }, { pong: long }], end: "open" },
  { title: "2.7 a pong nobody asked for", steps: [{ send: { opcode: pong } }], end: "open" },
  { title: "2.8 a pong nobody asked for, with payload", steps: [{ send: { opcode: pong, payload: "unasked" } }], end: "open" },
  { title: "2.9 a pong nobody asked for, then a ping", steps: [{ send: { opcode: pong, payload: "unasked" } }, { send: { opcode: ping, payload: "asked" } }, { pong: "asked" }], end: "open" },
  ...[undefined, octetwise].map((chop, i): Case => ({
    title: `2.${10 + i} ten pings in one write${chop ? ", octet by octet" : ""}`,
    steps: [
      { write: Buffer.concat(tenTimes((n) => buildFrame({ opcode: ping, payload: `ping ${n}` }))), ...(chop && { chop }) },
      ...tenTimes((n): Step => ({ pong: `ping ${n}` })),
    ],
    end: "open",
  })),
  { title: "2.12 a pong of 126 bytes fails", steps: [{ send: { opcode: pong, payload: Buffer.alloc(126) } }], end: "failed" },
];

function tenTimes<T>(make: (n: number) => T): T[] {
  return Array.from({ length: 10 }, (_, n) => make(n));
}

const reservedBits: Case[] = [
  { title: "3.1 a text frame with RSV 1", json: true, steps: [{ send: { opcode: text, payload: small.message, rsv: 1 } }], end: "failed" },
  { title: "3.2 a sound text frame, then one with RSV 2, then a ping", json: true, steps: [sendSmall, smallEcho, { send: { opcode: text, payload: small.message, rsv: 2 } }, sendPing], end: "failed" },
  { title: "3.3 the same with RSV 3", json: true, steps: [sendSmall, smallEcho, { send: { opcode: text, payload: small.message, rsv: 3 } }, sendPing], end: "failed" },
  { title: "3.4 the same with RSV 4, octet by octet", json: true, steps: [sendSmall, smallEcho, { send: { opcode: text, payload: small.message, rsv: 4 }, chop: octetwise }, sendPing], end: "failed" },
  { title: "3.5 a binary frame with RSV 5", steps: [{ send: { opcode: binary, payload: echoBinary(64).message, rsv: 5 } }], end: "failed" },
  { title: "3.6 a ping with RSV 6", steps: [{ send: { opcode: ping, payload: "reserved", rsv: 6 } }], end: "failed" },
  { title: "3.7 a close frame with RSV 7", steps: [{ send: { opcode: close, rsv: 7 } }], end: "failed" },
];

const reservedOpcodes: Case[] = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].flatMap((opcode): Case[] => {
  const [group, name] = opcode < 8 ? [`4.1.${opcode - 2}`, "data"] : [`4.2.${opcode - 10}`, "control"];
  return [
    { title: `${group} reserved ${name} opcode ${opcode} without payload`, steps: [{ send: { opcode } }], end: "failed" },
    { title: `${group} reserved ${name} opcode ${opcode} with payload, then a ping`, steps: [{ send: { opcode, payload: "reserved" } }, sendPing], end: "failed" },
    { title: `${group} reserved ${name} opcode ${opcode} after a message, octet by octet`, json: true, steps: [sendSmall, smallEcho, { send: { opcode, payload: "reserved" }, chop: octetwise }, sendPing], end: "failed" },
  ];
});

const [first, second] = fragments(small.message, 2) as [FrameShape, FrameShape];
const aPing: FrameShape = { opcode: ping, payload: "between" };
const aPong: Step = { pong: "between" };
const stray = (fin: boolean): FrameShape => ({ opcode: continuation, fin, payload: "nothing to continue" });

const fragmentation: Case[] = [
  { title: "5.1 a ping in two fragments fails", steps: [{ send: { opcode: ping, fin: false, payload: "a" } }, { send: { opcode: continuation, payload: "b" } }], end: "failed" },
  { title: "5.2 a pong in two fragments fails", steps: [{ send: { opcode: pong, fin: false, payload: "a" } }, { send: { opcode: continuation, payload: "b" } }], end: "failed" },
  ...each("5.3–5.5 a text message in two fragments", [first, second], [smallEcho], "open"),
  ...each("5.6–5.8 a text message in two fragments with a ping between them", [first, aPing, second], [aPong, smallEcho], "open"),
  ...each("5.9–5.11 a last continuation with nothing to continue fails", [stray(true)], [], "failed"),
  ...each("5.12–5.14 a continuation with nothing to continue fails", [stray(false)], [], "failed"),
  ...each("5.15 a stray continuation after a whole message in fragments fails", [stray(false)], [], "failed", [{ send: first }, { send: second }, smallEcho]),
  ...each("5.16 a stray continuation before a message in fragments fails", [stray(false), first, second], [], "failed"),
  ...each("5.17 a stray last continuation before a message in fragments fails", [stray(true), first, second], [], "failed"),
  ...each("5.18 two fragments that both begin a message fail", [first, { ...second, opcode: text }], [], "failed"),
  ...each("5.19 five fragments with pings between them", withPings(fragments(small.message, 5)), [...fourTimes(aPong), smallEcho], "open"),
  ...each("5.20 a binary message in five fragments with pings between them", withPings(fragments(echoBinary(64).message, 5, binary)), [...fourTimes(aPong), { echo: echoBinary(64).payload }], "open", [], false),
  // uWebSockets takes the second for a continuation. The RFC lets it (10.7: it MAY drop), and in our byte stream it is one.
  ...each("5.18 two binary fragments that both begin a message are joined", fragments(echoBinary(64).message, 2, binary).map((frame) => ({ ...frame, opcode: binary })), [{ echo: echoBinary(64).payload }], "open", [], false),
  // uWebSockets lets the binary frame pass as a message of its own. It is none that this subprotocol knows.
  ...each("5.21 a binary frame within a text message in fragments ends the session", [first, { opcode: binary, payload: "x" }], [], { code: 3501 }),
  ...each("5.21 a text frame within a binary message in fragments ends the session", [{ opcode: binary, fin: false, payload: Buffer.of(0) }, { opcode: text, payload: "x" }], [], "failed", [], false),
  ...each("5.22 empty fragments before, between and behind the others", [{ ...first, payload: "" }, { ...first, opcode: continuation }, { opcode: continuation, fin: false }, { ...second, fin: false }, { opcode: continuation }], [smallEcho], "open"),
];

/** One case for each way of writing the frames. */
function each(title: string, frames: FrameShape[], answers: Step[], end: Case["end"], before: Step[] = [], json = true): Case[] {
  return written(frames).map(([how, steps]) => ({ title: `${title}, ${how}`, json, steps: [...before, ...steps, ...answers], end }));
}

function withPings(frames: FrameShape[]): FrameShape[] {
  return frames.flatMap((frame, i) => (i === 0 ? [frame] : [aPing, frame]));
}

function fourTimes(step: Step): Step[] {
  return [step, step, step, step];
}

const quarters = [1, 2, 3, 4].map(() => echoBinary(65_536));
const closing = (payload: Uint8Array = new Uint8Array(0)): Step => ({ send: { opcode: close, payload } });

const closes: Case[] = [
  { title: "7.1.1 a message, then a close", json: true, steps: [sendSmall, smallEcho, closing(closePayload(1000))], end: { code: 1000 } },
  { title: "7.1.2 two closes", steps: [{ write: Buffer.concat([1000, 1001].map((code) => buildFrame({ opcode: close, payload: closePayload(code) }))) }], end: { code: 1000 } },
  { title: "7.1.3 a ping after the close is not answered", steps: [{ write: Buffer.concat([{ opcode: close, payload: closePayload(1000) }, aPing].map(buildFrame)) }], end: { code: 1000 } },
  { title: "7.1.4 a message after the close is not answered", json: true, steps: [{ write: Buffer.concat([{ opcode: close, payload: closePayload(1000) }, { opcode: text, payload: small.message }].map(buildFrame)) }], end: { code: 1000 } },
  { title: "7.1.5 a close between two fragments ends the message", json: true, steps: [{ write: Buffer.concat([first, { opcode: close, payload: closePayload(1000) }, second].map(buildFrame)) }], end: { code: 1000 } },
  {
    title: "7.1.6 a message of 256 KiB, then a close, then a ping",
    steps: [
      { send: { opcode: binary, payload: Buffer.concat(quarters.map(({ message }) => message)) } },
      ...quarters.map(({ payload }): Step => ({ echo: payload })),
      { write: Buffer.concat([{ opcode: close, payload: closePayload(1000) }, aPing].map(buildFrame)) },
    ],
    end: { code: 1000 },
  },
  { title: "7.3.1 a close without payload", steps: [closing()], end: { code: 1005 } },
  { title: "7.3.2 a close with one byte fails", steps: [closing(Buffer.of(3))], end: { code: 1005 } },
  { title: "7.3.3 a close with a code", steps: [closing(closePayload(1000))], end: { code: 1000 } },
  { title: "7.3.4 a close with a code and a reason", steps: [closing(closePayload(1000, "done"))], end: { code: 1000 } },
  { title: "7.3.5 a close with a reason of 123 bytes", steps: [closing(closePayload(1000, "r".repeat(123)))], end: { code: 1000 } },
  { title: "7.3.6 a close with a reason of 124 bytes fails", steps: [closing(closePayload(1000, "r".repeat(124)))], end: "failed" },
  { title: "7.5.1 a close with a reason that is not UTF-8", steps: [closing(closePayload(1000, Buffer.of(0xce, 0xba, 0xed, 0xa0, 0x80)))], end: { code: 1005 } },
  ...[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999].map((code, i): Case => ({
    title: `7.7.${i + 1} close code ${code} is valid`,
    steps: [closing(closePayload(code))],
    // uWebSockets does not know 3000 to 3999 and answers without a code: to repeat it is usual (5.5.1), no duty.
    end: { code: code >= 3000 && code < 4000 ? 1005 : code },
  })),
  ...[0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535].map((code, i): Case => ({
    title: `7.9.${i + 1} close code ${code} is invalid`, steps: [closing(closePayload(code))], end: { code: 1005 },
  })),
];

/** Not of the suite: forms that the RFC forbids and that cost a server nothing to get wrong. */
const forms: Case[] = [
  { title: "5.2 of the RFC: a length of 64 in the 16-bit form", json: true, ...roundTrip(text, small, undefined, { lengthBits: 16 }) },
  { title: "5.2 of the RFC: a length of 64 in the 64-bit form", json: true, ...roundTrip(text, small, undefined, { lengthBits: 64 }) },
  { title: "5.2 of the RFC: a 64-bit length with its highest bit set", steps: [{ send: { opcode: binary, lengthBits: 64, announced: 1n << 63n } }], end: "failed" },
  {
    // The RFC wants the socket closed. uWebSockets does not look at the mask bit, takes the first four bytes of the payload
    // for the key and four bytes more from what follows, and what that makes of them is no frame.
    title: "5.1 of the RFC: a frame without a mask",
    json: true,
    steps: [{ send: { opcode: text, payload: small.message, mask: false } }, { write: Buffer.alloc(4) }],
    end: { code: 3501 },
  },
];

t.test("on one node", async (t) => {
  const node = await startNode(t);
  for (const one of [...framing, ...pings, ...reservedBits, ...reservedOpcodes, ...fragmentation, ...closes, ...forms]) {
    await t.test(one.title, (t) => converse(t, node, one));
  }
});

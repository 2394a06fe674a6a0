/**
 * Malformed, oversized, out-of-state, unknown and too fast input in frames: each gets its code, costs only its own
 * session and loses nothing of anyone else's. Every case runs beside two members who exchange publications, and
 * whose history is judged when it is over. Rooms and rates are in bad-input-rooms.test.ts, sockets and HTTP in
 * bad-input-sockets.test.ts.
 */
import t, { type Test } from "tap";
import { closes, type CloseName, type ErrorCode } from "../src/errors.ts";
import { Format } from "../src/protocol/messages.ts";
import { beside } from "./support/beside.ts";
import { startNode } from "./support/node.ts";
import { open, type Command, type Reply, type TestSession } from "./support/session.ts";
import { encodeBinary, encodeText, lengthPrefixed } from "./support/wire.ts";

type Message = Uint8Array | string;

interface BadInput {
  title: string;
  /** Text messages need the JSON subprotocol; default: JSON where every message is a text. */
  json?: boolean | "arrays";
  /** Sent without hello. */
  unready?: boolean;
  /** Sent one after the other, each as one message. */
  send: Message | Message[];
  /** Replies that must come, in order. */
  replies?: object[];
  /** How the session ends. Without: it goes on, and answers a ping. */
  close?: CloseName | "dropped";
}

const error = (code: ErrorCode, id = 0, text?: RegExp): object => ({ id, error: { code, ...(text && { text }) } });
const echo = (id: number, data: string): object => ({ id, echo: { payload: Buffer.from(data), format: Format.JSON } });
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(" ", ""), "hex");
const framed = (hex: string): Buffer => lengthPrefixed(bytes(hex));
const hello = { version: 1 };

const commands: Command[] = [
  { join: { room: "r" } }, { leave: { room: "r" } }, { publish: { room: "r", payload: Buffer.from("1"), format: Format.JSON } },
  { history: { room: "r" } }, { ping: { time: 1 } }, { echo: { payload: Buffer.from("1"), format: Format.JSON } }, { bye: {} },
];

const beforeReady: BadInput[] = [
  ...commands.flatMap((command): BadInput[] => [
    { title: `${Object.keys(command)} before hello`, unready: true, send: encodeBinary({ id: 1, ...command }), close: "not_hello" },
    { title: `${Object.keys(command)} before hello, in JSON`, unready: true, send: encodeText({ id: 1, ...command }), close: "not_hello" },
  ]),
  { title: "an empty frame before hello", unready: true, send: framed(""), close: "not_hello" },
  { title: "an empty object before hello", unready: true, send: "{}", close: "not_hello" },
  { title: "garbage before hello", unready: true, send: framed("ff ff ff ff"), close: "bad_frame" },
  { title: "an unreadable hello in JSON", unready: true, send: '{"id":1,"hello":{"version":"one"}}', close: "bad_frame" },
  { title: "a hello with a field that is wrong", unready: true, send: '{"id":1,"hello":{"version":1,"client":5}}', close: "bad_frame" },
  { title: "a hello with a field that nobody knows", unready: true, send: '{"id":1,"hello":{"version":1,"colour":"red"}}', close: "bad_frame" },
  { title: "a hello that is null", unready: true, send: '{"id":1,"hello":null}', close: "bad_frame" },
  { title: "a join with a field that nobody knows, before hello", unready: true, send: '{"id":1,"join":{"room":"r","colour":1}}', close: "not_hello" },
  ...[0, 2, 0xffff_ffff].map((version): BadInput => ({
    title: `hello of version ${version}`, unready: true, send: encodeBinary({ id: 1, hello: { version } }), close: "unsupported_version",
  })),
  { title: "hello of version 2 in JSON", unready: true, send: encodeText({ id: 1, hello: { version: 2 } }), close: "unsupported_version" },
  { title: "hello without a version", unready: true, send: framed("08 01 12 00"), close: "unsupported_version" },
  { title: "a second hello", send: encodeBinary({ id: 5, hello }), replies: [error("bad_request", 5)] },
  { title: "a second hello in JSON", send: encodeText({ id: 5, hello }), replies: [error("bad_request", 5)] },
  { title: "hello twice in one message", unready: true, send: Buffer.concat([encodeBinary({ id: 1, hello }), encodeBinary({ id: 2, hello })]), replies: [{ id: 1, ready: { version: 1 } }, error("bad_request", 2)] },
];

/** Values in values. */
const nested = (open: string, inner: string, close: string, depth: number): string => open.repeat(depth) + inner + close.repeat(depth);

const binaryFrames: BadInput[] = [
  { title: "a frame of garbage", send: framed("ff ff ff ff ff ff ff ff ff ff ff ff"), close: "bad_frame" },
  { title: "a command cut off within its length", send: framed("08 01 2a ff"), close: "bad_frame" },
  { title: "a command that announces more than the frame has", send: framed("08 01 2a 20 0a 01 72"), close: "bad_frame" },
  { title: "a room name that announces more than its command has", send: framed("08 01 1a 03 0a 20 72 72 72 72"), close: "bad_frame" },
  { title: "a field with the wire type 6, which there is not", send: framed("0e"), close: "bad_frame" },
  { title: "a field with the wire type 7, which there is not", send: framed("08 01 1f"), close: "bad_frame" },
  { title: "field number 0", send: framed("02 00"), close: "bad_frame" },
  { title: "the end of a group that did not begin", send: framed("08 01 a4 06"), close: "bad_frame" },
  { title: "20,000 groups in one another", send: lengthPrefixed(Buffer.alloc(40_000, Buffer.of(0xa3, 0x06))), close: "bad_frame" },
  { title: "a varint of eleven bytes", send: framed("3a 0c 08 ff ff ff ff ff ff ff ff ff ff 01"), close: "bad_frame" },
  { title: "a number over 2^53, which the node does not carry", send: framed("3a 09 08 ff ff ff ff ff ff ff 1f"), close: "bad_frame" },
  { title: "a room name that is not UTF-8", send: framed("08 07 1a 03 0a 01 ff"), close: "bad_frame" },
  { title: "a command as a varint is unknown, and so no command", send: framed("08 07 28 01"), replies: [error("bad_request", 7)] },
  { title: "a room as a varint is unknown, and so no room", send: framed("08 07 1a 02 08 05"), replies: [error("bad_request", 7)] },
  { title: "a frame without a command", send: framed("08 07"), replies: [error("bad_request", 7)] },
  { title: "an empty frame", send: framed(""), replies: [error("bad_request", 0)] },
  { title: "a command this version does not have", send: framed("08 07 f2 07 02 0a 00"), replies: [error("bad_request", 7)] },
  { title: "an unknown field beside a command is left alone", send: framed("08 07 42 07 0a 03 22 61 22 10 01 f8 07 01"), replies: [echo(7, '"a"')] },
  { title: "two commands in a frame: the last counts", send: framed("08 07 3a 02 08 01 42 07 0a 03 22 61 22 10 01"), replies: [echo(7, '"a"')] },
  { title: "a frame that announces one byte too many", send: bytes("00 01 00 01"), close: "frame_too_large" },
  { title: "a frame that announces 4 GiB", send: bytes("ff ff ff ff"), close: "frame_too_large" },
  { title: "a frame too large, announced in pieces", send: [bytes("00"), bytes("01 00"), bytes("01")], close: "frame_too_large" },
  { title: "a frame too large behind a sound one", send: Buffer.concat([encodeBinary({ id: 3, ping: { time: 1 } }), bytes("7f 00 00 00 00")]), replies: [{ id: 3, pong: { time: 1 } }], close: "frame_too_large" },
  { title: "a message larger than four frames", send: Buffer.alloc(262_145), close: "dropped" },
  { title: "a text message in the binary subprotocol", json: false, send: encodeText({ id: 1, ping: {} }), close: "bad_frame" },
  { title: "an empty text message in the binary subprotocol", json: false, send: "", close: "bad_frame" },
  { title: "a JSON payload 101 deep", send: encodeBinary({ id: 7, echo: { payload: Buffer.from(nested("[", "", "]", 101)), format: 1 } }), replies: [error("bad_request", 7, /100 deep/)] },
  { title: "a frame byte by byte", send: [...encodeBinary({ id: 9, ping: { time: 4 } })].map((byte) => Buffer.of(byte)), replies: [{ id: 9, pong: { time: 4 } }] },
];

/** Under 64 KiB as it comes, over 250 KiB as JSON.stringify writes it again. */
const grows = `[${Array(13_000).fill("1e20").join(",")}]`;
const arrays = nested("[", "", "]", 30_000);

const jsonFrames: BadInput[] = [
  ...["", " ", "{", "{]", "nonsense", "{\"id\":1,}", "{'id':1}", '{"id":1}{"id":2}', "\u0000", "NaN", "[1", "//"].map((send): BadInput => ({
    title: `text that is not JSON: ${JSON.stringify(send)}`, send, close: "bad_frame",
  })),
  ...["null", "true", "5", '"frame"', "[null]", "[[]]", '[[{"id":1,"ping":{}}]]'].map((send): BadInput => ({
    title: `JSON that is no frame: ${send}`, send, replies: [error("bad_request")],
  })),
  { title: "an empty array brings nothing", send: "[]" },
  { title: "an array of frames is answered frame by frame", send: '[{"id":11,"ping":{"time":"1"}},{"id":12,"echo":{"data":2}},{"id":13,"ping":{"time":"3"}}]', replies: [{ id: 11, pong: { time: 1 } }, echo(12, "2"), { id: 13, pong: { time: 3 } }] },
  { title: "a bad frame in an array does not spoil the others", send: '[{"id":11,"echo":{"data":1}},{"id":12,"nothing":{}},{"id":13,"echo":{"data":3}}]', replies: [echo(11, "1"), error("bad_request", 12), echo(13, "3")] },
  { title: "an array goes no further than bye", send: '[{"bye":{}},{"id":2,"echo":{"data":1}}]', close: "bye" },
  { title: "a frame without a command in JSON", send: '{"id":7}', replies: [error("bad_request", 7)] },
  { title: "an unknown command is named", send: '{"id":7,"fly":{}}', replies: [error("bad_request", 7, /fly/)] },
  { title: "an unknown field is named", send: '{"id":7,"join":{"room":"r","colour":1}}', replies: [error("bad_request", 7, /colour/)] },
  { title: "two commands in a frame in JSON", send: '{"id":7,"ping":{},"bye":{}}', replies: [error("bad_request", 7)] },
  { title: "a command that is null", send: '{"id":7,"ping":null}', replies: [error("bad_request", 7)] },
  ...["5", "null", '{"a":1}', "[]", "true"].map((room): BadInput => ({ title: `a room that is ${room}`, send: `{"id":7,"join":{"room":${room}}}`, replies: [error("bad_request", 7, /room/)] })),
  ...["-1", "1.5", "4294967296", "1e400", '"1"', "null"].map((id): BadInput => ({ title: `an id that is ${id}`, send: `{"id":${id},"ping":{}}`, replies: [error("bad_request", 0, /id/)] })),
  ...['"18446744073709551616"', '"-1"', '"1.5"', '"0x10"', '"seven"', '""', "-1", "1.5", "1e30", "true"].map((seq): BadInput => ({
    title: `a seq that is ${seq}`, send: `{"id":7,"join":{"room":"r","recover":{"epoch":"e","seq":${seq}}}}`, replies: [error("bad_request", 7, /seq/)],
  })),
  { title: "a payload as data and as b64", send: '{"id":7,"echo":{"data":1,"b64":"AA=="}}', replies: [error("bad_request", 7)] },
  { title: "a payload as neither", send: '{"id":7,"echo":{}}', replies: [error("bad_request", 7)] },
  ...['"%%%"', '"A"', '"AA=A"', "5"].map((b64): BadInput => ({ title: `b64 that is ${b64}`, send: `{"id":7,"echo":{"b64":${b64}}}`, replies: [error("bad_request", 7, /b64/)] })),
  { title: "arrays 30,000 deep as data", send: `{"id":7,"echo":{"data":${arrays}}}`, replies: [error("bad_request", 7)] },
  { title: "objects 100 deep as data are carried", send: `{"id":7,"echo":{"data":${nested('{"a":', "1", "}", 100)}}}`, replies: [echo(7, nested('{"a":', "1", "}", 100))] },
  { title: "arrays 101 deep as data", send: `{"id":7,"echo":{"data":${nested("[", "", "]", 101)}}}`, replies: [error("bad_request", 7, /100 deep/)] },
  { title: "brackets in strings, which nest nothing, as data", send: `{"id":7,"echo":{"data":"${"[{".repeat(200)}"}}`, replies: [echo(7, `"${"[{".repeat(200)}"`)] },
  { title: "arrays 30,000 deep as the frame", send: arrays, replies: [error("bad_request")] },
  { title: "arrays 30,000 deep as a room", send: `{"id":7,"join":{"room":${arrays}}}`, replies: [error("bad_request", 7)] },
  { title: "arrays 30,000 deep that do not end", send: "[".repeat(30_000), close: "bad_frame" },
  { title: "half a surrogate pair in a room name", send: '{"id":7,"join":{"room":"r\\ud800"}}', replies: [error("bad_request", 7)] },
  { title: "half a surrogate pair in data is carried as it is", send: '{"id":7,"echo":{"data":"\\ud800"}}', replies: [echo(7, '"\\ud800"')] },
  { title: "NUL in a room name", send: '{"id":7,"join":{"room":"r\\u0000"}}', replies: [error("bad_request", 7)] },
  { title: "__proto__ as a command", send: '{"id":7,"__proto__":{"ping":{}}}', replies: [error("bad_request", 7)] },
  { title: "__proto__ beside a room", send: '{"id":7,"leave":{"__proto__":{"room":"r"},"room":"r"}}', replies: [error("bad_request", 7)] },
  { title: "constructor and prototype as commands", send: '[{"id":7,"constructor":{"prototype":{"x":1}}},{"id":8,"toString":{}}]', replies: [error("bad_request", 7), error("bad_request", 8)] },
  { title: "__proto__ in data is data", send: '{"id":7,"echo":{"data":{"__proto__":{"polluted":true}}}}', replies: [echo(7, '{"__proto__":{"polluted":true}}')] },
  { title: "a binary message in the JSON subprotocol", json: true, send: encodeBinary({ id: 1, ping: {} }), close: "bad_frame" },
  { title: "a text message larger than a frame may be", send: `{"id":1,"echo":{"data":"${"x".repeat(65_536)}"}}`, close: "frame_too_large" },
  { title: "data that grows past a frame when it is written again, to echo", send: `{"id":7,"echo":{"data":${grows}}}`, replies: [error("too_large", 7)] },
  { title: "data that grows past a frame when it is written again, to publish", send: ['{"join":{"room":"own"}}', `{"id":7,"publish":{"room":"own","data":${grows}}}`], replies: [error("too_large", 7)] },
  { title: "data of as many numbers that do not grow", send: `{"id":7,"echo":{"data":${grows.replaceAll("1e20", "1020")}}}`, replies: [echo(7, grows.replaceAll("1e20", "1020"))] },
  ...(["[]", '{"id":7,"fly":{}}', '[{"id":7,"fly":{}}]', "[["] as const).map((send): BadInput => ({
    title: `in flux.v1.json-arrays, as in plain JSON: ${send}`, json: "arrays", send, ...(send === "[[" ? { close: "bad_frame" } : { replies: send === "[]" ? [] : [error("bad_request", 7, /fly/)] }),
  })),
  { title: "an array of frames in flux.v1.json-arrays", json: "arrays", send: ['[{"id":11,"echo":{"data":[1]}},{"id":12,"ping":{"time":"1"}}]', '{"id":13,"ping":{"time":"2"}}'], replies: [echo(11, "[1]"), { id: 12, pong: { time: 1 } }, { id: 13, pong: { time: 2 } }] },
  { title: "anything but hello first in flux.v1.json-arrays", json: "arrays", unready: true, send: '[{"id":1,"ping":{}}]', close: "not_hello" },
  { title: "a binary message in flux.v1.json-arrays", json: "arrays", send: encodeBinary({ id: 1, ping: {} }), close: "bad_frame" },
  { title: "a message larger than a frame may be in flux.v1.json-arrays", json: "arrays", send: `[{"id":1,"echo":{"data":"${"x".repeat(65_536)}"}}]`, close: "frame_too_large" },
  { title: "an array of 10,000 nothings", send: `[${"0,".repeat(9_999)}0]`, replies: [], close: "rate_limited" },
];

const binaryJson: BadInput[] = [
  ["no JSON", "7b"], ["nothing", ""], ["half a word", "74 72 75"], ["UTF-8 cut off", "22 e2 82 22"], ["a surrogate in UTF-8", "22 ed a0 80 22"], ["Latin-1", "22 fc 22"],
].flatMap(([what, hex = ""]): BadInput[] => ["echo", "publish"].map((kind) => ({
  title: `${kind} by a binary client of format JSON that is ${what}`,
  send: kind === "echo"
    ? encodeBinary({ id: 7, echo: { payload: bytes(hex), format: Format.JSON } })
    : [encodeBinary({ join: { room: "own" } }), encodeBinary({ id: 7, publish: { room: "own", payload: bytes(hex), format: Format.JSON } })],
  replies: [error("bad_request", 7)],
})));

t.test("bad frames", async (t) => {
  const node = await startNode(t);
  for (const one of [...beforeReady, ...binaryFrames, ...jsonFrames, ...binaryJson]) {
    await t.test(one.title, (t) => beside(t, node, () => meet(t, node, one)));
  }
  t.notOk("polluted" in {}, "no prototype was touched");
});

/** Sends the input on a session of its own and compares what becomes of it. */
async function meet(t: Test, node: { port: number }, { json, unready, send, replies = [], close }: BadInput): Promise<void> {
  const messages = Array.isArray(send) ? send : [send];
  const session = await open(node, { json: json ?? messages.every((one) => typeof one === "string"), ...(unready && { hello: null }) });
  const before = session.events.length;
  for (const message of messages) await session.sendMessage(message);

  if (close === undefined) await stillAnswers(t, session);
  else t.strictSame(await session.closed(), close === "dropped" ? close : { code: closes[close].code, reason: close });
  // Refused for its rate as often as it takes: how many replies that is, is another test's.
  if (close === "rate_limited") return;
  const got = session.events.slice(before).filter((event) => event.joined == null && event.pong?.time !== lastPing);
  t.match(got.map(comparable), replies);
  t.equal(got.length, replies.length, "and nothing else");
}

const lastPing = 4_711;

async function stillAnswers(t: Test, session: TestSession): Promise<void> {
  if (session.ready === undefined) await session.waitFor(() => session.events.length > 0, "ready");
  t.match((await session.request({ ping: { time: lastPing } })).pong, { time: lastPing }, "the session goes on");
  t.match(await session.bye(), { code: 1000 });
}

/** Payloads as Buffers, so that both subprotocols compare alike. */
function comparable(reply: Reply): object {
  if (!reply.echo) return { ...reply, id: reply.id ?? 0 };
  return { id: reply.id, echo: { payload: Buffer.from(reply.echo.payload ?? []), format: reply.echo.format } };
}

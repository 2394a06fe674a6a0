/**
 * UTF-8 in text messages, as section 6 of the Autobahn test suite lists it. A text is the `data` of an echo command, so
 * it comes back if it is valid; if it is not, the connection must fail (RFC 6455, 8.1), for which uWebSockets
 * drops the socket. It looks at whole messages, so the fail-fast cases (6.4) fail with the last fragment: the RFC
 * leaves it open when.
 */
import t from "tap";
import { converse, type Case, type Step } from "./support/conversation.ts";
import { startNode } from "./support/node.ts";
import { buildFrame, opcodes, type FrameShape } from "./support/rawsocket.ts";

const { continuation, text } = opcodes;
const head = Buffer.from('{"id":1,"echo":{"data":"');
const tail = Buffer.from('"}}');

const valid: [title: string, hex: string][] = [
  ["6.2.1 a text of one- to four-byte characters", "4772c3bcc39f6520ceba20e282ac20f09f9880"],
  ["6.5.1 the Greek word kosme", "cebae1bdb9cf83cebcceb5"],
  ["6.5.2 a character above the basic plane", "f0908d88"],
  ["6.6 the word cut behind its first character", "ceba"],
  ["6.6 the word cut behind its second character", "cebae1bdb9"],
  ["6.7 the first character of two bytes, U+0080", "c280"],
  ["6.7 the first character of three bytes, U+0800", "e0a080"],
  ["6.7 the first character of four bytes, U+10000", "f0908080"],
  ["6.9 the last character of one byte, U+007F", "7f"],
  ["6.9 the last character of two bytes, U+07FF", "dfbf"],
  ["6.9 the last character of three bytes, U+FFFF", "efbfbf"],
  ["6.9 the last character there is, U+10FFFF", "f48fbfbf"],
  ["6.11 the last character before the surrogates, U+D7FF", "ed9fbf"],
  ["6.11 the first character behind the surrogates, U+E000", "ee8080"],
  ["6.11 the replacement character, U+FFFD", "efbfbd"],
  ["6.22 the non-character U+FFFE", "efbfbe"],
  ...[1, 2, 3, 8, 15, 16].map((plane): [string, string] => [
    `6.22 the non-characters at the end of plane ${plane}`, Buffer.from(String.fromCodePoint(plane * 0x10000 + 0xfffe, plane * 0x10000 + 0xffff)).toString("hex"),
  ]),
  ["6.22 the non-characters U+FDD0 and U+FDEF", "efb790efb7af"],
  ["6.23 the byte order mark within a text", "61efbbbf62"],
  ["6.23 the specials U+FFF9 to U+FFFC", "efbfb9efbfbaefbfbbefbfbc"],
  ["6.23 the line separators U+2028 and U+2029", "e280a8e280a9"],
];

const invalid: [title: string, hex: string][] = [
  ["6.3.1 a surrogate in the middle of a word", "cebae1bdb9cf83cebcceb5eda080656469746564"],
  ...[1, 3, 4, 6, 8, 10].map((bytes): [string, string] => [
    `6.6 the Greek word kosme cut after ${bytes} bytes, within a character`, "cebae1bdb9cf83cebcceb5".slice(0, bytes * 2),
  ]),
  ["6.8 the first sequence of five bytes", "f888808080"],
  ["6.8 the first sequence of six bytes", "fc8480808080"],
  ["6.10 the last sequence of four bytes, beyond U+10FFFF", "f7bfbfbf"],
  ["6.10 the last sequence of five bytes", "fbbfbfbfbf"],
  ["6.10 the last sequence of six bytes", "fdbfbfbfbfbf"],
  ["6.11 the first character beyond the last, U+110000", "f4908080"],
  ["6.12 a continuation byte alone, the first", "80"],
  ["6.12 a continuation byte alone, the last", "bf"],
  ["6.12 seven continuation bytes", "80bf80bf80bf80"],
  ["6.12 a continuation byte behind a whole character", "ceba80"],
  ...["c2", "df", "e0", "ef", "f0", "f4"].map((byte): [string, string] => [`6.13 the start byte ${byte} before a space`, `${byte}20`]),
  ["6.14 two bytes without the last", "c2"],
  ["6.14 three bytes without the last", "e0a0"],
  ["6.14 four bytes without the last", "f09080"],
  ["6.14 three bytes without the last, U+FFFF", "efbf"],
  ["6.14 four bytes without the last, U+10FFFF", "f48fbf"],
  ["6.15 incomplete sequences one behind the other", "c2e0a0f09080dfefbff48fbf"],
  ["6.16 the byte fe", "fe"],
  ["6.16 the byte ff", "ff"],
  ["6.16 fe fe ff ff", "fefeffff"],
  ["6.17 a slash in two bytes", "c0af"],
  ["6.17 a slash in three bytes", "e080af"],
  ["6.17 a slash in four bytes", "f08080af"],
  ["6.17 a slash in five bytes", "f8808080af"],
  ["6.17 a slash in six bytes", "fc80808080af"],
  ["6.18 U+007F in two bytes", "c1bf"],
  ["6.18 U+07FF in three bytes", "e09fbf"],
  ["6.18 U+FFFF in four bytes", "f08fbfbf"],
  ["6.19 U+0000 in two bytes", "c080"],
  ["6.19 U+0000 in three bytes", "e08080"],
  ["6.19 U+0000 in four bytes", "f0808080"],
  ...["a080", "adbf", "ae80", "afbf", "b080", "be80", "bfbf"].map((rest): [string, string] => [`6.20 the surrogate ed${rest} alone`, `ed${rest}`]),
  ...["eda080edb080", "eda080edbfbf", "edadbfedb080", "edafbfedbfbf"].map((hex): [string, string] => [`6.21 the pair of surrogates ${hex}`, hex]),
];

/** The whole message in one frame. */
function whole(payload: Buffer): FrameShape[] {
  return [{ opcode: text, payload }];
}

/** The message cut at the given places. */
function cutAt(payload: Buffer, places: number[]): FrameShape[] {
  const edges = [0, ...places, payload.length];
  return edges.slice(1).map((end, i) => ({
    opcode: i === 0 ? text : continuation, fin: end === payload.length, payload: payload.subarray(edges[i], end),
  }));
}

function octets(payload: Buffer): FrameShape[] {
  return cutAt(payload, Array.from({ length: payload.length - 1 }, (_, i) => i + 1));
}

function message(hex: string): Buffer {
  return Buffer.concat([head, Buffer.from(hex, "hex"), tail]);
}

function sendAll(frames: FrameShape[]): Step[] {
  return [{ write: Buffer.concat(frames.map(buildFrame)) }];
}

function good(title: string, hex: string, frames: FrameShape[]): Case {
  const data = Buffer.concat([Buffer.of(0x22), Buffer.from(hex, "hex"), Buffer.of(0x22)]);
  return { title, json: true, steps: [...sendAll(frames), { echo: data }], end: "open" };
}

function bad(title: string, frames: FrameShape[]): Case {
  return { title, json: true, steps: sendAll(frames), end: "failed" };
}

const word = "cebae1bdb9cf83cebcceb5";
const cases: Case[] = [
  good("6.1.1 an empty text", "", whole(message(""))),
  good("6.1.2 a text of which every second fragment is empty", word, cutAt(message(word), [0, 26, 26, 31, 31])),
  good("6.2.2 a text in two fragments cut between characters", word, cutAt(message(word), [head.length + 5])),
  good("6.2.3 a text in two fragments cut within a character", word, cutAt(message(word), [head.length + 3])),
  { ...good("6.2.4 a text octet by octet in TCP", word, whole(message(word))), steps: [{ write: buildFrame({ opcode: text, payload: message(word) }), chop: 1 }, { echo: Buffer.from(`22${word}22`, "hex") }] },
  ...valid.flatMap(([title, hex]) => [
    good(`${title}, is valid`, hex, whole(message(hex))),
    good(`${title}, is valid in fragments of one octet`, hex, octets(message(hex))),
  ]),
  ...invalid.flatMap(([title, hex]) => [
    bad(`${title}, is invalid`, whole(message(hex))),
    bad(`${title}, is invalid in fragments of one octet`, octets(message(hex))),
  ]),
  bad("6.4.1 a text whose first fragment ends within an invalid character", cutAt(message("cebaf4908080ceba"), [head.length + 6])),
  bad("6.4.2 a text that is invalid in its last fragment only", cutAt(message("cebacebaf490"), [head.length + 4])),
  { title: "6.24 an escaped NUL is a character like any other", json: true, steps: [{ send: { opcode: text, payload: '{"id":1,"echo":{"data":"a\\u0000b"}}' } }, { echo: '"a\\u0000b"' }], end: "open" },
  { title: "6.24 a NUL within a JSON string is valid UTF-8 and no JSON", json: true, steps: [{ send: { opcode: text, payload: message("00") } }], end: { code: 3501 } },
];

t.test("on one node", async (t) => {
  const node = await startNode(t);
  for (const one of cases) await t.test(one.title, (t) => converse(t, node, one));
});

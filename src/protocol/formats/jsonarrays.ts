/**
 * flux.v1.json-arrays: the JSON of json.ts, but each message of the node is an array of frames. So publications to one
 * room that follow each other leave in one message. Clients send the same as in json.ts: one frame, or an array.
 */
import { subprotocols } from "../messages.ts";
import { noFrame, wireFormat } from "./format.ts";
import { encodeServerJson, eventBytesMax, eventOf, json, pageJson, parsed, writeEvent } from "./json.ts";

const toUtf8 = new TextEncoder();
const comma = 0x2c;
const [openBracket, closeBracket] = [0x5b, 0x5d];
const brackets = 2;

export const jsonArrays = wireFormat({
  name: "json-arrays",
  subprotocol: subprotocols.jsonArrays,
  isBinary: false,
  isStream: false,
  parsesPayloads: true,

  decode: json.decode,

  frame: (_, frame) => arrayOf(encodeServerJson(frame)),
  publicationBytesMax: (encoded) => brackets + eventBytesMax(encoded),
  writePublication(out, encoded) {
    out.u8(openBracket);
    writeEvent(out, encoded);
    out.u8(closeBracket);
  },
  page: (_, kind, id, head, bodies) => arrayOf(pageJson(kind, id, head, bodies)),

  /** The comma takes the place of the two brackets between them. */
  append(pack, at, message) {
    const start = at === 0 ? 0 : at - 1;
    pack.set(message, start);
    if (at > 0) pack[start] = comma;
    return start + message.length;
  },

  isAnswer: (message) => message[3] === i && message[4] === d && message[5] === quote,

  firstOf(message) {
    const frames = parsed(message);
    return Array.isArray(frames) ? eventOf(frames[0]) : noFrame;
  },
});

/** An answer begins with its id, as `[{"id":` */
const [quote, i, d] = toUtf8.encode('"id');

function arrayOf(frame: string): Uint8Array {
  return toUtf8.encode(`[${frame}]`);
}

/**
 * Format of a publication inside NATS: a prefix, then the payload unchanged. Writing takes one allocation, reading
 * returns views. NATS headers would be text, parsed for every message.
 *
 *     0       1        2        10       18        22         24        26         28
 *     +-------+--------+--------+--------+---------+----------+---------+----------+--------+--------+-----+---------+
 *     | form  | format | time   | node   | number  | sender   | origin  | key      | sender | origin | key | payload |
 *     | u8    | u8     | f64    | 8 bytes| u32     | length   | length  | length   | UTF-8  | ASCII  |     |         |
 *     +-------+--------+--------+--------+---------+----------+---------+----------+--------+--------+-----+---------+
 *
 * `node` and `number` identify a publication to the node that made it. `origin` has a meaning on that node only, unless
 * it begins with `originForAll`.
 */
import { isUtf8 } from "node:buffer";
import { Format } from "../../../protocol/messages.ts";
import { originForAll, originText, type Draft } from "../../broker.ts";

const form = 1;
const prefixBytes = 28;
const forAll = originForAll.charCodeAt(0);
export const nodeTokenBytes = 8;

export interface Envelope {
  readonly time: number;
  readonly format: number;
  readonly sender: string;
  readonly origin: string;
  readonly key: string;
  /** 0 if another node published it. */
  readonly number: number;
  /** A view. */
  readonly payload: Uint8Array;
}

export function writeEnvelope(node: Buffer, number: number, time: number, draft: Draft): Buffer {
  const { sender, key, format, payload } = draft;
  const origin = originText(draft.origin);
  const senderBytes = Buffer.byteLength(sender);
  const keyBytes = Buffer.byteLength(key);
  const textBytes = senderBytes + origin.length + keyBytes;
  const bytes = Buffer.allocUnsafe(prefixBytes + textBytes + payload.length);
  bytes[0] = form;
  bytes[1] = format;
  bytes.writeDoubleLE(time, 2);
  node.copy(bytes, 10);
  bytes.writeUInt32LE(number, 18);
  bytes.writeUInt16LE(senderBytes, 22);
  bytes.writeUInt16LE(origin.length, 24);
  bytes.writeUInt16LE(keyBytes, 26);
  let at = prefixBytes;
  at += bytes.write(sender, at);
  at += bytes.write(origin, at, "latin1");
  at += bytes.write(key, at);
  bytes.set(payload, at);
  return bytes;
}

/** Null: from another program, or in a form that this node does not know. */
export function readEnvelope(node: Buffer, data: Uint8Array): Envelope | null {
  if (data.length < prefixBytes || data[0] !== form) return null;
  const bytes = Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.length);
  const originAt = prefixBytes + bytes.readUInt16LE(22);
  const keyAt = originAt + bytes.readUInt16LE(24);
  const payloadAt = keyAt + bytes.readUInt16LE(26);
  if (payloadAt > bytes.length) return null;
  const own = isOwn(node, bytes);
  const payload = bytes.subarray(payloadAt);
  return {
    time: bytes.readDoubleLE(2),
    format: bytes[1] === Format.JSON && !own && !isJson(payload) ? Format.BINARY : bytes[1]!,
    sender: originAt > prefixBytes ? bytes.toString("utf8", prefixBytes, originAt) : "",
    origin: keyAt > originAt && (own || bytes[originAt] === forAll) ? bytes.toString("latin1", originAt, keyAt) : "",
    key: payloadAt > keyAt ? bytes.toString("utf8", keyAt, payloadAt) : "",
    number: own ? bytes.readUInt32LE(18) : 0,
    payload,
  };
}

/** Nodes check JSON before they publish it. Another program may not have: its bytes would spoil the messages of others. */
function isJson(payload: Buffer): boolean {
  if (!isUtf8(payload)) return false;
  try {
    JSON.parse(payload.toString());
    return true;
  } catch {
    return false;
  }
}

/** Time of publishing; NaN: from another program. */
export function timeOf(bytes: Buffer): number {
  return bytes.length < prefixBytes || bytes[0] !== form ? NaN : bytes.readDoubleLE(2);
}

function isOwn(node: Buffer, bytes: Buffer): boolean {
  return bytes.readUInt32LE(10) === node.readUInt32LE(0) && bytes.readUInt32LE(14) === node.readUInt32LE(4);
}

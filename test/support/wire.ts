/**
 * The two forms of a frame on the wire, written a second time for the tests: what the node encodes is read
 * here by other code than the node's, strictly, so that a deviation shows.
 */
import { ClientFrame, Format, ServerFrame } from "../../src/protocol/messages.ts";

/** `[u32 big-endian length][ClientFrame]` */
export function encodeBinary(frame: ClientFrame): Buffer {
  return lengthPrefixed(ClientFrame.encode(frame).finish());
}

/** `[u32 big-endian length][body]`; the length may be made to lie. */
export function lengthPrefixed(body: Uint8Array, announced = body.length): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(announced);
  return Buffer.concat([head, body]);
}

/** proto3 JSON of the frame, its payload as `data` or `b64`. */
export function encodeText(frame: ClientFrame): string {
  return JSON.stringify(writeObject(frame));
}

/** Reads messages one after the other; a frame may be split over them or packed with others. */
export function binaryReader(): (message: Buffer) => ServerFrame[] {
  let pending: Buffer = Buffer.alloc(0);
  return (message) => {
    const frames: ServerFrame[] = [];
    pending = Buffer.concat([pending, message]);
    while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE(0)) {
      const end = 4 + pending.readUInt32BE(0);
      frames.push(decode(pending.subarray(4, end)));
      pending = pending.subarray(end);
    }
    return frames;
  };
}

/** Reads a text message of the node: one frame object. Encoded and decoded once more, for the defaults of unset fields. */
export function readText(message: Buffer): ServerFrame[] {
  return [readFrame(JSON.parse(message.toString("utf8")))];
}

/** Reads a text message of flux.v1.json-arrays: one array of frame objects. */
export function readTexts(message: Buffer): ServerFrame[] {
  const frames: unknown = JSON.parse(message.toString("utf8"));
  if (!Array.isArray(frames) || frames.length === 0) throw new Error(`the node sent no array of frames: ${message.toString("utf8")}`);
  return frames.map(readFrame);
}

function readFrame(frame: unknown): ServerFrame {
  if (!isObject(frame)) throw new Error(`the node sent no frame object: ${JSON.stringify(frame)}`);
  return decode(ServerFrame.encode(readObject(frame)).finish());
}

/** protobufjs makes an object of every uint64 where the package `long` is installed; here they are numbers. */
function decode(body: Uint8Array): ServerFrame {
  const frame = ServerFrame.decode(body);
  narrow(frame);
  return frame;
}

function narrow(message: object): void {
  for (const [name, value] of Object.entries(message) as [keyof typeof message, unknown][]) {
    if (typeof value !== "object" || value === null || value instanceof Uint8Array) continue;
    if (uint64s.has(name)) Object.assign(message, { [name]: Number(value) });
    else narrow(value);
  }
}

const uint64s = new Set(["seq", "prev", "time", "serverTime", "expires", "lastSeen"]);

function writeObject(message: object): object {
  const { payload, format, ...rest } = message as Record<string, unknown>;
  const written = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, writeValue(name, value)]));
  if (!(payload instanceof Uint8Array)) return written;
  if (format !== Format.JSON) return { ...written, b64: Buffer.from(payload).toString("base64") };
  return { ...written, data: JSON.parse(Buffer.from(payload).toString("utf8")) };
}

function writeValue(name: string, value: unknown): unknown {
  if (uint64s.has(name)) return String(value);
  if (Array.isArray(value)) return value.map((item) => (isObject(item) ? writeObject(item) : item));
  return isObject(value) ? writeObject(value) : value;
}

function readObject(object: Record<string, unknown>): object {
  const { data, b64, ...rest } = object;
  const read = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, readValue(name, value)]));
  if (data !== undefined && b64 !== undefined) throw new Error("the node sent a payload as data and as b64");
  if (data !== undefined) return { ...read, payload: Buffer.from(JSON.stringify(data)), format: Format.JSON };
  if (typeof b64 === "string") return { ...read, payload: Buffer.from(b64, "base64"), format: Format.BINARY };
  return read;
}

function readValue(name: string, value: unknown): unknown {
  if (uint64s.has(name)) {
    if (typeof value !== "string" || !/^\d+$/.test(value)) throw new Error(`the node wrote ${name} as ${JSON.stringify(value)}`);
    return Number(value);
  }
  if (Array.isArray(value)) return value.map((item) => (isObject(item) ? readObject(item) : item));
  return isObject(value) ? readObject(value) : value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

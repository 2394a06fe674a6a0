/**
 * Binary frames of flux.v1 for clients: encodes client frames, decodes server frames. It follows the table fields.ts and
 * needs no protobuf library. Generated code for all messages in both directions would be two thirds of the bundle for
 * browsers (docs/decisions/119-a-codec-from-a-table.md).
 */
import { fields } from "./fields.ts";
import { writeLength } from "./framing.ts";
import type { ClientFrame, ServerFrame } from "./messages.ts";

/** `kind` is that of a scalar (u: uint32 or enum, n: uint64, b: bool, s: string, y: bytes), or the name of a message. */
type Field = { readonly number: number; readonly name: string; readonly kind: string; readonly isRepeated: boolean; readonly isOptional: boolean };
type Message = Record<string, unknown>;

const types = new Map<string, readonly (Field | undefined)[]>();

/** Fields of a message, each at the index of its number. */
function typeOf(name: string): readonly (Field | undefined)[] {
  let type = types.get(name) as (Field | undefined)[] | undefined;
  if (type) return type;
  types.set(name, (type = []));
  for (const text of (fields as Record<string, string>)[name]!.split(" ").filter(Boolean)) {
    const [, number, field, kind, mark] = /^(\d+)(\w+):(\w+)(.?)$/.exec(text)!;
    type[+number!] = { number: +number!, name: field!, kind: kind!, isRepeated: mark === "*", isOptional: mark === "?" };
  }
  return type;
}

const isVarint = (kind: string) => kind === "u" || kind === "n" || kind === "b";

// ---------------------------------------------------------------- encoding

const encoder = new TextEncoder();
const keptBytesMax = 1024 * 1024;
/**
 * Filled from its end to its beginning, so that the length of a message is known when it is written in front.
 * `written` bytes at the end are in use.
 */
let buffer = new Uint8Array(1024);
let written = 0;

/** One client frame with its length, in a buffer of its own. */
export function encodeClientFrame(frame: ClientFrame): Uint8Array {
  written = 0;
  writeMessage("ClientFrame", frame as Message);
  const bytes = new Uint8Array(4 + written);
  writeLength(bytes, 0, written);
  bytes.set(buffer.subarray(buffer.length - written), 4);
  if (buffer.length > keptBytesMax) buffer = new Uint8Array(1024);
  return bytes;
}

function writeMessage(name: string, message: Message): void {
  const type = typeOf(name);
  for (let number = type.length; number-- > 0; ) {
    const field = type[number];
    const value = field && message[field.name];
    if (field === undefined || value === undefined || value === null) continue;
    if (field.isRepeated) for (const one of [...(value as unknown[])].reverse()) writeField(field, one);
    else if (field.isOptional || !isDefault(value)) writeField(field, value);
  }
}

/** Default values of scalars are not sent. */
function isDefault(value: unknown): boolean {
  return !value || (value instanceof Uint8Array && value.length === 0);
}

function writeField({ number, kind }: Field, value: unknown): void {
  if (isVarint(kind)) {
    writeVarint(toInteger(kind, Number(value)));
    return writeVarint(number * 8);
  }
  const behind = written;
  if (kind === "s") writeString(String(value));
  else if (kind === "y") writeBytes(value as Uint8Array);
  else writeMessage(kind, value as Message);
  writeVarint(written - behind);
  writeVarint(number * 8 + 2);
}

/** Anything else than an integer of the kind is made one, as by protobuf libraries. */
function toInteger(kind: string, value: number): number {
  return kind === "n" ? Math.min(Math.max(0, Math.trunc(value) || 0), Number.MAX_SAFE_INTEGER) : value >>> 0;
}

function writeString(text: string): void {
  const start = claim(text.length);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 128) buffer[start + i] = unit;
    else {
      written -= text.length;
      return writeBytes(encoder.encode(text));
    }
  }
}

function writeBytes(bytes: Uint8Array): void {
  const start = claim(bytes.length);
  buffer.set(bytes, start);
}

function writeVarint(value: number): void {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length++;
  let place = claim(length);
  for (; length > 1; length--) {
    buffer[place++] = (value % 128) | 128;
    value = Math.floor(value / 128);
  }
  buffer[place] = value;
}

/** Returns where `bytes` more begin. */
function claim(bytes: number): number {
  if (written + bytes > buffer.length) {
    const larger = new Uint8Array(2 * (written + bytes));
    larger.set(buffer.subarray(buffer.length - written), larger.length - written);
    buffer = larger;
  }
  written += bytes;
  return buffer.length - written;
}

// ---------------------------------------------------------------- decoding

// ignoreBOM: a byte order mark is part of the text.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
let read: Uint8Array = buffer;
let at = 0;
/** End of the message or field that is being read. */
let end = 0;

/**
 * Absent fields stay absent. Byte fields are views into `bytes`.
 * @throws RangeError for malformed bytes
 */
export function decodeServerFrame(bytes: Uint8Array, start: number, stop: number): ServerFrame {
  read = bytes;
  at = start;
  end = stop;
  return readMessage("ServerFrame", {}) as ServerFrame;
}

function readMessage(name: string, message: Message): Message {
  const type = typeOf(name);
  while (at < end) {
    const tag = readVarint();
    const wire = tag % 8;
    const field = type[Math.floor(tag / 8)];
    // A field that a later version added, or changed the type of, is passed over.
    if (field === undefined || wire !== (isVarint(field.kind) ? 0 : 2)) skip(tag, wire);
    else if (field.isRepeated) ((message[field.name] ??= []) as unknown[]).push(readField(field.kind, undefined));
    else message[field.name] = readField(field.kind, message[field.name]);
  }
  return message;
}

/** @param before value of the field so far: a message that comes in parts is put together */
function readField(kind: string, before: unknown): unknown {
  const value = readVarint();
  if (kind === "b") return value !== 0;
  if (kind === "u") return value >>> 0;
  if (kind === "n") return safe(value);
  const outer = end;
  const stop = at + value;
  if (stop > outer) throw new RangeError("a field is longer than its message");
  end = stop;
  const result = kind === "s" ? readString() : kind === "y" ? read.subarray(at, stop) : readMessage(kind, (before as Message | undefined) ?? {});
  at = stop;
  end = outer;
  return result;
}

/** Most strings are short: a TextDecoder takes a multiple of this loop for them. */
function readString(): string {
  if (end - at > 48) return decoder.decode(read.subarray(at, end));
  let text = "";
  for (let i = at; i < end; i++) {
    const byte = read[i]!;
    if (byte > 127) return decoder.decode(read.subarray(at, end));
    text += String.fromCharCode(byte);
  }
  return text;
}

/** Numbers from 2^53 on are not exact. */
function readVarint(): number {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 10 && at < end; i++) {
    const byte = read[at++]!;
    value += (byte & 127) * scale;
    if (byte < 128) return value;
    scale *= 128;
  }
  throw new RangeError("a number is cut off or longer than 10 bytes");
}

function safe(value: number): number {
  if (value <= Number.MAX_SAFE_INTEGER) return value;
  throw new RangeError("a number over 2^53");
}

function skip(tag: number, wire: number): void {
  if (wire === 0 || wire === 2) {
    const value = readVarint();
    if (wire === 2) at += value;
  } else if (wire === 1 || wire === 5) at += wire === 1 ? 8 : 4;
  else throw new RangeError(`tag ${tag} has an unknown wire type`);
  if (at > end) throw new RangeError("a field is longer than its message");
}

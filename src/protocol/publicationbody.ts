/**
 * The binary body of a publication, as protobufjs encodes the message of flux.proto, byte for byte. It is written where
 * it stays, so its payload is copied once. protobufjs writes to a buffer of its own, and makes an object of every
 * 64-bit number.
 */
import protobuf from "protobufjs/minimal.js";
import type { Publication } from "./messages.ts";

const { utf8 } = protobuf.util;

/** Tags of flux.proto: field number × 8 + wire type (0: varint, 2: length and bytes). */
const tags = { room: 10, epoch: 18, seq: 24, prev: 32, sender: 42, time: 48, payload: 58, format: 64 } as const;

/** Bytes that `writeBody` writes. */
export function bodyBytes({ room, epoch, seq, prev, sender, time, payload, format }: Publication): number {
  return textBytes(room) + textBytes(epoch) + numberBytes(seq) + numberBytes(prev) + textBytes(sender) + numberBytes(time)
    + sizedBytes(payload?.length ?? 0) + numberBytes(format);
}

/** Returns where the body ends. `out` must have room for it. */
export function writeBody(out: Uint8Array, start: number, { room, epoch, seq, prev, sender, time, payload, format }: Publication): number {
  let at = writeText(out, start, tags.room, room);
  at = writeText(out, at, tags.epoch, epoch);
  at = writeNumber(out, at, tags.seq, seq);
  at = writeNumber(out, at, tags.prev, prev);
  at = writeText(out, at, tags.sender, sender);
  at = writeNumber(out, at, tags.time, time);
  if (payload != null && payload.length > 0) {
    out[at] = tags.payload;
    at = writeVarint(out, at + 1, payload.length);
    out.set(payload, at);
    at += payload.length;
  }
  return writeNumber(out, at, tags.format, format);
}

function textBytes(text: string | null | undefined): number {
  return text == null ? 0 : sizedBytes(utf8.length(text));
}

/** A field of this many bytes, with its tag and length. An empty one is left out. */
function sizedBytes(length: number): number {
  return length === 0 ? 0 : 1 + varintBytes(length) + length;
}

/** A number with its tag. 0 is left out. */
function numberBytes(value: number | null | undefined): number {
  return value == null || value === 0 ? 0 : 1 + varintBytes(value);
}

function writeText(out: Uint8Array, at: number, tag: number, text: string | null | undefined): number {
  if (text == null || text === "") return at;
  out[at] = tag;
  const start = writeVarint(out, at + 1, utf8.length(text));
  return start + utf8.write(text, out, start);
}

function writeNumber(out: Uint8Array, at: number, tag: number, value: number | null | undefined): number {
  if (value == null || value === 0) return at;
  out[at] = tag;
  return writeVarint(out, at + 1, value);
}

/** Bytes of a number up to 2^53 as a varint: seven bits a byte. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (; value >= 0x80; bytes++) value = value > 0xffffffff ? Math.floor(value / 0x80) : value >>> 7;
  return bytes;
}

export function writeVarint(out: Uint8Array, at: number, value: number): number {
  while (value >= 0x80) {
    out[at++] = (value % 0x80) | 0x80;
    value = value > 0xffffffff ? Math.floor(value / 0x80) : value >>> 7;
  }
  out[at++] = value;
  return at;
}

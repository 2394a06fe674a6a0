/**
 * Reads numbers from messages faster than the client library. Each durable publication brings a copy and an
 * acknowledgement, and the library turns their headers into a map of texts. This code reads the form that nats-server
 * writes. The library reads messages of any other form.
 */
import type { Msg } from "nats";

/** Private fields of a message in this version of the library; test/nats-library.test.ts guards them. */
interface RawMessage {
  readonly _rdata?: Uint8Array;
  readonly _msg?: { readonly hdr: number; readonly subject: Uint8Array };
}

/** Position of a copy in the stream. */
export interface Place {
  seq: number;
  /** Sequence of the one before it in the room; 0 if it is deleted. */
  before: number;
}

/** Reused for every message. */
const place: Place = { seq: 0, before: 0 };
const lastSequence = Buffer.from("\r\nNats-Last-Sequence: ");
const streamField = Buffer.from("\r\nNats-Stream: ");
const sequence = Buffer.from("\r\nNats-Sequence: ");

/**
 * Parses `Nats-Stream`, `Nats-Subject`, `Nats-Sequence: 7`, `Nats-Last-Sequence: 5` at the end of the headers. Null:
 * not a copy of this stream. Anyone who may publish to the subject can forge a position, so the caller checks that it
 * is possible.
 */
export function placeOf(message: Msg, stream: string): Place | null {
  const { _rdata: bytes, _msg } = message as unknown as RawMessage;
  if (bytes !== undefined && _msg !== undefined && _msg.hdr > 0) {
    const before = numberBefore(bytes, _msg.hdr - 4);
    const middle = start - lastSequence.length;
    const seq = before >= 0 && endsWith(bytes, start, lastSequence) ? numberBefore(bytes, middle) : -1;
    if (seq >= 0 && endsWith(bytes, start, sequence)) {
      const subjectAt = lineBefore(bytes, start - sequence.length);
      if (endsWithText(bytes, subjectAt, stream) && endsWith(bytes, subjectAt - stream.length, streamField)) return placeAt(seq, before);
    }
  }
  const { headers } = message;
  if (headers === undefined || !headers.has("Nats-Sequence") || headers.get("Nats-Stream") !== stream) return null;
  return placeAt(Number(headers.get("Nats-Sequence")), Number(headers.get("Nats-Last-Sequence")));
}

function placeAt(seq: number, before: number): Place | null {
  if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(before) || before < 0 || before >= seq) return null;
  place.seq = seq;
  place.before = before;
  return place;
}

/** The last token of the subject, a number. */
export function numberOf(message: Msg): number {
  const subject = (message as unknown as RawMessage)._msg?.subject;
  if (subject !== undefined) return numberBefore(subject, subject.length);
  return Number(message.subject.slice(message.subject.lastIndexOf(".") + 1));
}

/**
 * The number in `{"stream":"FLUX_chat_0", "seq":7}`, if this is the whole text. -1: it says something else or more. An
 * error also ends with a sequence, which is 0.
 */
export function ackedSeq(data: Uint8Array, stream: string): number {
  const seq = data[data.length - 1] === closingBrace ? numberBefore(data, data.length - 1) : -1;
  if (seq <= 0 || !Number.isSafeInteger(seq) || !endsWith(data, start, seqField)) return -1;
  let end = start - seqField.length;
  if (data[end - 1] === space) end--;
  if (!endsWith(data, end, afterName) || end !== streamStart.length + stream.length + afterName.length) return -1;
  const nameEnd = end - afterName.length;
  return endsWithText(data, nameEnd, stream) && endsWith(data, streamStart.length, streamStart) ? seq : -1;
}

const streamStart = Buffer.from('{"stream":"');
const afterName = Buffer.from('",');
const seqField = Buffer.from('"seq":');
const closingBrace = 0x7d;
const space = 0x20;
const zero = 0x30;
const carriageReturn = 0x0d;

/** Offset of the number read last. */
let start = 0;

/** The decimal number that ends before `end`; -1 if there is none. */
function numberBefore(bytes: Uint8Array, end: number): number {
  let value = 0;
  let factor = 1;
  let i = end;
  for (; i > 0; i--) {
    const digit = bytes[i - 1]! - zero;
    if (digit < 0 || digit > 9) break;
    value += digit * factor;
    factor *= 10;
  }
  start = i;
  return i === end ? -1 : value;
}

/** Start, with its line break, of the line that ends at `end`. */
function lineBefore(bytes: Uint8Array, end: number): number {
  return bytes.lastIndexOf(carriageReturn, end - 1);
}

function endsWithText(bytes: Uint8Array, end: number, text: string): boolean {
  if (end < text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[end - text.length + i] !== text.charCodeAt(i)) return false;
  return true;
}

function endsWith(bytes: Uint8Array, end: number, text: Uint8Array): boolean {
  if (end < text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[end - text.length + i] !== text[i]) return false;
  return true;
}

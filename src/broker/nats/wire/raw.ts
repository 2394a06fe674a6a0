/**
 * Numbers out of messages without the client library's own ways: a copy and an acknowledgement come with every durable
 * publication, and its headers are text in a map. What is read here is what nats-server appends; a message of any other
 * form is read by the library.
 */
import type { Msg } from "nats";

/** What a message of this version of the library is made of: private, and held by test/nats-library.test.ts. */
interface RawMessage {
  readonly _rdata?: Uint8Array;
  readonly _msg?: { readonly hdr: number; readonly subject: Uint8Array };
}

/** Where a copy has its place in the stream. */
export interface Place {
  seq: number;
  /** Of the one before it in the same room, 0 if that is not kept any more. */
  before: number;
}

/** One for every message: used and forgotten before the next. */
const place: Place = { seq: 0, before: 0 };
const lastSequence = Buffer.from("\r\nNats-Last-Sequence: ");
const streamField = Buffer.from("\r\nNats-Stream: ");
const sequence = Buffer.from("\r\nNats-Sequence: ");

/**
 * From `Nats-Stream`, `Nats-Subject`, `Nats-Sequence: 7`, `Nats-Last-Sequence: 5` at the end of the headers. Null: not a
 * copy of this stream's. Anybody who may publish to the subject may claim a place: it has to be one that can be.
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

/** The last token of its subject, which is a number. */
export function numberOf(message: Msg): number {
  const subject = (message as unknown as RawMessage)._msg?.subject;
  if (subject !== undefined) return numberBefore(subject, subject.length);
  return Number(message.subject.slice(message.subject.lastIndexOf(".") + 1));
}

/**
 * The number in `{"stream":"FLUX_chat_0", "seq":7}`, which is all of it. -1: it says something else, or more: an error ends
 * with a sequence too, which is 0.
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

/** Where the number began that was read last. */
let start = 0;

/** The decimal number that ends before `end`, -1 if there is none. */
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

/** Where the line begins, with its line break, that ends at `end`. */
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

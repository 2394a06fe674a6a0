/**
 * xxHash with 32 bits and seed 0, of a text's UTF-8. Other programs compute the same number for a user: haproxy's
 * `xxh32(0)`, and libraries in every language. The tests compare it with a library.
 *
 * Written here since a look-up hashes a user: the library for it costs twice as much, and starts asynchronously.
 */

const prime1 = 2_654_435_761 | 0;
const prime2 = 2_246_822_519 | 0;
const prime3 = 3_266_489_917 | 0;
const prime4 = 668_265_263;
const prime5 = 374_761_393;

const asciiMax = 0x7f;

export function xxh32(text: string): number {
  const length = text.length;
  let all = 0;
  for (let i = 0; i < length; i++) all |= text.charCodeAt(i);
  return hashOf(all <= asciiMax ? text : byteString(text));
}

/** A string of one character a byte. A lone surrogate becomes U+FFFD, as in every encoder. */
function byteString(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** @param bytes a character a byte */
function hashOf(bytes: string): number {
  const { length } = bytes;
  let at = 0;
  let hash = prime5;
  if (length >= 16) {
    let a = (prime1 + prime2) | 0;
    let b = prime2;
    let c = 0;
    let d = -prime1 | 0;
    for (; at <= length - 16; at += 16) {
      a = round(a, word(bytes, at));
      b = round(b, word(bytes, at + 4));
      c = round(c, word(bytes, at + 8));
      d = round(d, word(bytes, at + 12));
    }
    hash = (rotated(a, 1) + rotated(b, 7) + rotated(c, 12) + rotated(d, 18)) | 0;
  }
  hash = (hash + length) | 0;
  for (; at <= length - 4; at += 4) hash = Math.imul(rotated((hash + Math.imul(word(bytes, at), prime3)) | 0, 17), prime4);
  for (; at < length; at++) hash = Math.imul(rotated((hash + Math.imul(bytes.charCodeAt(at), prime5)) | 0, 11), prime1);
  hash = Math.imul(hash ^ (hash >>> 15), prime2);
  hash = Math.imul(hash ^ (hash >>> 13), prime3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function round(lane: number, input: number): number {
  return Math.imul(rotated((lane + Math.imul(input, prime2)) | 0, 13), prime1);
}

function rotated(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

/** Four bytes, the lowest first. */
function word(bytes: string, at: number): number {
  return bytes.charCodeAt(at) | (bytes.charCodeAt(at + 1) << 8) | (bytes.charCodeAt(at + 2) << 16) | (bytes.charCodeAt(at + 3) << 24);
}

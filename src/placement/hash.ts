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
  return signedXxh32(text) >>> 0;
}

/**
 * The same bits as a signed number, which V8 holds without an object of its own. Most texts are ASCII: their characters
 * are their bytes. Whether that is so is seen on the way.
 */
export function signedXxh32(text: string): number {
  const hash = hashOf(text);
  return seen <= asciiMax ? hash : hashOf(byteString(text));
}

/** A string of one character a byte. A lone surrogate becomes U+FFFD, as in every encoder. */
function byteString(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** All characters of the last text, combined. */
let seen = 0;

/** @param bytes a character a byte; else the result means nothing */
function hashOf(bytes: string): number {
  const { length } = bytes;
  let at = 0;
  let all = 0;
  let hash = prime5;
  if (length >= 16) {
    let a = (prime1 + prime2) | 0;
    let b = prime2;
    let c = 0;
    let d = -prime1 | 0;
    for (; at <= length - 16; at += 16) {
      all |= any(bytes, at) | any(bytes, at + 4) | any(bytes, at + 8) | any(bytes, at + 12);
      a = round(a, word(bytes, at));
      b = round(b, word(bytes, at + 4));
      c = round(c, word(bytes, at + 8));
      d = round(d, word(bytes, at + 12));
    }
    hash = (rotated(a, 1) + rotated(b, 7) + rotated(c, 12) + rotated(d, 18)) | 0;
  }
  hash = (hash + length) | 0;
  for (; at <= length - 4; at += 4) {
    all |= any(bytes, at);
    hash = Math.imul(rotated((hash + Math.imul(word(bytes, at), prime3)) | 0, 17), prime4);
  }
  for (; at < length; at++) {
    const byte = bytes.charCodeAt(at);
    all |= byte;
    hash = Math.imul(rotated((hash + Math.imul(byte, prime5)) | 0, 11), prime1);
  }
  seen = all;
  hash = Math.imul(hash ^ (hash >>> 15), prime2);
  hash = Math.imul(hash ^ (hash >>> 13), prime3);
  return hash ^ (hash >>> 16);
}

/** The bits of four characters together. */
function any(bytes: string, at: number): number {
  return bytes.charCodeAt(at) | bytes.charCodeAt(at + 1) | bytes.charCodeAt(at + 2) | bytes.charCodeAt(at + 3);
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

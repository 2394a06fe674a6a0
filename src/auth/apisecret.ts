/**
 * The text of an API key: `flux_`, its id, and a secret that ends with a checksum.
 *
 *     flux_[10 characters: id]_[32 random characters][6 characters: CRC-32 of what is before]
 *
 * The prefix lets secret scanners find keys in source code. The checksum lets them, and the node, tell a key from a
 * text that only looks like one. All characters are letters and digits, so a double click selects the whole key.
 */
import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";

const shape = /^flux_([0-9A-Za-z]{10})_[0-9A-Za-z]{38}$/;
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const idChars = 10;
/** 190 bits: nobody guesses them, so a plain SHA-256 protects them. */
const secretChars = 32;
const sumChars = 6;

export interface NewSecret {
  /** Shown once. */
  readonly text: string;
  readonly id: string;
  readonly sha256: string;
}

export function makeSecret(): NewSecret {
  const id = randomText(idChars);
  const body = `flux_${id}_${randomText(secretChars)}`;
  const text = body + checksum(body);
  return { text, id, sha256: hash("sha256", text, "base64url") };
}

/** The id in a key's text, or null where it is no key. */
export function secretId(text: string): string | null {
  const id = shape.exec(text)?.[1];
  return id !== undefined && checksum(text.slice(0, -sumChars)) === text.slice(-sumChars) ? id : null;
}

function checksum(body: string): string {
  let rest = crc32(body);
  let text = "";
  for (let i = 0; i < sumChars; i++) {
    text = alphabet[rest % alphabet.length] + text;
    rest = Math.floor(rest / alphabet.length);
  }
  return text;
}

/** Every character is equally likely: bytes that would favour some are left out. */
function randomText(chars: number): string {
  const fair = 256 - (256 % alphabet.length);
  let text = "";
  while (text.length < chars) {
    for (const byte of randomBytes(2 * chars)) if (byte < fair && text.length < chars) text += alphabet[byte % alphabet.length];
  }
  return text;
}

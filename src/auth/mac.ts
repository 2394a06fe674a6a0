/**
 * HMAC with SHA-256 (RFC 2104), made of two calls of node:crypto's one-shot hash. createHmac holds memory outside the
 * heap until V8 collects it. A heap that hardly grows is collected late, and every handshake would leave several of
 * them. The hash is asked for text, one character a byte: an answer in a Buffer costs more than the hash.
 */
import { hash, timingSafeEqual } from "node:crypto";

const blockBytes = 64;
const hashBytes = 32;
/** Longer data gets a buffer of its own. */
const keptBytes = 1024;

export class Mac {
  readonly #key: Uint8Array;
  readonly #outer: Buffer;
  /** The inner block, and room for data. */
  readonly #inner: Buffer;

  constructor(secret: Uint8Array) {
    this.#key = secret.length > blockBytes ? Buffer.from(hash("sha256", secret, "binary"), "binary") : secret;
    this.#outer = padded(this.#key, 0x5c, hashBytes);
    this.#inner = padded(this.#key, 0x36, keptBytes);
  }

  sign(data: Uint8Array | string): Buffer {
    return Buffer.from(outerHash(this.#innerBlock(data), this.#outer, "binary"), "binary");
  }

  /** The signature in base64url, which costs less than to make it of `sign`. */
  signText(data: string): string {
    return outerHash(this.#innerBlock(data), this.#outer, "base64url");
  }

  #innerBlock(data: Uint8Array | string): Buffer {
    const length = typeof data === "string" ? Buffer.byteLength(data) : data.length;
    const inner = length <= keptBytes ? this.#inner.subarray(0, blockBytes + length) : padded(this.#key, 0x36, length);
    if (typeof data === "string") inner.write(data, blockBytes);
    else inner.set(data, blockBytes);
    return inner;
  }

  /** The same for data of one size, without an allocation besides the answer. */
  sized(bytes: number): SizedMac {
    const inner = padded(this.#key, 0x36, bytes);
    return { data: inner.subarray(blockBytes), sign: (encoding) => outerHash(inner, this.#outer, encoding) };
  }

  /**
   * Whether this is the signature in base64url, in constant time. Compares texts: a decoder would accept several
   * spellings of one signature.
   */
  isSignature(data: string, signature: string): boolean {
    const given = Buffer.from(signature);
    const wanted = Buffer.from(this.signText(data));
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }
}

export interface SizedMac {
  /** Write the data here. */
  readonly data: Buffer;
  sign(encoding: "binary" | "base64url"): string;
}

function outerHash(inner: Buffer, outer: Buffer, encoding: "binary" | "base64url"): string {
  outer.write(hash("sha256", inner, "binary"), blockBytes, hashBytes, "binary");
  return hash("sha256", outer, encoding);
}

/** The key as a block of the hash, and room behind it. */
function padded(key: Uint8Array, pad: number, room: number): Buffer {
  const block = Buffer.alloc(blockBytes + room);
  block.fill(pad, 0, blockBytes);
  key.forEach((byte, i) => (block[i] = byte ^ pad));
  return block;
}

/**
 * HMAC with SHA-256 (RFC 2104), of hashes made in one call each. What createHmac makes holds memory outside of the heap
 * until V8 collects it, which with a heap that hardly grows is late: a handshake would leave several.
 */
import { hash, timingSafeEqual } from "node:crypto";

const blockBytes = 64;
const hashBytes = 32;

export class Mac {
  /** What each of the two hashes is of: the secret, with room for the rest behind it. */
  #inner: Buffer;
  readonly #outer: Buffer;

  constructor(secret: Uint8Array) {
    const key = Buffer.alloc(blockBytes);
    key.set(secret.length > blockBytes ? Buffer.from(hash("sha256", secret, "binary"), "latin1") : secret);
    this.#inner = Buffer.from(key.map((byte) => byte ^ 0x36));
    this.#outer = Buffer.concat([key.map((byte) => byte ^ 0x5c)], blockBytes + hashBytes);
  }

  /** `binary`: a character for each byte. */
  sign(data: Uint8Array | string, encoding: "base64url" | "binary"): string {
    const end = blockBytes + Buffer.byteLength(data);
    if (end > this.#inner.length) this.#inner = Buffer.concat([this.#inner], 2 * end);
    if (typeof data === "string") this.#inner.write(data, blockBytes);
    else this.#inner.set(data, blockBytes);
    this.#outer.write(hash("sha256", this.#inner.subarray(0, end), "binary"), blockBytes, "latin1");
    return hash("sha256", this.#outer, encoding);
  }

  /** Whether this is the signature in base64url, in constant time. As text: a decoder would take many spellings of one. */
  isSignature(data: string, signature: string): boolean {
    const given = Buffer.from(signature);
    const wanted = Buffer.from(this.sign(data, "base64url"));
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }
}

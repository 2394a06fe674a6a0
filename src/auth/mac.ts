/**
 * HMAC with SHA-256 in JavaScript. node:crypto's createHmac holds memory outside the heap until V8 collects it. A heap
 * that hardly grows is collected late, and every handshake would leave several of them.
 */
import { timingSafeEqual } from "node:crypto";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";

export class Mac {
  /** State after hashing the secret. */
  readonly #keyed: ReturnType<typeof hmac.create>;

  constructor(secret: Uint8Array) {
    this.#keyed = hmac.create(sha256, secret);
  }

  sign(data: Uint8Array | string): Buffer {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    return Buffer.from(this.#keyed.clone().update(bytes).digest());
  }

  /**
   * Whether this is the signature in base64url, in constant time. Compares texts: a decoder would accept several
   * spellings of one signature.
   */
  isSignature(data: string, signature: string): boolean {
    const given = Buffer.from(signature);
    const wanted = Buffer.from(this.sign(data).toString("base64url"));
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }
}

/**
 * HMAC with SHA-256, in JavaScript: what node:crypto's createHmac makes holds memory outside of the heap until V8 collects
 * it, which with a heap that hardly grows is late, and a handshake would leave several.
 */
import { timingSafeEqual } from "node:crypto";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";

export class Mac {
  /** It has the secret already. */
  readonly #keyed: ReturnType<typeof hmac.create>;

  constructor(secret: Uint8Array) {
    this.#keyed = hmac.create(sha256, secret);
  }

  sign(data: Uint8Array | string): Buffer {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    return Buffer.from(this.#keyed.clone().update(bytes).digest());
  }

  /** Whether this is the signature in base64url, in constant time. As text: a decoder would take many spellings of one. */
  isSignature(data: string, signature: string): boolean {
    const given = Buffer.from(signature);
    const wanted = Buffer.from(this.sign(data).toString("base64url"));
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }
}

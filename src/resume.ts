/**
 * Resume tokens: that a client had a session on this gateway, and whose it was. `base64url(JSON).base64url(HMAC)`, the
 * HMAC is SHA-256 with a secret that the nodes share. Made and checked with node:crypto, in microseconds and without
 * waiting, since every ready carries one and a storm of reconnects begins with checking them.
 */
import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from "node:crypto";
import { z } from "zod";

export interface ResumeClaims {
  readonly session: string;
  readonly user: string;
  readonly tenant: string;
  /** When it was made, and when the token it was made for expires (0: never); milliseconds since 1970. */
  readonly issuedAt: number;
  readonly expiresAt: number;
}

/** No token that a node makes comes near it. */
const tokenCharsMax = 4096;

const claims = z.tuple([z.string().min(1).max(64), z.string(), z.string(), z.number(), z.number()]);

export class ResumeTokens {
  readonly #key: KeyObject;

  constructor(secret: string) {
    this.#key = createSecretKey(Buffer.from(secret));
  }

  make({ session, user, tenant, issuedAt, expiresAt }: ResumeClaims): string {
    const body = Buffer.from(JSON.stringify([session, user, tenant, issuedAt, expiresAt])).toString("base64url");
    return `${body}.${this.#sign(body).toString("base64url")}`;
  }

  /** Null: it was not made with this secret. Whether it has expired is the caller's to see. */
  read(token: string): ResumeClaims | null {
    const dot = token.indexOf(".");
    if (token.length > tokenCharsMax || dot < 0) return null;
    const body = token.slice(0, dot);
    const signature = Buffer.from(token.slice(dot + 1), "base64url");
    const wanted = this.#sign(body);
    if (signature.length !== wanted.length || !timingSafeEqual(signature, wanted)) return null;
    const parsed = claims.safeParse(JSON.parse(Buffer.from(body, "base64url").toString()));
    if (!parsed.success) return null;
    const [session, user, tenant, issuedAt, expiresAt] = parsed.data;
    return { session, user, tenant, issuedAt, expiresAt };
  }

  #sign(body: string): Buffer {
    return createHmac("sha256", this.#key).update(body).digest();
  }
}

/**
 * Tokens (JWT) to grants. Verified ones are remembered until they expire, so that a client which comes back, and ten
 * thousand that come back at once, do not pay for their signatures again.
 */
import { createHash, webcrypto } from "node:crypto";
import { errors, jwtVerify, type JWTPayload } from "jose";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import type { Config } from "../config.ts";
import type { Grant } from "../grants.ts";

export type Verdict = { readonly grant: Grant } | { readonly refused: "invalid_token" | "token_expired" | "unavailable"; readonly text: string };

export interface Verifier {
  /** What is known of a token without any work. */
  cached(token: string): Grant | null;
  /** Never rejects. */
  verify(token: string): Promise<Verdict>;
}

export function authRequired({ authSecret }: Pick<Config, "authSecret">): boolean {
  return authSecret !== "";
}

const name = z.string().min(1).max(128);
const rights = z.array(z.enum(["join", "publish", "history", "presence"]));
const claimsOf = z.object({
  sub: name,
  tenant: name.default(""),
  rooms: z.record(z.string(), rights).optional(),
  send: z.boolean().default(true),
});

export function createVerifier({ authSecret }: Config): Verifier {
  // jose would import anything else anew for every token, at twice the price of the signature.
  const key = webcrypto.subtle.importKey("raw", Buffer.from(authSecret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  const cache = new LRUCache<string, Grant>({ max: 10_000 });
  const hashOf = (token: string) => createHash("sha256").update(token).digest("base64");

  const cached = (token: string): Grant | null => {
    const grant = cache.get(hashOf(token)) ?? null;
    return grant !== null && (grant.expiresAt === 0 || grant.expiresAt > Date.now()) ? grant : null;
  };
  return {
    cached,
    async verify(token) {
      const known = cached(token);
      if (known !== null) return { grant: known };
      try {
        const { payload } = await jwtVerify(token, await key, { algorithms: ["HS256"] });
        const grant = grantOf(payload);
        cache.set(hashOf(token), grant);
        return { grant };
      } catch (error) {
        const refused = error instanceof errors.JWTExpired ? "token_expired" : "invalid_token";
        return { refused, text: error instanceof Error ? error.message : "malformed" };
      }
    },
  };
}

function grantOf(payload: JWTPayload): Grant {
  const { sub, tenant, rooms, send } = claimsOf.parse(payload);
  return {
    user: sub,
    tenant,
    issuedAt: (payload.iat ?? 0) * 1000,
    expiresAt: (payload.exp ?? 0) * 1000,
    rooms: rooms === undefined ? null : Object.entries(rooms).map(([pattern, granted]) => ({ pattern, rights: granted })),
    send,
    commandsPerSecond: null,
    roomsMax: null,
  };
}

/**
 * Keys that may sign tokens. The key decides its algorithm, never the token: a public key is never used as an HMAC
 * secret, and `none` is never accepted.
 */
import { createPublicKey, type JsonWebKey } from "node:crypto";
import { importJWK } from "jose";
import { Mac } from "./mac.ts";

export const algorithms = ["HS256", "RS256", "PS256", "ES256", "EdDSA"] as const;
export type Algorithm = (typeof algorithms)[number];

/** A key as plain data: the main thread reads it, every reactor imports it. */
export interface KeyMaterial {
  /** "" for a key without a kid. */
  readonly kid: string;
  readonly algorithms: readonly Algorithm[];
  readonly jwk: JsonWebKey;
}

/** An imported public key for one algorithm. */
export interface Key {
  readonly kid: string;
  readonly algorithm: Algorithm;
  readonly key: CryptoKey;
}

/** A secret for HS256. */
export interface Secret {
  readonly kid: string;
  readonly algorithm: "HS256";
  readonly mac: Mac;
}

/** Why a key cannot be used: a clause that follows the key's name. */
export class KeyProblem extends Error {}

export const secretBytesMin = 32;
const rsaBitsMin = 2048;
const kidCharsMax = 256;
/** Keys of one file or URL. */
export const keysMax = 64;

export function secretKey(secret: string, kid = ""): KeyMaterial {
  return { kid, algorithms: ["HS256"], jwk: { kty: "oct", k: Buffer.from(secret).toString("base64url") } };
}

/** @throws KeyProblem */
export function keyOfJwk(jwk: Record<string, unknown>): KeyMaterial {
  const { kty, kid, alg, use, d } = jwk;
  if (use !== undefined && use !== "sig") throw new KeyProblem(`is not for signatures (use ${shown(use)})`);
  if (kid !== undefined && (typeof kid !== "string" || kid.length > kidCharsMax)) throw new KeyProblem("has a kid that is not a short text");
  if (kty !== "oct" && d !== undefined) throw new KeyProblem("is a private key, which a node must not have; give its public key");
  const usable = kty === "oct" ? checkSecret(jwk.k) : checkPublic(jwk);
  const pinned = alg === undefined ? usable : usable.filter((name) => name === alg);
  if (pinned.length === 0) throw new KeyProblem(`is for ${shown(alg)}; this key can be used with ${usable.join(" or ")}`);
  return { kid: kid ?? "", algorithms: pinned, jwk: plain(jwk) };
}

/** One PEM block: a public key or a certificate. @throws KeyProblem */
export function keyOfPem(pem: string): KeyMaterial {
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem)) {
    throw new KeyProblem("is a private key, which a node must not have; create its public key with: openssl pkey -in FILE -pubout");
  }
  let jwk: JsonWebKey;
  try {
    jwk = createPublicKey(pem).export({ format: "jwk" });
  } catch {
    // OpenSSL's message names an internal routine, so it is not shown.
    throw new KeyProblem("is a PEM block without a supported public key");
  }
  return keyOfJwk({ ...jwk });
}

/** Imports the public keys. */
export async function importKeys(materials: readonly KeyMaterial[]): Promise<Key[]> {
  const each = materials.filter(({ jwk }) => jwk.kty !== "oct").flatMap(({ kid, algorithms: usable, jwk }) =>
    // jose would import anything but a CryptoKey again for every token, at twice the cost of the signature.
    usable.map(async (algorithm): Promise<Key> => ({ kid, algorithm, key: (await importJWK(jwk, algorithm)) as CryptoKey })),
  );
  return Promise.all(each);
}

export function secretsAmong(materials: readonly KeyMaterial[]): Secret[] {
  const secrets = materials.filter(({ jwk }) => jwk.kty === "oct");
  return secrets.map(({ kid, jwk }) => ({ kid, algorithm: "HS256", mac: new Mac(Buffer.from(jwk.k ?? "", "base64url")) }));
}

function checkSecret(k: unknown): readonly Algorithm[] {
  const bytes = typeof k === "string" ? Buffer.from(k, "base64url").length : 0;
  if (bytes < secretBytesMin) throw new KeyProblem(`is a secret of ${bytes} bytes; HS256 needs at least ${secretBytesMin}`);
  return ["HS256"];
}

function checkPublic(jwk: Record<string, unknown>): readonly Algorithm[] {
  const usable = usableWith(jwk);
  try {
    createPublicKey({ key: plain(jwk), format: "jwk" });
  } catch {
    throw new KeyProblem("cannot be read: a field is missing or malformed");
  }
  return usable;
}

function usableWith({ kty, crv, n }: Record<string, unknown>): readonly Algorithm[] {
  if (kty === "RSA") {
    const bits = typeof n === "string" ? Buffer.from(n, "base64url").length * 8 : 0;
    if (bits < rsaBitsMin) throw new KeyProblem(`is an RSA key of ${bits} bits; use a key of at least ${rsaBitsMin} bits`);
    return ["RS256", "PS256"];
  }
  if (kty === "EC" && crv === "P-256") return ["ES256"];
  if (kty === "OKP" && crv === "Ed25519") return ["EdDSA"];
  const what = [kty, crv].filter((part) => part !== undefined).map(shown).join(" ");
  throw new KeyProblem(`has an unsupported type (${what || "none"}); use RSA, P-256, Ed25519 or a secret (oct)`);
}

/** Only the members that define the key; all others are dropped. */
function plain({ kty, crv, x, y, n, e, k }: Record<string, unknown>): JsonWebKey {
  const members = Object.entries({ kty, crv, x, y, n, e, k }).filter(([, value]) => typeof value === "string");
  return Object.fromEntries(members);
}

function shown(value: unknown): string {
  return String(value).slice(0, 40);
}

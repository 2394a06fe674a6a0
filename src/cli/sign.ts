/** Signs tokens for development. A node never signs: it has no private key. */
import { createPrivateKey, createSecretKey, type JsonWebKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { SignJWT } from "jose";
import { grantOf } from "../auth/claims.ts";
import { secretBytesMin, type Algorithm } from "../auth/keys.ts";
import { ConfigError } from "../config/config.ts";
import { isRecord } from "../config/namespaces.ts";

export type Claims = Readonly<Record<string, unknown>>;

export interface Signer {
  readonly key: KeyObject;
  readonly algorithm: Algorithm;
  /** The kid of a JWK, if it has one. */
  readonly kid: string | undefined;
}

/** @param path of a private key; undefined for the secret. @throws ConfigError */
export function readSigner(path: string | undefined, secret: string): Signer {
  if (path !== undefined) return signerOfFile(path);
  if (secret !== "") return { key: createSecretKey(Buffer.from(secret)), algorithm: "HS256", kid: undefined };
  throw new ConfigError([
    "--auth-secret: no key to sign with; set the secret of your node (better as FLUX_AUTH_SECRET, which process lists do not " +
      "show), or give a private key with --key FILE; flux-gateway token secret prints a new secret",
  ]);
}

/** @throws ConfigError for claims that no node would accept. */
export async function signToken(claims: Claims, { key, algorithm, kid }: Signer, name = kid): Promise<string> {
  const read = grantOf(claims);
  if ("problem" in read) throw new ConfigError([`claim ${read.problem}`]);
  return new SignJWT({ ...claims }).setProtectedHeader({ alg: algorithm, typ: "JWT", ...(name !== undefined && { kid: name }) }).sign(key);
}

function signerOfFile(path: string): Signer {
  const problem = (text: string) => new ConfigError([`--key ${path}: ${text}`]);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw problem(`cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}`);
  }
  const isPem = text.includes("-----BEGIN ");
  const read = isPem ? { key: privateKey(text), kid: undefined } : keyOfJson(text);
  if (read === null || read.key === null) {
    throw problem("contains no private key; create one with: openssl genpkey -algorithm ed25519 -out private.pem");
  }
  const algorithm = algorithmOf(read.key);
  if (algorithm === null) throw problem("has an unsupported type; use RSA, P-256, Ed25519 or a secret of 32 bytes or more (oct)");
  return { key: read.key, algorithm, kid: read.kid };
}

function privateKey(key: string | { key: JsonWebKey; format: "jwk" }): KeyObject | null {
  try {
    return createPrivateKey(key);
  } catch {
    // OpenSSL's message names an internal routine; the caller reports the error in plain words.
    return null;
  }
}

function keyOfJson(text: string): { key: KeyObject | null; kid: string | undefined } | null {
  let jwk: unknown;
  try {
    jwk = JSON.parse(text);
  } catch {
    // Not JSON, so not a JWK.
    return null;
  }
  if (!isRecord(jwk)) return null;
  const kid = typeof jwk.kid === "string" ? jwk.kid : undefined;
  if (jwk.kty === "oct") return { key: createSecretKey(Buffer.from(String(jwk.k), "base64url")), kid };
  return { key: privateKey({ key: jwk, format: "jwk" }), kid };
}

function algorithmOf(key: KeyObject): Algorithm | null {
  if (key.type === "secret") return (key.symmetricKeySize ?? 0) >= secretBytesMin ? "HS256" : null;
  switch (key.asymmetricKeyType) {
    case "rsa": return "RS256";
    case "ed25519": return "EdDSA";
    case "ec": return key.asymmetricKeyDetails?.namedCurve === "prime256v1" ? "ES256" : null;
    default: return null;
  }
}

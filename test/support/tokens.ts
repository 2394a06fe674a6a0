/** Tokens for tests, signed with a secret or with key pairs of their own. */
import { createPrivateKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { SignJWT } from "jose";

export const secret = "a secret for tests, of 32 or more";

/** Issued now; with `iat` undefined it does not say when. */
export function token(claims: Record<string, unknown>, secret: string): Promise<string> {
  return signed(claims, new TextEncoder().encode(secret), { alg: "HS256" });
}

export function signed(claims: Record<string, unknown>, key: KeyObject | Uint8Array, header: { alg: string; kid?: string }): Promise<string> {
  const jwt = new SignJWT(claims).setProtectedHeader(header);
  if (!("iat" in claims)) jwt.setIssuedAt();
  return jwt.sign(key);
}

export type PairKind = "RSA" | "P-256" | "Ed25519";

export interface Pair {
  readonly private: KeyObject;
  readonly pem: string;
  readonly privatePem: string;
  readonly jwk: JsonWebKey;
}

export function keyPair(kind: PairKind): Pair {
  const { privateKey, publicKey } = generate(kind);
  const pem = String(publicKey.export({ type: "spki", format: "pem" }));
  const privatePem = String(privateKey.export({ type: "pkcs8", format: "pem" }));
  return { private: createPrivateKey(privatePem), pem, privatePem, jwk: publicKey.export({ format: "jwk" }) };
}

function generate(kind: PairKind): { privateKey: KeyObject; publicKey: KeyObject } {
  if (kind === "RSA") return generateKeyPairSync("rsa", { modulusLength: 2048 });
  if (kind === "P-256") return generateKeyPairSync("ec", { namedCurve: "P-256" });
  return generateKeyPairSync("ed25519");
}

/** A token put together by hand: whatever header, whatever signature. */
export function handmade(header: unknown, claims: unknown, signature = ""): string {
  const part = (value: unknown) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
  return `${part(header)}.${part(claims)}.${signature}`;
}

/** A server of keys, as an identity provider has one. */
export interface KeyServer {
  readonly url: string;
  /** What it serves; null: it fails. */
  body: unknown;
  requests: number;
  close(): Promise<void>;
}

export async function startKeyServer(body: unknown, port = 0): Promise<KeyServer> {
  const http: Server = createServer((_, res) => {
    server.requests++;
    if (server.body === null) res.writeHead(500).end();
    else res.writeHead(200, { "Content-Type": "application/json" }).end(typeof server.body === "string" ? server.body : JSON.stringify(server.body));
  });
  await new Promise<void>((resolve) => http.listen(port, "127.0.0.1", resolve));
  const server: KeyServer = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/jwks.json`,
    body,
    requests: 0,
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
  return server;
}

/** Makes tokens for clients, signed with the secret of the node (HS256). */
import { apiAudience } from "./apikeys.ts";
import { grantOf } from "./claims.ts";
import type { RoomRule } from "./grants.ts";
import { Mac } from "./mac.ts";
import type { Config } from "../config/config.ts";

export interface TokenWanted {
  readonly user: string;
  readonly tenant: string;
  /** Rights by pattern of room names. Undefined: every room, as its namespace allows. */
  readonly rooms?: Readonly<Record<string, RoomRule["rights"]>> | undefined;
  readonly send?: boolean | undefined;
  readonly limits?: { readonly commandsPerSecond?: number | undefined; readonly rooms?: number | undefined } | undefined;
  readonly lifetimeSeconds: number;
}

export type Made = { readonly token: string; /** Seconds since 1970. */ readonly expiresAt: number } | { readonly problem: string };
export type TokenMaker = (wanted: TokenWanted) => Made;

/** @param date milliseconds since 1970; replaced in tests. */
export function createTokenMaker({ authSecret, authAudience, authIssuer }: Pick<Config, "authSecret" | "authAudience" | "authIssuer">, date = Date.now): TokenMaker {
  const mac = new Mac(Buffer.from(authSecret));
  // A token for a client is no credential for the HTTP API.
  const aud = authAudience.find((one) => one !== apiAudience);
  const iss = authIssuer[0];
  return ({ user, tenant, rooms, send, limits, lifetimeSeconds }) => {
    // With decimals: a token of the second in which its user was signed out is valid if it was made afterwards.
    const iat = date() / 1_000;
    const exp = Math.floor(iat) + lifetimeSeconds;
    const claims = { sub: user, ...(tenant !== "" && { tenant }), iat, exp, ...(aud !== undefined && { aud }), ...(iss !== undefined && { iss }), rooms, send, limits };
    // What no node would accept is not made.
    const read = grantOf(claims);
    if ("problem" in read) return { problem: read.problem };
    const signed = `${header}.${encoded(claims)}`;
    return { token: `${signed}.${mac.sign(signed).toString("base64url")}`, expiresAt: exp };
  };
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

const header = encoded({ alg: "HS256", typ: "JWT" });

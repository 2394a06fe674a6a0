/**
 * Who calls the HTTP API, and what the caller may do. A credential (an API key, a JWT, the admin key) becomes a caller
 * or is refused. The HTTP API asks in this order: authenticate, then `permits` for the call, then `admit` for its cost.
 */
import { allows, type Right, type RoomRule } from "./grants.ts";

/** `admin` includes the others. */
export const scopeNames = ["publish", "read", "disconnect", "admin"] as const;
export type Scope = (typeof scopeNames)[number];

/** Per key and node. Null: no limit. */
export interface ApiLimits {
  readonly requestsPerSecond: number | null;
  readonly publicationsPerSecond: number | null;
}

export interface ApiCaller {
  readonly kind: "key" | "jwt" | "admin" | "open";
  /** For the log: the name of the key, the `sub` of the JWT, `admin`, or `open` where no credential is needed. */
  readonly name: string;
  /** Null: every tenant, and the request may name one. */
  readonly tenant: string | null;
  readonly scopes: readonly Scope[];
  /** Null: every room. */
  readonly rooms: readonly RoomRule[] | null;
  readonly limits: ApiLimits;
}

export interface ApiRefusal {
  readonly refused: "unauthorized" | "forbidden" | "rate_limited" | "unavailable";
  /** For the caller. It never quotes the credential. */
  readonly text: string;
  /** For Retry-After; 0: none. */
  readonly retryAfterMs: number;
}

export interface ApiKeys {
  /** Never throws, never rejects. Synchronous for API keys and for known JWTs. */
  authenticate(authorization: string | undefined): ApiCaller | ApiRefusal | Promise<ApiCaller | ApiRefusal>;
  /** Takes one request and so many publications from the limits of the caller. Null: the call may go on. */
  admit(caller: ApiCaller, publications: number): ApiRefusal | null;
}

/** Null: the caller may do this. @param right for calls about a room, with the name of the room. */
export function permits(caller: ApiCaller, scope: Scope, right?: Right, room?: string): ApiRefusal | null {
  if (!caller.scopes.includes(scope) && !caller.scopes.includes("admin")) return forbidden(`the credential lacks the scope ${scope}`);
  if (right === undefined || room === undefined || caller.rooms === null) return null;
  return allows(caller, right, room) ? null : forbidden("the credential does not cover this room");
}

function forbidden(text: string): ApiRefusal {
  return { refused: "forbidden", text, retryAfterMs: 0 };
}

/** Where no credential is needed: on loopback, without an admin key and without API keys. */
export const openCaller: ApiCaller = {
  kind: "open", name: "open", tenant: null, scopes: ["admin"], rooms: null, limits: { requestsPerSecond: null, publicationsPerSecond: null },
};

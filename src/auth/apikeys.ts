/**
 * Who calls the HTTP API, and what the caller may do. A credential (an API key, a JWT, the admin key) becomes a caller
 * or is refused. The HTTP API asks in this order: authenticate, then `permits` for the call, then `admit` for its cost.
 */
import { decodeJwt } from "jose";
import * as z from "zod";
import { perSecondMax, scopeNames, type FoundKey, type KeyStore, type KeyStoreUsage, type Scope } from "../keystore/keystore.ts";
import { ApiCounts, type CallerCounts } from "./apicounts.ts";
import { ApiBuckets } from "./apilimits.ts";
import { secretId } from "./apisecret.ts";
import { bearerIn, digest, isSame } from "./bearer.ts";
import { allows, rightNames, type Grant, type Right, type RoomRule } from "./grants.ts";
import type { Verdict, Verifier } from "./verifier.ts";

export { scopeNames, type Scope } from "../keystore/keystore.ts";

/** Per key and node. Null: no limit. */
export interface ApiLimits {
  readonly requestsPerSecond: number | null;
  readonly publicationsPerSecond: number | null;
}

export interface ApiCaller {
  readonly kind: "key" | "jwt" | "admin" | "open" | "nats" | "token";
  /** For the log: the name of the key, `jwt:` or `token:` and the `sub`, `admin`, `nats`, or `open` where no credential is needed. */
  readonly name: string;
  /** Null: every tenant, and the request may name one. */
  readonly tenant: string | null;
  readonly scopes: readonly Scope[];
  /** Null: every room. */
  readonly rooms: readonly RoomRule[] | null;
  readonly limits: ApiLimits;
  /** Of a client's token; null: the caller has another credential. */
  readonly grant: Grant | null;
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
  /** Requests need no credential now. */
  readonly isOpen: boolean;
  usage(): ApiKeysUsage;
  stop(): Promise<void>;
}

export interface ApiKeysUsage extends KeyStoreUsage {
  /** By label: see ApiCounts. */
  readonly byKey: readonly ({ readonly key: string } & CallerCounts)[];
  readonly unauthorized: number;
}

/** Null: the caller may do this. @param right for calls about a room, with the name of the room. */
export function permits(caller: ApiCaller, scope: Scope, right?: Right, room?: string): ApiRefusal | null {
  if (!caller.scopes.includes(scope) && !caller.scopes.includes("admin")) return refusal("forbidden", `the credential lacks the scope ${scope}`);
  if (right === undefined || room === undefined || caller.rooms === null) return null;
  return allows(caller, right, room) ? null : refusal("forbidden", "the credential does not cover this room");
}

/** What a caller has of its own. JWTs and tokens of two tenants may have one `sub`. Names have no control characters. */
export function idOf({ kind, name, tenant }: ApiCaller): string {
  return kind === "jwt" || kind === "token" ? `${name}\u001f${tenant}` : name;
}

const noLimits: ApiLimits = { requestsPerSecond: null, publicationsPerSecond: null };
const everything = { tenant: null, scopes: ["admin"], rooms: null, limits: noLimits, grant: null } as const;
/** Where no credential is needed: on loopback, without an admin key and without API keys. */
export const openCaller: ApiCaller = { kind: "open", name: "open", ...everything };
/** Over NATS: the account says who may use which subject. */
const natsCaller: ApiCaller = { kind: "nats", name: "nats", ...everything };
const adminCaller: ApiCaller = { kind: "admin", name: "admin", ...everything };

/** The same, for requests that came over NATS. */
export function keysForNats(keys: ApiKeys): ApiKeys {
  return { authenticate: () => natsCaller, admit: (...call) => keys.admit(...call), isOpen: false, usage: () => keys.usage(), stop: async () => undefined };
}

/**
 * The same, for the port for clients. A proxy on this machine may lead anyone there, so no request is without a
 * credential. The admin key is none: it opens the admin port too, and must not be tried from everywhere.
 */
export function keysForAnyone(keys: ApiKeys): ApiKeys {
  const checked = (found: ApiCaller | ApiRefusal) => ("kind" in found && (found.kind === "open" || found.kind === "admin") ? refusal("unauthorized", "the request needs an API key (Authorization: Bearer KEY)") : found);
  return {
    authenticate(authorization) {
      const found = keys.authenticate(authorization);
      return found instanceof Promise ? found.then(checked) : checked(found);
    },
    admit: (...call) => keys.admit(...call),
    isOpen: false,
    usage: () => keys.usage(),
    stop: async () => undefined,
  };
}

/** The audience of JWTs for the HTTP API: the tokens of clients are no credentials for it. */
export const apiAudience = "flux-api";

export interface ApiKeysOptions {
  /** "": none. It is a credential with every right. */
  readonly adminKey: string;
  /** Only this machine can reach the API: as long as there are no keys, requests need none. */
  readonly onLoopback: boolean;
  readonly store: KeyStore;
  /** Makes what verifies JWTs of the audience `flux-api`, when the first comes. Null: none are accepted. */
  readonly verifier: (() => Verifier) | null;
  /** Replaced in tests: milliseconds since 1970; and milliseconds that never go back. */
  readonly date?: () => number;
  readonly clock?: () => number;
}

export function createApiKeys({ adminKey, onLoopback, store, verifier: makeVerifier, date = Date.now, clock }: ApiKeysOptions): ApiKeys {
  const adminDigest = adminKey === "" ? null : digest(adminKey);
  const buckets = new ApiBuckets(clock);
  const counts = new ApiCounts();
  let verifier: Verifier | null = null;
  /** One caller for each key and token that is in use: a request allocates none. */
  const callers = new WeakMap<FoundKey["key"] | Grant, ApiCaller | ApiRefusal>();
  const once = (of: FoundKey["key"] | Grant, make: () => ApiCaller | ApiRefusal) => {
    const before = callers.get(of);
    if (before !== undefined) return before;
    const made = make();
    callers.set(of, made);
    return made;
  };

  /** Values of Authorization that were a key's: their digests need not be made again. */
  const verified = new Map<string, { readonly id: string; readonly secret: FoundKey["secret"] }>();
  const byKey = (text: string, authorization: string): ApiCaller | ApiRefusal | null => {
    const id = secretId(text);
    const found = id === null ? undefined : store.find(id);
    if (id === null || found === undefined || !isSame(text, Buffer.from(found.secret.sha256, "base64url"))) return null;
    if (authorization.length <= verifiedCharsMax) {
      if (verified.size >= verifiedMax) verified.clear();
      verified.set(authorization, { id, secret: found.secret });
    }
    return ofKey(found);
  };
  /** The store is asked each time: a key that was revoked or changed there is not known here either. */
  const byVerified = (authorization: string): ApiCaller | ApiRefusal | null => {
    const before = verified.get(authorization);
    if (before === undefined) return null;
    const found = store.find(before.id);
    if (found?.secret === before.secret) return ofKey(found);
    verified.delete(authorization);
    return null;
  };
  const ofKey = (found: FoundKey): ApiCaller | ApiRefusal => {
    if (isOver(found.key.expiresAt) || isOver(found.secret.expiresAt)) return refusal("unauthorized", "the API key has expired");
    return once(found.key, () => callerOfKey(found.key));
  };
  const isOver = (at: number) => at !== 0 && at <= date();
  const byToken = (token: string, verdict: Verdict): ApiCaller | ApiRefusal => {
    if ("grant" in verdict) return once(verdict.grant, () => callerOfToken(token, verdict.grant));
    if (verdict.refused === "unavailable") return refusal("unavailable", verdict.text, unavailableMs);
    return refusal("unauthorized", verdict.text);
  };
  const isOpen = () => onLoopback && adminDigest === null && !store.guarded;
  const look = (authorization: string | undefined): ApiCaller | ApiRefusal | Promise<ApiCaller | ApiRefusal> => {
    if (authorization === undefined) {
      return isOpen() ? openCaller : refusal("unauthorized", "the request needs an API key (Authorization: Bearer KEY)");
    }
    const known = byVerified(authorization);
    if (known !== null) return known;
    const given = bearerIn(authorization);
    const caller = given.startsWith("flux_") ? byKey(given, authorization) : null;
    if (caller !== null) return caller;
    if (adminDigest !== null && isSame(given, adminDigest)) return adminCaller;
    if (makeVerifier === null || !given.includes(".")) return refusal("unauthorized", "the API key is unknown or revoked");
    const verdict = (verifier ??= makeVerifier()).verify(given);
    return verdict instanceof Promise ? verdict.then((late) => byToken(given, late)) : byToken(given, verdict);
  };
  const counted = (found: ApiCaller | ApiRefusal) => {
    if ("refused" in found && found.refused === "unauthorized") counts.unauthorized++;
    return found;
  };
  return {
    authenticate(authorization) {
      const found = look(authorization);
      return found instanceof Promise ? found.then(counted) : counted(found);
    },

    admit(caller, publications) {
      const { limits: { requestsPerSecond, publicationsPerSecond } } = caller;
      const own = counts.of(caller);
      const take = (what: string, perSecond: number | null, count: number) => {
        const waitMs = perSecond === null || count === 0 ? 0 : buckets.take(`${what} ${idOf(caller)}`, perSecond, count);
        return waitMs === 0 ? null : refusal("rate_limited", `the limit of this key is ${perSecond} ${what} per second and node`, waitMs);
      };
      const limited = take("requests", requestsPerSecond, 1) ?? take("publications", publicationsPerSecond, publications);
      if (limited !== null) {
        own.limited++;
        return limited;
      }
      own.requests++;
      own.publications += publications;
      return null;
    },

    get isOpen() {
      return isOpen();
    },

    usage: () => ({ ...store.usage(), byKey: counts.list(), unauthorized: counts.unauthorized }),
    stop: () => store.stop(),
  };
}

/** A key may stand in several spellings of the header: spaces, the case of `Bearer`. */
const verifiedMax = 1_000;
const verifiedCharsMax = 128;
/** How long a caller should wait for a server of keys. */
const unavailableMs = 5_000;

function callerOfKey({ name, tenant, scopes, rooms, requestsPerSecond, publicationsPerSecond }: FoundKey["key"]): ApiCaller {
  const rules = rooms?.map((pattern) => ({ pattern, rights: rightNames })) ?? null;
  return { kind: "key", name, tenant, scopes, rooms: rules, limits: { requestsPerSecond, publicationsPerSecond }, grant: null };
}

const perSecond = z.number().positive().max(perSecondMax).nullable().default(null);
/** Claims beyond those of a client's token. Other scopes than ours are for other services. */
const apiClaims = z.object({
  scope: z.union([z.string(), z.array(z.string())]).default(""),
  limits: z.object({ requestsPerSecond: perSecond, publicationsPerSecond: perSecond }).default(noLimits),
});

/** @param token whose signature and common claims are verified. */
function callerOfToken(token: string, { user, tenant, rooms, expiresAt }: Grant): ApiCaller | ApiRefusal {
  if (expiresAt === 0) return refusal("unauthorized", "token: exp: is missing; a token for the API must expire");
  const { data, error } = apiClaims.safeParse(decodeJwt(token));
  if (error !== undefined) return refusal("unauthorized", `token: ${error.issues[0]?.path.join(".")}: is malformed`);
  const given = typeof data.scope === "string" ? data.scope.split(" ") : data.scope;
  return { kind: "jwt", name: `jwt:${user}`, tenant, scopes: scopeNames.filter((scope) => given.includes(scope)), rooms, limits: data.limits, grant: null };
}

function refusal(refused: ApiRefusal["refused"], text: string, retryAfterMs = 0): ApiRefusal {
  return { refused, text, retryAfterMs };
}

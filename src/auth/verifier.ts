/**
 * Turns tokens (JWT) into grants and remembers the result, good or bad. So a reconnecting client, ten thousand of them,
 * or a flood of one bad token cost no further signature checks.
 */
import { hash as digest } from "node:crypto";
import { decodeProtectedHeader, errors, jwtVerify, UnsecuredJWT, type JWTClaimVerificationOptions, type JWTPayload } from "jose";
import { LRUCache } from "lru-cache";
import type { Config } from "../config/config.ts";
import type { Grant } from "./grants.ts";
import { grantOf, tokenBytesMax } from "./claims.ts";
import { algorithms, importKeys, secretsAmong, type Key, type KeyMaterial, type Secret } from "./keys.ts";
import { createRemoteKeys, type RemoteKeys } from "./remote.ts";

export type Refused = "invalid_token" | "token_expired" | "unavailable";
/** `text` tells people what is wrong, without quoting the token. */
export type Verdict = { readonly grant: Grant } | { readonly refused: Refused; readonly text: string };

export interface Verifier {
  /**
   * Synchronous where the token is known, malformed, or signed with a secret. Never rejects.
   * @param vouched grant of a resume token. If a node made it for this same token, the signature is known to be valid.
   */
  verify(token: string, vouched?: Grant): Verdict | Promise<Verdict>;
}

export interface VerifierOptions {
  readonly config: AuthConfig;
  /** From secrets and files. */
  readonly keys: readonly KeyMaterial[];
  /** Called when the keys at the URL cannot be fetched, and with null when they can again. */
  onOutage?(problem: string | null): void;
  /** Called after each signature check, for counting. */
  onVerified?(verdict: Verdict): void;
  /** Steady, in milliseconds. It tells when the URL may be asked again. */
  clock?(): number;
}

type AuthConfig = Pick<Config, "authJwksUrl" | "authAudience" | "authIssuer" | "authClockToleranceMs">;

/** Entries and bytes of the memory for good tokens. */
const knownMax = 20_000;
const knownBytesMax = 16_777_216;
const entryBytes = 256;
const badMax = 10_000;
/** Bad tokens are remembered only this long: keys from a URL change, and clocks move on. */
const badMs = 1000;
/** jose also decodes invalid base64url: one signature would then be valid for many tokens. */
const shape = /^[\w-]+\.[\w-]+\.[\w-]*$/;
/** Keys tried for a token without a kid. */
const triesMax = 8;
/** Tokens that are being verified at once, other than those signed with a secret. They may wait for keys from a URL. */
const askedMax = 4096;

export function createVerifier({ config, keys: materials, onOutage, onVerified, clock = () => performance.now() }: VerifierOptions): Verifier {
  const own = importKeys(materials);
  const secrets = secretsAmong(materials);
  const remote = config.authJwksUrl === "" ? null : createRemoteKeys(config.authJwksUrl, onOutage ?? (() => {}), clock);
  void remote?.renew();
  const known = new LRUCache<string, Grant>({ max: knownMax, maxSize: knownBytesMax });
  const bad = new LRUCache<string, Verdict>({ max: badMax, ttl: badMs });
  const asked = new Map<string, Promise<Verdict>>();
  const headers: Headers = new LRUCache({ max: headersMax });

  const look = (token: string, hash: string): Verdict | Promise<Verdict> => {
    let header: Header;
    try {
      header = knownHeaderOf(token, headers);
    } catch (error) {
      return invalid(error instanceof Malformed ? error.message : "token: is not a JWT");
    }
    const signed = { token, hash, ...header };
    if (header.algorithm === "HS256") return findSecret(signed, secrets, config);
    if (asked.size >= askedMax) return { refused: "unavailable", text: "token: too many tokens are being verified; try again" };
    return find(signed, own, remote, config).catch(() => invalid("token: cannot be read"));
  };
  const remember = (token: string, hash: string, verdict: Verdict): Verdict => {
    asked.delete(hash);
    if ("grant" in verdict) known.set(hash, verdict.grant, { size: entryBytes + token.length });
    else if (verdict.refused !== "unavailable") bad.set(hash, verdict);
    onVerified?.(verdict);
    return verdict;
  };
  return {
    verify(given, vouched) {
      // A token from a file ends with a line break.
      const token = given.trim();
      if (token.length > tokenBytesMax) return invalid(`token: at most ${tokenBytesMax} bytes`);
      if (!shape.test(token)) return invalid("token: is not a JWT");
      remote?.touch();
      const hash = digest("sha256", token, "base64url");
      let grant = known.get(hash);
      if (grant === undefined && vouched?.tokenHash === hash) {
        grant = vouched;
        known.set(hash, grant, { size: entryBytes + token.length });
      }
      if (grant !== undefined) return isOver(grant) ? expired : { grant };
      const before = bad.get(hash) ?? asked.get(hash);
      if (before !== undefined) return before;
      const verdict = look(token, hash);
      if (!(verdict instanceof Promise)) return remember(token, hash, verdict);
      const remembered = verdict.then((late) => remember(token, hash, late));
      asked.set(hash, remembered);
      return remembered;
    },
  };
}

const expired: Verdict = { refused: "token_expired", text: "token: has expired" };

function invalid(text: string): Verdict {
  return { refused: "invalid_token", text };
}

function isOver({ expiresAt }: Grant): boolean {
  return expiresAt !== 0 && expiresAt <= Date.now();
}

// ------------------------------------------------------------------------------- which key

interface Header {
  readonly algorithm: string;
  readonly kid: string | null;
}

class Malformed extends Error {}

/** By their text: all tokens of an issuer have one header, and to read it costs as much as to check a signature. */
type Headers = LRUCache<string, Header>;

/** Issuers, and their keys. A client may send any header: what is longer is read each time, and only the latest are kept. */
const headersMax = 64;
const headerCharsMax = 256;

function knownHeaderOf(token: string, headers: Headers): Header {
  const text = token.slice(0, token.indexOf("."));
  const known = headers.get(text);
  if (known !== undefined) return known;
  const header = headerOf(token);
  // A part of a string keeps the whole of it in memory, here a token.
  if (text.length <= headerCharsMax) headers.set(Buffer.from(text, "latin1").toString("latin1"), header);
  return header;
}

function headerOf(token: string): Header {
  const { alg, kid, crit } = decodeProtectedHeader(token);
  if (kid !== undefined && typeof kid !== "string") throw new Malformed("token: its kid is not a text");
  if (!algorithms.some((name) => name === alg)) {
    throw new Malformed(alg === "none" ? "token: is not signed" : `token: is not signed with one of ${algorithms.join(", ")}`);
  }
  if (crit !== undefined) throw new Malformed("token: has critical extensions (crit) that this node does not support");
  return { algorithm: String(alg), kid: kid ?? null };
}

/** A token and its header. */
interface Signed extends Header {
  readonly token: string;
  readonly hash: string;
}

/**
 * Verifying synchronously costs less than another thread and keeps no state of the handshake waiting. In a storm of
 * thousands, waiting state would move to V8's old space, where it is collected late.
 */
function findSecret(signed: Signed, secrets: readonly Secret[], config: AuthConfig): Verdict {
  const [header = "", payload = "", signature = ""] = signed.token.split(".");
  const here = candidates(signed, secrets);
  if (!here.some(({ mac }) => mac.isSignature(`${header}.${payload}`, signature))) return refusedBy(here, signed);
  try {
    // jose offers synchronous claim checks only for unsigned tokens.
    return judge(UnsecuredJWT.decode(`${unsecured}.${payload}.`, claimsWanted(config)).payload, signed.hash, config);
  } catch (error) {
    return refusalOf(error);
  }
}

const unsecured = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");

/**
 * Tries the known keys. Then, if a newer key from the URL may have signed the token, fetches the keys and tries the new
 * ones.
 */
async function find(signed: Signed, imported: Promise<readonly Key[]>, remote: RemoteKeys | null, config: AuthConfig): Promise<Verdict> {
  const own = await imported;
  const here = candidates(signed, [...own, ...(remote?.keys ?? [])]);
  const verdict = await check(signed, here, config);
  if (verdict !== null) return verdict;
  const refused = refusedBy(here, signed);
  if (remote === null) return refused;
  const isKnown = signed.kid === null ? remote.keys !== null : here.some(({ kid }) => kid === signed.kid);
  if (isKnown) return refused;
  const isNewest = await remote.renew();
  const more = candidates(signed, remote.keys ?? []);
  const another = await check(signed, more.filter((key) => !here.includes(key)), config);
  if (another !== null) return another;
  // Such a key may exist: the client may retry with the same token.
  return isNewest ? refused : { refused: "unavailable", text: "token: the keys to verify it are unavailable; try again" };
}

/** Keys for the token's algorithm: those with its kid, else all, up to a number. */
function candidates<K extends Key | Secret>({ algorithm, kid }: Header, keys: readonly K[]): K[] {
  const fitting = keys.filter((key) => key.algorithm === algorithm);
  const named = kid === null ? [] : fitting.filter((key) => key.kid === kid);
  if (named.length > 0) return named.slice(0, triesMax);
  // A kid that matches no key may belong to a key without one, such as a secret.
  return (kid === null ? fitting : fitting.filter((key) => key.kid === "")).slice(0, triesMax);
}

function refusedBy(tried: readonly unknown[], { algorithm, kid }: Header): Verdict {
  if (tried.length > 0) return invalid("token: no key of this node has signed it");
  return invalid(kid === null ? `token: this node has no key for ${algorithm}` : `token: this node has no key with its kid for ${algorithm}`);
}

// ------------------------------------------------------------------------------- what it says

/** Null: signed by none of the keys. */
async function check({ token, hash, algorithm }: Signed, keys: readonly Key[], config: AuthConfig): Promise<Verdict | null> {
  for (const { key } of keys) {
    try {
      const { payload } = await jwtVerify(token, key, { algorithms: [algorithm], ...claimsWanted(config) });
      return judge(payload, hash, config);
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) return refusalOf(error);
    }
  }
  return null;
}

function claimsWanted({ authClockToleranceMs, authAudience, authIssuer }: AuthConfig): JWTClaimVerificationOptions {
  return {
    clockTolerance: authClockToleranceMs / 1000,
    ...(authAudience.length > 0 && { audience: [...authAudience] }),
    ...(authIssuer.length > 0 && { issuer: [...authIssuer] }),
  };
}

/** The tolerance covers clocks ahead of ours. It does not extend an expired token. */
function judge(payload: JWTPayload, hash: string, { authClockToleranceMs }: AuthConfig): Verdict {
  const read = grantOf(payload, hash);
  if ("problem" in read) return invalid(`token: ${read.problem}`);
  if (isOver(read.grant)) return expired;
  if (read.grant.issuedAt > Date.now() + authClockToleranceMs) return invalid("token: iat: is in the future; compare the clocks of issuer and node");
  return read;
}

const words: Readonly<Record<string, string>> = {
  aud: "aud: names none of the accepted audiences (authAudience)",
  iss: "iss: names none of the accepted issuers (authIssuer)",
  nbf: "nbf: the token is not valid yet",
};

function refusalOf(error: unknown): Verdict {
  if (error instanceof errors.JWTExpired) return expired;
  if (error instanceof errors.JWTClaimValidationFailed) return invalid(`token: ${words[error.claim] ?? `${error.claim}: is wrong`}`);
  return invalid("token: is not a JWT");
}

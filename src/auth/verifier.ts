/**
 * Tokens (JWT) to grants. What was found of one is remembered, good or bad: a client that comes back, and ten thousand
 * that come back at once, do not pay for their signatures again, and neither does a flood of one bad token.
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
/** `text` is for people: what is wrong, without anything of the token. */
export type Verdict = { readonly grant: Grant } | { readonly refused: Refused; readonly text: string };

export interface Verifier {
  /**
   * At once where the token is known, not worth a look, or signed with a secret. Never rejects.
   * @param vouched what a resume token says: where it was made for this very token, on any node, the signature is known
   *   to be good.
   */
  verify(token: string, vouched?: Grant): Verdict | Promise<Verdict>;
}

export interface VerifierOptions {
  readonly config: AuthConfig;
  /** From secrets and files. */
  readonly keys: readonly KeyMaterial[];
  /** The keys from the URL cannot be had, or, with null, can again. */
  onOutage?(problem: string | null): void;
  /** A signature was looked at; for counting. */
  onVerified?(verdict: Verdict): void;
}

type AuthConfig = Pick<Config, "authJwksUrl" | "authAudience" | "authIssuer" | "authClockToleranceMs">;

/** Entries and bytes of what is remembered of good tokens. */
const knownMax = 20_000;
const knownBytesMax = 16_777_216;
const entryBytes = 256;
const badMax = 10_000;
/** A bad token stays bad, but for keys that come from a URL and clocks that go on. */
const badMs = 1000;
/** jose also reads what is no base64url: then one signature would make many tokens. */
const shape = /^[\w-]+\.[\w-]+\.[\w-]*$/;
/** Keys that are tried for a token that does not name one. */
const triesMax = 8;

export function createVerifier({ config, keys: materials, onOutage, onVerified }: VerifierOptions): Verifier {
  const own = importKeys(materials);
  const secrets = secretsAmong(materials);
  const remote = config.authJwksUrl === "" ? null : createRemoteKeys(config.authJwksUrl, onOutage ?? (() => {}));
  void remote?.renew();
  const known = new LRUCache<string, Grant>({ max: knownMax, maxSize: knownBytesMax });
  const bad = new LRUCache<string, Verdict>({ max: badMax, ttl: badMs });
  const asked = new Map<string, Promise<Verdict>>();

  const look = (token: string, hash: string): Verdict | Promise<Verdict> => {
    let header: Header;
    try {
      header = headerOf(token);
    } catch (error) {
      return invalid(error instanceof Malformed ? error.message : "token: is not a JWT");
    }
    const signed = { token, hash, ...header };
    if (header.algorithm === "HS256") return findSecret(signed, secrets, config);
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
      // A token from a file comes with the end of its line.
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

function headerOf(token: string): Header {
  const { alg, kid, crit } = decodeProtectedHeader(token);
  if (kid !== undefined && typeof kid !== "string") throw new Malformed("token: its kid is no text");
  if (!algorithms.some((name) => name === alg)) {
    throw new Malformed(alg === "none" ? "token: is not signed" : `token: is not signed with one of ${algorithms.join(", ")}`);
  }
  if (crit !== undefined) throw new Malformed("token: says in crit that it must be understood in a way that is not known here");
  return { algorithm: String(alg), kid: kid ?? null };
}

/** A token with what its header says of it. */
interface Signed extends Header {
  readonly token: string;
  readonly hash: string;
}

/**
 * It costs less than having another thread do it, and nothing of the handshake has to be kept meanwhile: while
 * thousands come, what waits outlives its youth in V8's heap, and is collected late.
 */
function findSecret(signed: Signed, secrets: readonly Secret[], config: AuthConfig): Verdict {
  const [header = "", payload = "", signature = ""] = signed.token.split(".");
  const here = candidates(signed, secrets);
  if (!here.some(({ mac }) => mac.isSignature(`${header}.${payload}`, signature))) return refusedBy(here, signed);
  try {
    // jose looks at claims without waiting only where no signature is to be checked.
    return judge(UnsecuredJWT.decode(`${unsecured}.${payload}.`, claimsWanted(config)).payload, signed.hash, config);
  } catch (error) {
    return refusalOf(error);
  }
}

const unsecured = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");

/** Tries the keys that are here, then, if the token may be signed with a newer one from the URL, those that are new. */
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
  // Whether there is such a key cannot be known now: the client may come back with the same token.
  return isNewest ? refused : { refused: "unavailable", text: "token: the keys to check it with cannot be had now" };
}

/** Keys of the token's algorithm: those it names, or else all, up to a number. */
function candidates<K extends Key | Secret>({ algorithm, kid }: Header, keys: readonly K[]): K[] {
  const fitting = keys.filter((key) => key.algorithm === algorithm);
  const named = kid === null ? [] : fitting.filter((key) => key.kid === kid);
  if (named.length > 0) return named.slice(0, triesMax);
  // A name that is unknown can still be that of a key which has none here, such as a secret.
  return (kid === null ? fitting : fitting.filter((key) => key.kid === "")).slice(0, triesMax);
}

function refusedBy(tried: readonly unknown[], { algorithm, kid }: Header): Verdict {
  if (tried.length > 0) return invalid("token: its signature is not of any key here");
  return invalid(kid === null ? `token: there is no key for ${algorithm}` : `token: there is no key of its kid for ${algorithm}`);
}

// ------------------------------------------------------------------------------- what it says

/** Null: none of the keys has signed it. */
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

/** The tolerance is for clocks that are ahead of ours: what has expired has expired. */
function judge(payload: JWTPayload, hash: string, { authClockToleranceMs }: AuthConfig): Verdict {
  const read = grantOf(payload, hash);
  if ("problem" in read) return invalid(`token: ${read.problem}`);
  if (isOver(read.grant)) return expired;
  if (read.grant.issuedAt > Date.now() + authClockToleranceMs) return invalid("token: iat: was issued in the future; compare the clocks");
  return read;
}

const words: Readonly<Record<string, string>> = {
  aud: "aud: is for another audience, or for none",
  iss: "iss: is of another issuer, or of none",
  nbf: "nbf: is not valid yet",
};

function refusalOf(error: unknown): Verdict {
  if (error instanceof errors.JWTExpired) return expired;
  if (error instanceof errors.JWTClaimValidationFailed) return invalid(`token: ${words[error.claim] ?? `${error.claim}: is wrong`}`);
  return invalid("token: is not a JWT");
}

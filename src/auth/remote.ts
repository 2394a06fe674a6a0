/**
 * Keys from a URL (JWKS), as identity providers publish them. Fetched when the reactor starts, again when they are old
 * or a token names one that is not among them, never more often than the cooldown. While the server is away the keys
 * that were there stay good, and no token costs a request.
 */
import { createRemoteJWKSet } from "jose";
import { importKeys, keyOfJwk, KeyProblem, keysMax, type Key, type KeyMaterial } from "./keys.ts";

const timeoutMs = 5000;
/** Between two requests. */
const cooldownMs = 5000;
const freshMs = 600_000;

export interface RemoteKeys {
  /** What is known now; null before they have ever been fetched. */
  readonly keys: readonly Key[] | null;
  /** Fetches them if they may have changed: resolves with whether what is known then is the newest there is. */
  renew(): Promise<boolean>;
  /** To be called at every use: renews old ones without anybody waiting. */
  touch(): void;
}

/** @param onOutage is told once when the keys cannot be had, with the reason, and once, with null, when they can again. */
export function createRemoteKeys(url: string, onOutage: (problem: string | null) => void): RemoteKeys {
  // Only fetches: jose would choose keys by what the token says, we choose by what the key is.
  const remote = createRemoteJWKSet(new URL(url), { timeoutDuration: timeoutMs, cacheMaxAge: Infinity });
  let keys: readonly Key[] | null = null;
  let askedAt = -Infinity;
  let isAway = false;
  let asking: Promise<boolean> | null = null;

  const report = (problem: string | null): void => {
    if (isAway === (problem !== null)) return;
    isAway = problem !== null;
    onOutage(problem);
  };
  const fetchKeys = async (): Promise<boolean> => {
    askedAt = performance.now();
    try {
      await remote.reload();
      const usable = usableKeys(remote.jwks()?.keys ?? []);
      if (usable.length === 0) throw new KeyProblem("holds no key that this node can use: RSA, P-256 or Ed25519");
      keys = await importKeys(usable);
      report(null);
      return true;
    } catch (error) {
      report(reasonOf(error));
      return false;
    }
  };
  const renew = (): Promise<boolean> => {
    if (asking !== null) return asking;
    if (performance.now() - askedAt < cooldownMs) return Promise.resolve(false);
    asking = fetchKeys().finally(() => (asking = null));
    return asking;
  };
  return {
    get keys() { return keys; },
    renew,
    touch: () => {
      if (performance.now() - askedAt > freshMs) void renew();
    },
  };
}

/** A secret that is published is none, and what cannot be used does not spoil the others. */
function usableKeys(jwks: readonly object[]): KeyMaterial[] {
  const usable: KeyMaterial[] = [];
  for (const jwk of jwks.slice(0, keysMax)) {
    try {
      const key = keyOfJwk({ ...jwk });
      if (key.jwk.kty !== "oct") usable.push(key);
    } catch (error) {
      if (!(error instanceof KeyProblem)) throw error;
    }
  }
  return usable;
}

/** fetch hides what happened in its cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error && cause.message !== "" ? `${error.message}: ${cause.message}` : error.message;
}

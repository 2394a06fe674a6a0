/**
 * Keys from a URL (JWKS) of an identity provider. A reactor fetches them at start, and again when they are old or a
 * token names an unknown key, but never more often than the cooldown. While the server is unavailable the known keys
 * stay valid. No token costs a request by itself.
 */
import { createRemoteJWKSet } from "jose";
import { importKeys, keyOfJwk, KeyProblem, keysMax, type Key, type KeyMaterial } from "./keys.ts";

const timeoutMs = 5000;
/** Shortest time between two requests. */
const cooldownMs = 5000;
const freshMs = 600_000;

export interface RemoteKeys {
  /** The known keys; null before the first successful request. */
  readonly keys: readonly Key[] | null;
  /** Fetches the keys if they may have changed. Resolves with whether the result is current. */
  renew(): Promise<boolean>;
  /** Called at every use: renews old keys in the background. */
  touch(): void;
}

/**
 * @param onOutage receives the reason once when the keys cannot be fetched, and null once when they can again.
 * @param clock is steady, in milliseconds.
 */
export function createRemoteKeys(url: string, onOutage: (problem: string | null) => void, clock: () => number): RemoteKeys {
  // Used only to fetch: jose would choose keys by the token; this code chooses by the key.
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
    askedAt = clock();
    try {
      await remote.reload();
      const usable = usableKeys(remote.jwks()?.keys ?? []);
      if (usable.length === 0) throw new KeyProblem("contains no usable key (RSA, P-256 or Ed25519)");
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
    if (clock() - askedAt < cooldownMs) return Promise.resolve(false);
    asking = fetchKeys().finally(() => (asking = null));
    return asking;
  };
  return {
    get keys() { return keys; },
    renew,
    touch: () => {
      if (clock() - askedAt > freshMs) void renew();
    },
  };
}

/** The usable keys. Published secrets are ignored, and unusable keys do not affect the others. */
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

/** fetch hides the actual error in its cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error && cause.message !== "" ? `${error.message}: ${cause.message}` : error.message;
}

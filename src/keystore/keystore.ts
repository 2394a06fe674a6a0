/**
 * The seam of API keys. A node reads them through a KeyStore, `flux-gateway key` changes them through a KeyWriter. Both
 * are opened on one place: memory, a file, or Redis.
 */

/** What a key may do. `admin` includes the others. */
export const scopeNames = ["publish", "read", "disconnect", "tokens", "admin"] as const;
export type Scope = (typeof scopeNames)[number];

/** One of the secrets of a key. The key has two while the application changes from one to the other. */
export interface KeySecret {
  /** Part of the secret's text, and not secret: it finds the key. Never used again. */
  readonly id: string;
  /** SHA-256 of the whole text, in base64url. The text itself is stored nowhere. */
  readonly sha256: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  /** Milliseconds since 1970; 0 for never. */
  readonly expiresAt: number;
}

export interface KeyRecord {
  readonly name: string;
  /** Null: every tenant, and requests name one. "" without tenants. */
  readonly tenant: string | null;
  readonly scopes: readonly Scope[];
  /** Patterns of room names, with `*`. Null: every room. */
  readonly rooms: readonly string[] | null;
  /** Per node. Null: no limit. */
  readonly requestsPerSecond: number | null;
  readonly publicationsPerSecond: number | null;
  readonly createdAt: number;
  /** Of all its secrets. 0 for never. */
  readonly expiresAt: number;
  /** One or two, the newest first. */
  readonly secrets: readonly KeySecret[];
}

export interface FoundKey {
  readonly key: KeyRecord;
  readonly secret: KeySecret;
}

/**
 * The keys as a node knows them, always in its memory.
 *
 * - A change by a KeyWriter MUST be known here within `lookMs`, after the store was opened as well as at its opening.
 * - While the place cannot be read, or holds what cannot be read, the last keys that were read MUST stay known, and no
 *   others become known. The store MUST report it in `usage` and in the log.
 * - `find` MUST return what the writer stored. It does not check expiry.
 */
export interface KeyStore {
  find(secretId: string): FoundKey | undefined;
  /** Whether requests need a key. It MUST stay true once there was a key: revoking the last one opens nothing. */
  readonly guarded: boolean;
  usage(): KeyStoreUsage;
  stop(): Promise<void>;
}

export interface KeyStoreUsage {
  readonly keys: number;
  /** Why the keys may be out of date; "" when they are not. */
  readonly problem: string;
}

/** @returns the key after the change; null removes it. It may throw, and then nothing changes. It may be called again. */
export type KeyChange = (before: KeyRecord | null) => KeyRecord | null;

/**
 * Changes keys.
 *
 * - A change MUST be whole: no reader sees part of it, and changes at the same time do not lose each other.
 * - It MUST be stored when the promise resolves.
 * - More than `keysMax` keys MUST be refused with a KeyStoreProblem.
 */
export interface KeyWriter {
  /** All keys, ordered by name. */
  list(): Promise<KeyRecord[]>;
  /** @throws KeyStoreProblem, or what `change` throws. */
  change(name: string, change: KeyChange): Promise<void>;
  stop(): Promise<void>;
}

/** Why keys cannot be read or changed: a sentence for the operator, without its subject. */
export class KeyStoreProblem extends Error {
  override readonly name = "KeyStoreProblem";
}

/** Control characters and spaces would confuse logs and metrics, so a name has none. */
export const keyNamePattern = /^[a-zA-Z0-9_.-]{1,64}$/;
/** What metrics and the log call callers without a key of their own. */
export const reservedNames: readonly string[] = ["admin", "jwt", "nats", "open", "other", "token"];
export const keysMax = 10_000;
/** Of the limits of a key, and of a token for the HTTP API. */
export const perSecondMax = 1_000_000;
/** Characters of a pattern of room names. */
export const patternCharsMax = 255;
/** Interval at which stores look for changes. A look may take as long again, and more while Redis does not answer. */
export const lookMs = 1_000;

/** Calls `look` at an interval, until the returned function is called. Tests hold it. */
export type Every = (ms: number, look: () => Promise<void>) => () => void;

export const everyInTime: Every = (ms, look) => {
  const timer = setInterval(() => void look(), ms).unref();
  return () => clearInterval(timer);
};

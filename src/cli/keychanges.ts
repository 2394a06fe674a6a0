/** What `flux-gateway key` does to a key. Each function makes the new record; the store replaces the old one whole. */
import { makeSecret, type NewSecret } from "../auth/apisecret.ts";
import { ConfigError } from "../config/config.ts";
import type { KeyRecord, KeySecret } from "../keystore/keystore.ts";

export type NewKey = Omit<KeyRecord, "name" | "createdAt" | "secrets">;

/** A change that makes a secret, and the secret: it is shown once and stored nowhere. */
export interface Made {
  readonly key: KeyRecord;
  readonly secret: NewSecret;
}

/** @throws ConfigError where the name is taken. */
export function created(name: string, before: KeyRecord | null, wanted: NewKey, now: number): Made {
  if (before !== null) throw new ConfigError([`key ${name} exists; choose another name, or replace its secret with flux-gateway key rotate ${name}`]);
  const secret = makeSecret();
  return { key: { name, ...wanted, createdAt: now, secrets: [stored(secret, now)] }, secret };
}

/** Adds a secret. The one before stays valid for `keepMs`. @throws ConfigError */
export function rotated(name: string, before: KeyRecord | null, keepMs: number, now: number): Made {
  const key = existing(name, before);
  if (isOver(key.expiresAt, now)) throw new ConfigError([`key ${name} has expired; revoke it, and create another one`]);
  const [newest, ...others] = key.secrets.filter(({ expiresAt }) => !isOver(expiresAt, now));
  if (others.length > 0) {
    const ids = others.map(({ id }) => id).join();
    throw new ConfigError([`key ${name} has two secrets; revoke the older one first, once nothing uses it: flux-gateway key revoke ${name} --secret ${ids}`]);
  }
  const until = now + keepMs;
  const kept = newest === undefined || keepMs === 0 ? [] : [{ ...newest, expiresAt: newest.expiresAt === 0 ? until : Math.min(until, newest.expiresAt) }];
  const secret = makeSecret();
  return { key: { ...key, secrets: [stored(secret, now), ...kept] }, secret };
}

/** @param secretId undefined: all of the key. @throws ConfigError */
export function revoked(name: string, before: KeyRecord | null, secretId: string | undefined): KeyRecord | null {
  const key = existing(name, before);
  if (secretId === undefined) return null;
  const left = key.secrets.filter(({ id }) => id !== secretId);
  if (left.length === key.secrets.length) throw new ConfigError([`key ${name} has no secret ${secretId}; flux-gateway key list shows their ids`]);
  return left.length === 0 ? null : { ...key, secrets: left };
}

function existing(name: string, before: KeyRecord | null): KeyRecord {
  if (before !== null) return before;
  throw new ConfigError([`there is no key ${name}; flux-gateway key list shows all`]);
}

function stored({ id, sha256 }: NewSecret, now: number): KeySecret {
  return { id, sha256, createdAt: now, expiresAt: 0 };
}

function isOver(at: number, now: number): boolean {
  return at !== 0 && at <= now;
}

/** Reads the configured keys once, at start: secrets, and files of PEM, JWK or JWKS. */
import { readFileSync, statSync } from "node:fs";
import { ConfigError, type Config } from "../config/config.ts";
import { isRecord } from "../config/namespaces.ts";
import { keyOfJwk, keyOfPem, KeyProblem, keysMax, secretKey, type KeyMaterial } from "./keys.ts";

const fileBytesMax = 1_048_576;

type KeyConfig = Pick<Config, "authSecret" | "authSecretPrevious" | "authKeys">;

/** @throws ConfigError with every problem found. */
export function readKeys({ authSecret, authSecretPrevious, authKeys }: KeyConfig): KeyMaterial[] {
  const keys: KeyMaterial[] = [authSecret, authSecretPrevious].filter((secret) => secret !== "").map((secret) => secretKey(secret));
  const problems: string[] = [];
  for (const path of authKeys) {
    try {
      keys.push(...readKeyFile(path));
    } catch (error) {
      if (!(error instanceof KeyProblem)) throw error;
      problems.push(`--auth-keys ${path}: ${error.message}`);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return keys;
}

/** @throws KeyProblem */
function readKeyFile(path: string): KeyMaterial[] {
  const text = textOf(path);
  const keys = /-----BEGIN /.test(text) ? keysOfPem(text) : keysOfJson(text);
  if (keys.length > keysMax) throw new KeyProblem(`contains ${keys.length} keys; one file may have at most ${keysMax}`);
  return keys;
}

function keysOfPem(text: string): KeyMaterial[] {
  const blocks = text.match(/-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g) ?? [];
  if (blocks.length === 0) throw new KeyProblem("contains a PEM block without its end; check that the file is complete");
  return blocks.map((block, i) => named(blocks.length, i, () => keyOfPem(block)));
}

function keysOfJson(text: string): KeyMaterial[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Neither format. The parser's own message would not help, and might show part of a key.
    throw new KeyProblem("is neither PEM (-----BEGIN PUBLIC KEY-----) nor JSON (a JWK or a JWKS)");
  }
  if (!isRecord(value)) throw new KeyProblem("must contain an object: a JWK or a JWKS");
  const { keys } = value;
  if (!Array.isArray(keys)) return [keyOfJwk(value)];
  if (keys.length === 0) throw new KeyProblem("is a JWKS without keys");
  return keys.map((key: unknown, i) =>
    named(keys.length, i, () => {
      if (!isRecord(key)) throw new KeyProblem("is not an object");
      return keyOfJwk(key);
    }),
  );
}

/** Names the wrong key, where a file has several. */
function named<T>(count: number, i: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof KeyProblem) || count === 1) throw error;
    throw new KeyProblem(`key ${i + 1} of ${count} ${error.message}`);
  }
}

function textOf(path: string): string {
  try {
    if (statSync(path).size > fileBytesMax) throw new KeyProblem("is larger than 1 MiB, the limit for a file of keys");
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof KeyProblem) throw error;
    throw new KeyProblem(`cannot be read: ${reasons[(error as NodeJS.ErrnoException).code ?? ""] ?? String(error)}`);
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "the file does not exist; the path is relative to the working directory",
  EACCES: "permission denied; let the user that runs flux-gateway read it",
  EISDIR: "it is a directory; give the path of a file",
};

/** The keys that the configuration names: secrets, and files of PEM, a JWK or a JWKS. Read once, at start. */
import { readFileSync, statSync } from "node:fs";
import { ConfigError, type Config } from "../config/config.ts";
import { isRecord } from "../config/namespaces.ts";
import { keyOfJwk, keyOfPem, KeyProblem, keysMax, secretKey, type KeyMaterial } from "./keys.ts";

const fileBytesMax = 1_048_576;

type KeyConfig = Pick<Config, "authSecret" | "authSecretPrevious" | "authKeys">;

/** @throws ConfigError with every problem there is. */
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
  if (keys.length > keysMax) throw new KeyProblem(`holds ${keys.length} keys; at most ${keysMax} are read from one file`);
  return keys;
}

function keysOfPem(text: string): KeyMaterial[] {
  const blocks = text.match(/-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g) ?? [];
  if (blocks.length === 0) throw new KeyProblem("begins a PEM block and does not end it; is the file whole?");
  return blocks.map((block, i) => named(blocks.length, i, () => keyOfPem(block)));
}

function keysOfJson(text: string): KeyMaterial[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Neither: what the parser did not like about it helps nobody, and might show some of it.
    throw new KeyProblem("is neither PEM (-----BEGIN PUBLIC KEY-----) nor JSON (a JWK or a JWKS)");
  }
  if (!isRecord(value)) throw new KeyProblem("must hold a JWK or a JWKS, an object");
  const { keys } = value;
  if (!Array.isArray(keys)) return [keyOfJwk(value)];
  if (keys.length === 0) throw new KeyProblem("is a JWKS without any key");
  return keys.map((key: unknown, i) =>
    named(keys.length, i, () => {
      if (!isRecord(key)) throw new KeyProblem("is no object");
      return keyOfJwk(key);
    }),
  );
}

/** Of several keys in a file, says which one is wrong. */
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
    if (statSync(path).size > fileBytesMax) throw new KeyProblem("is larger than any file of keys should be (1 MiB)");
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof KeyProblem) throw error;
    throw new KeyProblem(`cannot be read: ${reasons[(error as NodeJS.ErrnoException).code ?? ""] ?? String(error)}`);
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file; the path is relative to the working directory",
  EACCES: "permission denied; let the user that runs flux-gateway read it",
  EISDIR: "it is a directory; give the path of a file",
};

/** Keys of the HTTP API in a file. */
import { makeSecret } from "../../src/auth/apisecret.ts";
import { openFileKeyWriter } from "../../src/keystore/file.ts";
import type { KeyRecord, KeyWriter } from "../../src/keystore/keystore.ts";

/** @returns the text of the key's secret. */
export async function createKey(writer: KeyWriter, name: string, more: Partial<KeyRecord>): Promise<string> {
  const { text, id, sha256 } = makeSecret();
  const key = { name, tenant: "", scopes: ["publish", "read"], rooms: null, requestsPerSecond: null, publicationsPerSecond: null, createdAt: 1, expiresAt: 0, ...more } as const;
  await writer.change(name, () => ({ ...key, secrets: [{ id, sha256, createdAt: 1, expiresAt: 0 }] }));
  return text;
}

export { openFileKeyWriter };

/** Keys in the memory of one process: of a node without a file of keys and without Redis, and of tests. */
import { KeyStoreProblem, keysMax, type FoundKey, type KeyRecord, type KeyStore, type KeyWriter } from "./keystore.ts";
import { byName, readRecord, writeRecord } from "./records.ts";

export interface MemoryKeys {
  readonly store: KeyStore;
  readonly writer: KeyWriter;
}

export function createMemoryKeys(): MemoryKeys {
  const keys = new Map<string, KeyRecord>();
  const bySecret = new Map<string, FoundKey>();
  let guarded = false;
  const change: KeyWriter["change"] = async (name, change) => {
    const before = keys.get(name) ?? null;
    const wanted = change(before);
    const after = wanted === null ? null : readRecord(writeRecord(wanted));
    if (before === null && after !== null && keys.size >= keysMax) throw new KeyStoreProblem(`has ${keysMax} keys, as many as are allowed`);
    for (const secret of before?.secrets ?? []) bySecret.delete(secret.id);
    if (after === null) return void keys.delete(name);
    keys.set(name, after);
    for (const secret of after.secrets) bySecret.set(secret.id, { key: after, secret });
    guarded = true;
  };
  const stop = async () => undefined;
  return {
    store: {
      find: (secretId) => bySecret.get(secretId),
      get guarded() {
        return guarded;
      },
      usage: () => ({ keys: keys.size, problem: "" }),
      stop,
    },
    writer: { list: async () => byName([...keys.values()]), change, stop },
  };
}

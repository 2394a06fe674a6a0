/**
 * Keys in one hash of Redis: a field for each key, and the field `*` that changes with every change. Nodes compare `*`
 * and read the hash when it differs. `*` stays when the last key is revoked, so a hash without it is lost data.
 */
import { randomId } from "../platform/ids.ts";
import type { RedisLink } from "../redis/redis.ts";
import { Script } from "../redis/scripts.ts";
import { everyInTime, KeyStoreProblem, keysMax, lookMs, type Every, type KeyChange, type KeyRecord, type KeyStore, type KeyWriter } from "./keystore.ts";
import { byName, KnownKeys, readRecord, writeRecord, type RecordText } from "./records.ts";

export interface RedisKeysOptions {
  readonly redis: RedisLink;
  readonly prefix: string;
  readonly log: { warn(fields: object, text: string): void; error(fields: object, text: string): void };
  /** Replaced in tests. */
  readonly every?: Every;
}

const changeKey = new Script(1, "keystore/lua/change.lua");
const versionField = "*";
/** Attempts of a change that others overtake. */
const triesMax = 20;

/** @throws where Redis refuses to be read at the start. */
export async function openRedisKeys({ redis, prefix, log, every = everyInTime }: RedisKeysOptions): Promise<KeyStore> {
  const hash = hashOf(prefix);
  const known = new KnownKeys();
  let version: string | null = null;
  let unreadable = "";
  let problem = "";
  let looking: Promise<void> | null = null;
  let stopped = false;

  const read = async (): Promise<string> => {
    const found = await redis.run("hget", hash, versionField);
    if (found === version) return unreadable;
    const { [versionField]: newest, ...all } = (await redis.run("hgetall", hash)) as Record<string, string>;
    if (newest === undefined) return "Redis has lost the API keys; restore them, or create them again";
    const sorted = sortedOut(all, known);
    await known.replace(sorted.texts);
    version = newest;
    return (unreadable = sorted.unreadable);
  };
  const look = async () => {
    // The link logs that Redis is unavailable.
    if (!redis.up || stopped) return;
    let said: string;
    try {
      said = await read();
    } catch (error) {
      if (!redis.up || stopped) return;
      said = `Redis refuses to give the API keys: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (said !== "" && said !== problem) log.error({ keys: known.size }, `${said}; the node keeps the ${known.size} keys that it read last`);
    problem = said;
  };
  const lookOnce = () => (looking ??= look().finally(() => (looking = null)));
  problem = await read();
  if (problem !== "") log.error({ keys: known.size }, problem);
  redis.onUp(() => void lookOnce());
  const stopLooking = every(lookMs, lookOnce);
  return {
    find: (secretId) => known.find(secretId),
    get guarded() {
      return version !== null;
    },
    usage: () => ({ keys: known.size, problem: redis.up ? problem : "Redis is unavailable" }),
    stop: async () => {
      stopped = true;
      stopLooking();
      await looking;
    },
  };
}

export function openRedisKeyWriter(redis: RedisLink, prefix: string): KeyWriter {
  const hash = hashOf(prefix);
  return {
    list: async () => {
      const { [versionField]: _, ...all } = (await redis.run("hgetall", hash)) as Record<string, string>;
      return byName(Object.entries(all).map(([name, text]) => readNamed(name, text)));
    },

    async change(name, change) {
      for (let i = 0; i < triesMax; i++) {
        const before = String((await redis.run("hget", hash, name)) ?? "");
        const after = changed(name, before, change);
        const answer = await redis.run(changeKey, hash, name, before, after, randomId(9), keysMax);
        if (answer === "done") return;
        if (answer === "full") throw new KeyStoreProblem(`has ${keysMax} keys, as many as are allowed`);
      }
      throw new KeyStoreProblem("others change this key at the same time; try again");
    },

    stop: async () => undefined,
  };
}

function changed(name: string, before: string, change: KeyChange): string {
  const after = change(before === "" ? null : readNamed(name, before));
  return after === null ? "" : writeRecord(after);
}

function hashOf(prefix: string): string {
  return `${prefix}gateway:api-keys`;
}

/** The texts to know. One that cannot be read costs only its own key, which stays as it was known. */
function sortedOut(all: Record<string, string>, known: KnownKeys): { readonly texts: RecordText[]; readonly unreadable: string } {
  const texts: RecordText[] = [];
  let unreadable = "";
  for (const [name, text] of Object.entries(all)) {
    try {
      if (!known.has(text)) readNamed(name, text);
      texts.push({ where: name, text });
    } catch (error) {
      if (!(error instanceof KeyStoreProblem)) throw error;
      unreadable = `API keys in Redis: ${JSON.stringify(name.slice(0, 64))} ${error.message}`;
      const before = known.named(name);
      if (before !== undefined) texts.push(before);
    }
  }
  return { texts, unreadable };
}

function readNamed(name: string, text: string): KeyRecord {
  const key = readRecord(text);
  if (key.name !== name) throw new KeyStoreProblem("has the name of another key");
  return key;
}

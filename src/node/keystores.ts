/** Opens the API keys: of a file, of Redis, or none. */
import { apiAudience, createApiKeys, type ApiKeys } from "../auth/apikeys.ts";
import { createClientTokens, type ClientTokens } from "../auth/clienttokens.ts";
import type { KeyMaterial } from "../auth/keys.ts";
import { createVerifier } from "../auth/verifier.ts";
import { ConfigError, hasKey, isLoopback, type Config } from "../config/config.ts";
import { openFileKeys, openFileKeyWriter } from "../keystore/file.ts";
import { KeyStoreProblem, type KeyStore, type KeyWriter } from "../keystore/keystore.ts";
import { createMemoryKeys } from "../keystore/memory.ts";
import { openRedisKeys, openRedisKeyWriter } from "../keystore/redis.ts";
import type { Logger } from "../platform/log/log.ts";
import { openRedis } from "../redis/open.ts";
import type { RedisLink } from "../redis/redis.ts";
import { readRedisTarget, redisServer } from "../redis/target.ts";
import { atStart, unreachable } from "./redisproblem.ts";

/** @param authKeys that sign the tokens of clients, and JWTs for the API. @throws ConfigError */
export async function openApiKeys(config: Config, authKeys: readonly KeyMaterial[], redis: RedisLink | null, log: Logger): Promise<ApiKeys> {
  const store = await openKeyStore(config, redis, log);
  const ofApi = { ...config, authAudience: [apiAudience] };
  // Only the first JWT makes it: it may fetch keys from an address.
  const verifier = hasKey(config) ? () => createVerifier({ config: ofApi, keys: authKeys }) : null;
  const host = config.apiPort === null ? config.adminHost : config.apiHost || "127.0.0.1";
  return createApiKeys({ adminKey: config.adminKey, onLoopback: isLoopback(host), store, verifier });
}

/** @param authKeys that sign the tokens of clients. */
export function openClientTokens(config: Config, authKeys: readonly KeyMaterial[]): ClientTokens {
  return createClientTokens(hasKey(config) ? () => createVerifier({ config, keys: authKeys }) : null);
}

async function openKeyStore(config: Config, redis: RedisLink | null, log: Logger): Promise<KeyStore> {
  const { apiKeys: path, redisPrefix: prefix } = config;
  if (path !== "") return named(`--api-keys ${path}`, openFileKeys({ path, log }));
  if (redis === null) return createMemoryKeys().store;
  return named(`--redis ${redisServer(config.redis)}: API keys`, atStart(config, openRedisKeys({ redis, prefix, log })));
}

/** For `flux-gateway key`. @returns also where the keys are, for people. @throws ConfigError */
export async function openKeyWriter(config: Config): Promise<{ readonly writer: KeyWriter; readonly place: string }> {
  const { apiKeys: path, redis: address, redisPrefix: prefix, redisTlsCa: tlsCa, redisAnswerMs: answerMs } = config;
  if (path !== "") return { writer: openFileKeyWriter(path), place: path };
  const target = readRedisTarget(address);
  if (target === undefined) throw new ConfigError(["--api-keys: name the file of API keys, or the Redis of your nodes with --redis"]);
  const redis = await openRedis({ target, tlsCa, answerMs, log: { info() {}, warn() {} } }).catch((error: unknown) => {
    throw unreachable(config, error);
  });
  const writer = openRedisKeyWriter(redis, prefix);
  return { writer: { ...writer, stop: () => redis.close() }, place: redisServer(address) };
}

async function named<T>(where: string, opening: Promise<T>): Promise<T> {
  return opening.catch((error: unknown) => {
    throw error instanceof KeyStoreProblem ? new ConfigError([`${where} ${error.message}`]) : error;
  });
}

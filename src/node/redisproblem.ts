/** Errors of Redis at the start of a node, as texts that name the option and the remedy. */
import { ConfigError, type Config } from "../config/config.ts";
import { RedisAway } from "../redis/redis.ts";
import { isForRights, refusalOf, rightsNeeded, type RefusedCommand } from "../redis/rights.ts";
import { readRedisTarget, redisServer } from "../redis/target.ts";
import { TlsFileProblem } from "../redis/tls.ts";

export function unreachable(config: Config, error: unknown): ConfigError {
  return new ConfigError([`--redis ${redisServer(config.redis)}: cannot be used: ${whyNot(error, config)}`]);
}

/** Turns a rejection by Redis during start into an error for the operator. @throws ConfigError */
export async function atStart<T>(config: Config, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (error) {
    const refusal = refusalOf(error);
    if (refusal !== null) throw refusedAtStart(config, [refusal]);
    if (!(error instanceof RedisAway) && !isConnectionLost(error)) throw error;
    throw new ConfigError([`--redis ${redisServer(config.redis)}: the connection was lost while the node started: ${(error as Error).message}; read the log of Redis, and start the node again`]);
  }
}

export function refusedAtStart(config: Config, refused: readonly RefusedCommand[]): ConfigError {
  const { command, on, problem } = refused[0]!;
  const others = [...new Set(refused.slice(1).map((one) => one.command))].filter((name) => name !== command);
  const more = others.length === 0 ? "" : ` (and ${others.join(", ")})`;
  const what = `Redis refuses ${command}${on === "" ? "" : ` ${on}`}${more}: ${problem}`;
  return new ConfigError([`--redis ${redisServer(config.redis)}: ${what}; ${howToAllow(problem, config)}`]);
}

function howToAllow(problem: string, { redis: address, redisPrefix: prefix }: Config): string {
  const target = readRedisTarget(address);
  const user = target?.user || "default";
  if (isForRights(problem)) return `grant the user ${user} the rights that nodes need: ACL SETUSER ${user} ${rightsNeeded(prefix, target?.kind === "cluster")}; keys and channels begin with --redis-prefix (${prefix})`;
  if (/READONLY|MASTERDOWN/.test(problem)) return "this server is a replica; give the address of the primary or of the Sentinels";
  if (/\b(?:OOM|MISCONF|NOREPLICAS|LOADING|CLUSTERDOWN|BUSY)\b/.test(problem)) return "Redis accepts no commands in its present state; repair Redis, and start the node again";
  return "nodes need Redis 6 or later without renamed commands";
}

function isConnectionLost(error: unknown): boolean {
  return error instanceof Error && (/^(?:AbortError|MaxRetriesPerRequestError)$/.test(error.name) || /Connection is closed|Stream isn't writeable/.test(error.message));
}

/** The error of Redis or of the system, followed by what the operator can do. */
function whyNot(error: unknown, config: Config): string {
  const { redis: address, redisTlsCa: tlsCa } = config;
  if (error instanceof TlsFileProblem) return error.message;
  const text = error instanceof Error ? error.message : String(error);
  if (/NOPERM|READONLY|LOADING|MASTERDOWN|CLUSTERDOWN/.test(text)) return `${text}; ${howToAllow(text, config)}`;
  if (/DENIED/.test(text)) return `${text}; set a password in Redis and in the address (redis://:password@host:port), or, where only nodes can reach Redis, "protected-mode no" in redis.conf`;
  if (/max number of clients/.test(text)) return `${text}; raise maxclients in redis.conf: every node has two connections`;
  if (/NOAUTH|WRONGPASS|invalid password/i.test(text)) return `${text}; put user and password into the address: redis://user:password@host:port`;
  if (/ENOTFOUND|EAI_AGAIN/.test(text)) return `${text}; check the host name`;
  if (/self-signed|unable to (?:get|verify)/.test(text)) {
    const how = tlsCa === "" ? "set --redis-tls-ca to the certificate of its issuer" : `--redis-tls-ca (${tlsCa}) must contain the certificate of its issuer`;
    return `the server's certificate is not trusted (${text}); ${how}`;
  }
  if (/altnames/.test(text)) return `the server's certificate is for another name (${text}); connect by a name in the certificate`;
  // For Sentinels and cluster nodes the client reports nothing more specific.
  if (address.startsWith("rediss+") && /Connection is closed/.test(text)) {
    return `${text}; check the addresses, and that the issuer of the servers' certificates is trusted: ${tlsCa === "" ? "see --redis-tls-ca" : `--redis-tls-ca is ${tlsCa}`}`;
  }
  if (/sentinel/i.test(text)) return `${text}; check the addresses of the Sentinels and the name of the primary`;
  if (/certificate|SSL|TLS|wrong version number/i.test(text)) return `${text}; rediss:// is for servers with TLS, redis:// for those without`;
  return `${text}; check that Redis runs there and that this machine can reach it`;
}

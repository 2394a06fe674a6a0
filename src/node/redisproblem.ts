/** What is wrong with Redis when a node starts, in words that name the option and what to do. */
import { ConfigError, type Config } from "../config/config.ts";
import { RedisAway } from "../redis/redis.ts";
import { isForRights, refusalOf, rightsNeeded, type Refusal } from "../redis/rights.ts";
import { readRedisTarget, redisServer } from "../redis/target.ts";
import { TlsFileProblem } from "../redis/tls.ts";

export function unreachable(config: Config, error: unknown): ConfigError {
  return new ConfigError([`--redis ${redisServer(config.redis)}: cannot be used: ${whyNot(error, config)}`]);
}

/** What Redis refuses of a part's start is for whoever started the node to mend. @throws ConfigError */
export async function atStart<T>(config: Config, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (error) {
    const refusal = refusalOf(error);
    if (refusal !== null) throw refusedAtStart(config, [refusal]);
    if (!(error instanceof RedisAway) && !isConnectionLost(error)) throw error;
    throw new ConfigError([`--redis ${redisServer(config.redis)}: the connection was lost while the node started: ${(error as Error).message}; look at the log of Redis, and start the node again`]);
  }
}

export function refusedAtStart(config: Config, refused: readonly Refusal[]): ConfigError {
  const { command, on, problem } = refused[0]!;
  const others = [...new Set(refused.slice(1).map((one) => one.command))].filter((name) => name !== command);
  const more = others.length === 0 ? "" : ` (and ${others.join(", ")})`;
  const what = `Redis refuses ${command}${on === "" ? "" : ` ${on}`}${more}: ${problem}`;
  return new ConfigError([`--redis ${redisServer(config.redis)}: ${what}; ${howToAllow(problem, config)}`]);
}

function howToAllow(problem: string, { redis: address, redisPrefix: prefix }: Config): string {
  const target = readRedisTarget(address);
  const user = target?.user || "default";
  if (isForRights(problem)) return `give the user ${user} what nodes need: ACL SETUSER ${user} ${rightsNeeded(prefix, target?.kind === "cluster")}; --redis-prefix (${prefix}) is what its keys and channels begin with`;
  if (/READONLY|MASTERDOWN/.test(problem)) return "this is a replica: name its primary, or the Sentinels";
  if (/\b(?:OOM|MISCONF|NOREPLICAS|LOADING|CLUSTERDOWN|BUSY)\b/.test(problem)) return "Redis takes no commands in the state that it is in: mend that, and start the node again";
  return "nodes need Redis 6 or later, with all of its commands under their own names";
}

function isConnectionLost(error: unknown): boolean {
  return error instanceof Error && (/^(?:AbortError|MaxRetriesPerRequestError)$/.test(error.name) || /Connection is closed|Stream isn't writeable/.test(error.message));
}

/** What an operator can do about it, behind what Redis or the system said. */
function whyNot(error: unknown, config: Config): string {
  const { redis: address, redisTlsCa: tlsCa } = config;
  if (error instanceof TlsFileProblem) return error.message;
  const text = error instanceof Error ? error.message : String(error);
  if (/NOPERM|READONLY|LOADING|MASTERDOWN|CLUSTERDOWN/.test(text)) return `${text}; ${howToAllow(text, config)}`;
  if (/DENIED/.test(text)) return `${text}; give Redis a password and put it into the address, redis://:password@host:port, or "protected-mode no" into redis.conf where only nodes reach it`;
  if (/max number of clients/.test(text)) return `${text}; raise maxclients in redis.conf: every node has two connections`;
  if (/NOAUTH|WRONGPASS|invalid password/i.test(text)) return `${text}; put user and password into the address: redis://user:password@host:port`;
  if (/ENOTFOUND|EAI_AGAIN/.test(text)) return `${text}; check the host's name`;
  if (/self-signed|unable to (?:get|verify)/.test(text)) {
    const how = tlsCa === "" ? "give the certificate of whoever signed it with --redis-tls-ca" : `--redis-tls-ca, ${tlsCa}, has to hold the certificate of whoever signed it`;
    return `the server's certificate is not trusted (${text}); ${how}`;
  }
  if (/altnames/.test(text)) return `the server's certificate is for another name (${text}); connect by a name that it has`;
  // Of Sentinels, and of a cluster's nodes, the client does not say more.
  if (address.startsWith("rediss+") && /Connection is closed/.test(text)) {
    return `${text}; check the addresses, and whether whoever signed the servers' certificates is trusted: ${tlsCa === "" ? "see --redis-tls-ca" : `--redis-tls-ca is ${tlsCa}`}`;
  }
  if (/sentinel/i.test(text)) return `${text}; check the Sentinels' addresses and the name they know the server by`;
  if (/certificate|SSL|TLS|wrong version number/i.test(text)) return `${text}; rediss:// is for servers with TLS, redis:// for those without`;
  return `${text}; is Redis running there, and may this machine reach it?`;
}

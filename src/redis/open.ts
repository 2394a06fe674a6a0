/** Makes the connection to Redis: to one server, to the one that Sentinels name, or to a cluster. */
import type { Cluster, Redis, RedisOptions as ClientOptions } from "ioredis";
import { RedisLink, type RedisOptions } from "./redis.ts";
import { drop, livesOf, type Lives } from "./servers.ts";
import { tlsOptions } from "./tls.ts";

const retryMsMax = 1_000;
const connectMs = 5_000;
const keepAliveMs = 10_000;
/** A cluster does not say that one of its servers was restarted, or another made a primary: its servers are looked at so often. */
const clusterLookMs = 5_000;

/**
 * Connects, and resolves when Redis answers.
 * @throws TlsFileProblem, or an Error that says in a sentence why it does not.
 */
export async function openRedis(options: RedisOptions): Promise<RedisLink> {
  const { target, tlsCa = "" } = options;
  // Loaded only now: a node without Redis does not need it.
  // By its default export: a bundle makes no named ones of a module that is CommonJS and loaded late.
  const { default: { Cluster, Redis } } = await import("ioredis");
  let isStarting = true;
  let problem = "";
  const common: ClientOptions = {
    ...(target.user !== "" && { username: target.user }),
    ...(target.password !== "" && { password: target.password }),
    ...(target.tls && tlsOptions(tlsCa)),
    db: target.db,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Zero: what was under way when a connection is lost fails then.
    maxRetriesPerRequest: 0,
    connectTimeout: connectMs,
    keepAlive: keepAliveMs,
    // Its answers are thrown away, and one that a server gives before it closes, such as DENIED, would be taken for one.
    disableClientInfo: true,
    autoResubscribe: false, // nobody would catch what becomes of it, and a connection that is lost again would end the node
    // An old primary after a failover: the connection is made anew, to the new one.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
    retryStrategy: (times) => (isStarting ? null : retryMs(times)),
  };
  const make = (enableOfflineQueue: boolean): Redis | Cluster => {
    const client = { ...common, enableOfflineQueue };
    if (target.kind === "cluster") {
      const { db, lazyConnect, enableOfflineQueue: _, retryStrategy, ...redisOptions } = client;
      const clusterRetryStrategy = (times: number) => (isStarting ? null : retryMs(times));
      return new Cluster([...target.hosts], { redisOptions, lazyConnect: true, enableOfflineQueue, clusterRetryStrategy, slotsRefreshInterval: clusterLookMs });
    }
    if (target.kind === "sentinel") {
      const sentinelRetryStrategy = (times: number) => (isStarting ? null : retryMs(times));
      return new Redis({ ...client, sentinels: [...target.hosts], name: target.name, sentinelRetryStrategy });
    }
    return new Redis({ ...client, ...target.hosts[0] });
  };
  const client = make(false);
  const subscriber = target.kind === "cluster" ? client : make(true);
  const clients = new Set([client, subscriber]);
  // The first says why; those behind it follow from it.
  const note = (error: Error) => (problem ||= reason(error));
  let lives: Lives;
  for (const one of clients) one.on("error", note);
  try {
    await within(Promise.all([...clients].map((one) => one.connect())), connectMs);
    await within(client.call("PING"), connectMs);
    lives = await within(livesOf(client), connectMs);
  } catch (error) {
    clients.forEach(drop);
    throw new Error(problem || reason(error));
  }
  isStarting = false;
  return new RedisLink(client, subscriber, lives, options);
}

/** A cluster's client says of all its nodes together that they failed, and keeps why the last did. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { lastNodeError } = error as Error & { lastNodeError?: unknown };
  return lastNodeError instanceof Error ? `${error.message} ${lastNodeError.message}` : error.message;
}

/** Sooner at first, with some chance in it, so that not every node comes at once. */
function retryMs(times: number): number {
  return Math.min(retryMsMax, 50 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2);
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

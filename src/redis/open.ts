/** Opens the connection to Redis: to one server, to the server that Sentinels name, or to a cluster. */
import type { Cluster, ClusterOptions, Redis, RedisOptions as ClientOptions } from "ioredis";
import { RedisLink, type RedisOptions } from "./redis.ts";
import { drop, runIdsOf, type RunIds } from "./servers.ts";
import { tlsOptions } from "./tls.ts";

const retryMsMax = 1_000;
const connectMs = 5_000;
const keepAliveMs = 10_000;
/** A cluster does not announce a restarted server or a new primary, so its servers are checked at this interval. */
const clusterLookMs = 5_000;

/**
 * Connects, and resolves when Redis answers.
 * @throws TlsFileProblem, or an Error whose message says why Redis is unavailable.
 */
export async function openRedis(options: RedisOptions): Promise<RedisLink> {
  const { target, tlsCa = "" } = options;
  // Loaded only now: a node without Redis does not need it. Imported by its default export: a bundle gives a CommonJS
  // module that is loaded late no named ones.
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
    // Zero: commands under way fail when their connection is lost.
    maxRetriesPerRequest: 0,
    connectTimeout: connectMs,
    keepAlive: keepAliveMs,
    // The client ignores the answers of CLIENT SETINFO. An error such as DENIED, sent before a server closes, would
    // pass for one.
    disableClientInfo: true,
    autoResubscribe: false, // its promise has no handler: another lost connection would crash the node
    // READONLY comes from an old primary after a failover: reconnecting leads to the new one.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
    retryStrategy: (times) => (isStarting ? null : retryMs(times)),
  };
  const make = (enableOfflineQueue: boolean): Redis | Cluster => {
    const client = { ...common, enableOfflineQueue };
    if (target.kind === "cluster") {
      const { db, lazyConnect, enableOfflineQueue: _, retryStrategy, ...redisOptions } = client;
      const clusterRetryStrategy = (times: number) => (isStarting ? null : retryMs(times));
      return lookedAt(new Cluster([...target.hosts], { redisOptions, lazyConnect: true, enableOfflineQueue, clusterRetryStrategy, dnsLookup: asNamed }));
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
  // The first error is the cause; later ones follow from it.
  const note = (error: Error) => (problem ||= reason(error));
  let runIds: RunIds;
  for (const one of clients) one.on("error", note);
  try {
    await within(Promise.all([...clients].map((one) => one.connect())), connectMs);
    await within(client.call("PING"), connectMs);
    runIds = await within(runIdsOf(client), connectMs);
  } catch (error) {
    clients.forEach(drop);
    throw new Error(problem || reason(error));
  }
  isStarting = false;
  return new RedisLink(client, subscriber, runIds, options);
}

/** Not by the client's `slotsRefreshInterval`: closed during a look, the client looks for ever, and its process never ends. */
function lookedAt(cluster: Cluster): Cluster {
  const look = setInterval(() => {
    if (cluster.status === "ready") cluster.refreshSlotsCache(() => undefined);
  }, clusterLookMs);
  look.unref();
  cluster.once("end", () => clearInterval(look));
  return cluster;
}

/**
 * The client would replace a server's name by one of its addresses. A certificate names the server, not the address, and
 * the server may listen at another address of the name: Node tries all of them.
 */
const asNamed: NonNullable<ClusterOptions["dnsLookup"]> = (name, done) => done(null, name);

/** A cluster's client reports only that all its servers failed. The cause is in the last server's error. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { lastNodeError } = error as Error & { lastNodeError?: unknown };
  return lastNodeError instanceof Error ? `${error.message} ${lastNodeError.message}` : error.message;
}

/** Short at first, with a random part, so that nodes do not all reconnect at once. */
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

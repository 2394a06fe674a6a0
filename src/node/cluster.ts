/** Builds what nodes share through Redis, or, without Redis, the local counterparts. */
import type { Config } from "../config/config.ts";
import type { Logger } from "../platform/log/log.ts";
import { createMemoryPresence } from "../presence/memory.ts";
import type { Presence, PresenceEvents } from "../presence/presence.ts";
import { createRedisPresence } from "../presence/redis/redis.ts";
import { openRedis } from "../redis/open.ts";
import type { RedisLink } from "../redis/redis.ts";
import { refusedCommands } from "../redis/rights.ts";
import { readRedisTarget } from "../redis/target.ts";
import { randomId } from "../platform/ids.ts";
import { createMemoryMessages } from "../messages/memory.ts";
import type { MessageEvents, NodeMessages } from "../messages/messages.ts";
import { createRedisMessages } from "../messages/redis.ts";
import { createRedisTables } from "../placement/redis.ts";
import { createMemoryTables, type Tables } from "../placement/tables.ts";
import { createMemoryRegistry } from "../registry/memory.ts";
import { atStart, refusedAtStart, unreachable } from "./redisproblem.ts";
import { createRedisRegistry } from "../registry/redis.ts";
import type { NodeFacts, Registry, RegistryEvents } from "../registry/registry.ts";
import { createRedisSessions, type RedisSessions, type RedisSessionsOptions } from "../sessions/redis/redis.ts";
import type { NodeWebhooks } from "./webhooks.ts";
import type { SessionsHere } from "../sessions/sessions.ts";

/** @throws ConfigError where Redis cannot be reached, or rejects a command that the node needs. */
export async function connectRedis(config: Config, log: Logger): Promise<RedisLink | null> {
  const { redis: address, redisPrefix: prefix, redisTlsCa: tlsCa, redisAnswerMs: answerMs } = config;
  const target = readRedisTarget(address);
  if (target === undefined) return null;
  const redis = await openRedis({ target, tlsCa, answerMs, log }).catch((error: unknown) => {
    throw unreachable(config, error);
  });
  try {
    const refused = await atStart(config, refusedCommands(redis, prefix, randomId(9)));
    if (refused.length > 0) throw refusedAtStart(config, refused);
    return redis;
  } catch (error) {
    await redis.close();
    throw error;
  }
}

export async function openRegistry(config: Config, redis: RedisLink | null, facts: () => NodeFacts, log: Logger, events?: RegistryEvents): Promise<Registry> {
  const { nodeId: id, redisPrefix: prefix, nodeHeartbeatMs: heartbeatMs, nodeDeadMs: deadMs } = config;
  if (redis === null) return createMemoryRegistry({ id, facts });
  return atStart(config, createRedisRegistry({ redis, prefix, id, facts, heartbeatMs, deadMs, log }, {
    nodeChanged: (change) => {
      const { kind, node } = change;
      const level = kind === "down" ? "warn" : "info";
      log[level]({ peer: node.id, url: node.url }, `node ${node.id} ${saidOf[kind]}`);
      events?.nodeChanged(change);
    },
  }));
}

/** `nodeChanged` takes over the entries of a node that died or left, unless that node comes back. */
export async function openPresence(config: Config, redis: RedisLink | null, log: Logger, events: PresenceEvents, webhooks: NodeWebhooks | null): Promise<{ presence: Presence } & RegistryEvents> {
  const { presenceGraceMs: graceMs, presenceIntervalMs: intervalMs, lastSeenTtlMs, lastSeenMax } = config;
  const limits = { graceMs, intervalMs, namedUsersMax: config.presenceNamedUsersMax, namedChangesMax: config.presenceNamedChangesMax, lastSeenTtlMs };
  if (redis === null) return { presence: createMemoryPresence({ ...limits, lastSeenMax }, events, webhooks?.added), nodeChanged() {} };
  const { redisPrefix: prefix, nodeId: node, nodeHeartbeatMs: aliveMs } = config;
  const facts = webhooks && { ...webhooks.wanted, look: webhooks.look, has: webhooks.has };
  const presence = await atStart(config, createRedisPresence({ ...limits, redis, prefix, node, aliveMs, log, ...(facts && { facts }) }, events));
  if (webhooks !== null) webhooks.onTold = presence.factsTold;
  return {
    presence,
    nodeChanged({ kind, node: { id } }) {
      if (kind === "down" || kind === "left") return presence.nodeGone(id);
      presence.nodeBack(id);
      webhooks?.back(id);
    },
  };
}

/** Sessions that nodes share: the store, and the secret that signs resume tokens. */
export interface SharedSessions {
  readonly store: RedisSessions;
  readonly secret: string;
}

/** Events of the shared store, and the sessions that have a socket on this node. */
export type SessionEvents = Pick<RedisSessionsOptions, "onForgotten" | "onTaken" | "onMissed"> & {
  readonly sockets: SessionsHere;
  /** Whether other nodes use another secret than this one. */
  readonly onSecret: (differs: boolean) => void;
};

export async function openSessions(config: Config, redis: RedisLink, log: Logger, { onSecret, ...events }: SessionEvents): Promise<SharedSessions> {
  const { redisPrefix: prefix, nodeId: node, sessionTtlMs: ttlMs } = config;
  const given = { secret: config.resumeSecret, stop() {} };
  const { secret, stop } = given.secret !== "" ? given : await atStart(config, sharedSecret(redis, `${prefix}resume-secret`, log, onSecret));
  const store = createRedisSessions({ redis, prefix, node, ttlMs, log, ...events });
  return { store: { ...store, stop: async () => (stop(), store.stop()) }, secret };
}

/** The table of owners, where users have owners. */
export async function openTables(config: Config, redis: RedisLink | null): Promise<Tables> {
  if (redis === null || config.placement === "any") return createMemoryTables();
  return atStart(config, createRedisTables({ redis, prefix: config.redisPrefix, node: config.nodeId }));
}

export async function openMessages(config: Config, redis: RedisLink | null, log: Logger, events: MessageEvents): Promise<NodeMessages> {
  if (redis === null) return createMemoryMessages();
  return atStart(config, createRedisMessages({ redis, prefix: config.redisPrefix, id: config.nodeId, log }, events));
}

/**
 * The secret of all nodes. The first node creates it; a node stores it again where Redis has lost it. Where another node
 * was faster with a new one, this node cannot change its own while it runs: it says so until they agree.
 */
async function sharedSecret(redis: RedisLink, key: string, log: Logger, onDiffers: (differs: boolean) => void): Promise<{ readonly secret: string; stop(): void }> {
  const agree = async (own: string) => {
    await redis.run("set", key, own, "nx");
    return String(await redis.run("get", key));
  };
  const secret = await agree(randomId(32));
  let differed = false;
  const look = () => {
    agree(secret).then(
      (found) => {
        const differs = found !== secret;
        if (differs && !differed) log.error("resume tokens: nodes use different secrets since Redis lost the shared one, and clients cannot resume on other nodes; /api/connection-url of this node answers 503; restart this node, or set the same --resume-secret on all nodes");
        if (!differs && differed) log.info("resume tokens: nodes use the same secret again");
        onDiffers((differed = differs));
      },
      () => undefined, // unavailable, or it refuses writes: the next look repeats this
    );
  };
  redis.onUp(look);
  const timer = setInterval(look, secretLookMs).unref();
  return { secret, stop: () => clearInterval(timer) };
}

/** Redis may lose the secret without losing connections. */
const secretLookMs = 10_000;

const saidOf = { up: "is up", draining: "is draining", down: "is down: its heartbeats stopped", left: "has left" } as const;

/** Which nodes there are: from a list in the configuration, or from the Redis of the nodes, which also holds their table. */
import { ConfigError, type Config } from "../config/config.ts";
import { unreachable, atStart } from "../node/redisproblem.ts";
import { createRedisTables } from "../placement/redis.ts";
import type { Table } from "../placement/table.ts";
import type { Logger } from "../platform/log/log.ts";
import { openRedis } from "../redis/open.ts";
import { readRedisTarget } from "../redis/target.ts";
import { createRedisRegistry } from "../registry/redis.ts";
import type { RegisteredNode } from "../registry/registry.ts";
import type { ListedNode } from "./nodes.ts";

export interface Members {
  nodes(): readonly ListedNode[];
  /** The table of the nodes. Null: there is none. */
  table(): Table | null;
  /** Partitions that the nodes have, where there is no table. */
  partitions(): number;
  /** The list may be out of date. */
  readonly stale: boolean;
  onChange(listener: () => void): void;
  /** Uses another list, or another port of the nodes. */
  reload(config: MembersConfig): void;
  stop(): Promise<void>;
}

export type MembersConfig = Pick<Config, "forward" | "nodeDeadMs" | "nodeHeartbeatMs" | "nodeId" | "nodes" | "placementPartitions" | "redis">;

export function openMembers(config: Config, log: Logger): Promise<Members> {
  return config.redis === "" ? Promise.resolve(listedMembers(config)) : redisMembers(config, log);
}

function listedMembers(config: MembersConfig): Members {
  const listeners: (() => void)[] = [];
  let nodes = config.nodes.map(listedNode);
  return {
    nodes: () => nodes,
    table: () => null,
    partitions: () => config.placementPartitions,
    stale: false,
    onChange: (listener) => void listeners.push(listener),
    reload: (renewed) => {
      nodes = renewed.nodes.map(listedNode);
      for (const listener of listeners) listener();
    },
    stop: async () => undefined,
  };
}

function listedNode(text: string): ListedNode {
  const [id = "", address = ""] = text.split("=");
  const [, host = "", port] = /^(.*):(\d+)$/.exec(address) ?? [];
  return { id, host: host.replace(/^\[|\]$/g, ""), port: Number(port), state: "up", load: 0, weight: 1 };
}

/** The table is polled, besides being announced. */
const pollMs = 1_000;

/** @throws ConfigError where Redis cannot be used */
async function redisMembers(config: Config, log: Logger): Promise<Members> {
  const { redis: address, redisPrefix: prefix, redisTlsCa: tlsCa, redisAnswerMs: answerMs, nodeId: id, nodeHeartbeatMs: heartbeatMs, nodeDeadMs: deadMs } = config;
  const target = readRedisTarget(address);
  if (target === undefined) throw new ConfigError(["--redis: cannot be read"]);
  const redis = await openRedis({ target, tlsCa, answerMs, log }).catch((error: unknown) => {
    throw unreachable(config, error);
  });
  const listeners: (() => void)[] = [];
  const changed = () => listeners.forEach((listener) => listener());
  let table: Table | null = null;
  let { forward } = config;
  const adopt = (found: Table) => {
    if (table !== null && found.number < table.number) return;
    table = found;
    changed();
  };
  try {
    // It reads the list, and never announces itself: it is no node.
    const registry = await atStart(config, createRedisRegistry({ redis, prefix, id, facts: noFacts, heartbeatMs, deadMs, log }, { nodeChanged: changed }));
    const tables = await atStart(config, createRedisTables({ redis, prefix, node: id }));
    tables.onWritten(adopt);
    // While Redis is unavailable the last table stays.
    const poll = () => tables.read().then((found) => (found === null ? undefined : adopt(found)), () => undefined);
    await poll();
    const timer = setInterval(() => {
      void poll();
      changed();
    }, pollMs).unref();
    return {
      nodes: () => registry.nodes().flatMap((node) => listed(node, forward)),
      table: () => (table !== null && table.members.length > 0 && usesTable(registry.nodes()) ? table : null),
      partitions: () => registry.nodes().find(({ partitions }) => partitions !== undefined)?.partitions ?? config.placementPartitions,
      get stale() { return registry.stale; },
      onChange: (listener) => void listeners.push(listener),
      reload: (renewed) => {
        forward = renewed.forward;
        changed();
      },
      stop: async () => {
        clearInterval(timer);
        await registry.stop();
        await redis.close();
      },
    };
  } catch (error) {
    await redis.close();
    throw error;
  }
}

function noFacts(): never {
  throw new Error("a load balancer has no facts of a node");
}

/** A table that was left by nodes that now serve everybody everywhere does not count. */
function usesTable(nodes: readonly RegisteredNode[]): boolean {
  return nodes.length === 0 || nodes.some(({ placement }) => placement !== undefined && placement !== "any");
}

const nodeName = /^[a-zA-Z0-9_.-]{1,64}$/;
const hostName = /^[a-zA-Z0-9.:_%-]{1,253}$/;

/**
 * Nothing for a node without the port that is forwarded to. Any client of Redis may write to the list, and what is wrong
 * in it ends neither the load balancer nor haproxy: a name with a line break would be a line of its configuration.
 */
export function listed(node: RegisteredNode, forward: "web" | "tcp"): ListedNode[] {
  const { id, state, load, weight } = node;
  const at = forward === "web" ? { host: node.ip, port: node.port } : addressIn(node.tcpUrl ?? "");
  const isUsable = at !== null && nodeName.test(id) && hostName.test(at.host) && Number.isInteger(at.port) && at.port > 0 && at.port < 65_536;
  return isUsable ? [{ id, ...at, state, load, weight }] : [];
}

function addressIn(url: string): { host: string; port: number } | null {
  const [, host, port] = /^\w+:\/\/(\[[0-9a-fA-F:.%]+\]|[^/:\s]+):(\d{1,5})\/?$/.exec(url) ?? [];
  return host === undefined ? null : { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

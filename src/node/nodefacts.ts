/** The facts that this node publishes about itself. */
import { networkInterfaces } from "node:os";
import { performance, type EventLoopUtilization } from "node:perf_hooks";
import type { Config } from "../config/config.ts";
import type { Counters } from "../link/counters.ts";
import { at } from "./ports.ts";
import type { Setup } from "./setup.ts";
import type { NodeSettings } from "../placement/settings.ts";
import type { NodeFacts, RegisteredNode } from "../registry/registry.ts";
import { version } from "../platform/version.ts";

/** A node as programs and operators see it. The record in Redis has older field names. */
export type KnownNode = Omit<RegisteredNode, "last_heartbeat" | "holds"> & {
  /** When the node published this, by its own clock, in milliseconds since 1970. */
  readonly lastHeartbeat: number;
};

export function knownNode({ last_heartbeat: lastHeartbeat, holds: _, ...node }: RegisteredNode): KnownNode {
  return { ...node, lastHeartbeat };
}

const everyAddress = new Set(["0.0.0.0", "::"]);
/** Facts are reused for this long: a CPU share over a shorter time means nothing. */
const freshMs = 500;

/**
 * @param serving counts the reactors that take sockets.
 * @param settings those that may change while the node runs.
 * @param holds the partitions that it holds now; undefined: partitions have no holders.
 */
export function nodeFacts(config: Config, { port, tcpPort }: Pick<Setup, "port" | "tcpPort">, counters: readonly Counters[], serving: () => number, settings: () => NodeSettings, holds: () => string | undefined): () => NodeFacts {
  const { region, reactors, handshakesPerSecond, placement, placementPartitions: partitions } = config;
  const reached = (host: string) => config.nodeHost || (everyAddress.has(host) ? ownAddress() : host);
  const ip = reached(config.host);
  const secure = config.tlsCert !== "";
  const url = config.nodeUrl || `${secure ? "wss" : "ws"}://${at(ip, port)}/ws`;
  const tcpUrl = tcpPort === null ? "" : `${secure ? "tls" : "tcp"}://${at(reached(config.tcpHost || config.host), tcpPort)}`;
  const fixed = { ip, port, url, tcpUrl, region, version, handshakesPerSecond, placement, partitions, started: Date.now() };
  let cpuBefore = process.cpuUsage();
  let measuredAt = performance.now();
  // The start keeps the main thread busy, which says nothing about the work of clients.
  let hubBefore: EventLoopUtilization | null = null;
  let measured = { load: 0, cpu: 0, rss: process.memoryUsage.rss(), sockets: 0, reactors };
  return () => {
    const elapsedMs = performance.now() - measuredAt;
    const changing = { ...settings(), holds: holds() };
    if (elapsedMs < freshMs) return { ...fixed, ...changing, ...measured };
    const { user, system } = process.cpuUsage(cpuBefore);
    cpuBefore = process.cpuUsage();
    measuredAt = performance.now();
    const hub = hubBefore === null ? 0 : performance.eventLoopUtilization(hubBefore).utilization;
    hubBefore = performance.eventLoopUtilization();
    const reactorsMean = counters.reduce((sum, one) => sum + one.get("loopUtilization"), 0) / Math.max(1, counters.length);
    const load = Math.max(hub, reactorsMean);
    const sockets = counters.reduce((sum, one) => sum + one.sockets, 0);
    measured = { load: rounded(load), cpu: rounded((user + system) / 1000 / elapsedMs), rss: process.memoryUsage.rss(), sockets, reactors: serving() };
    return { ...fixed, ...changing, ...measured };
  };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** The first address that is not loopback; IPv4 before IPv6. */
function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []).filter(({ internal }) => !internal);
  const found = all.find(({ family }) => family === "IPv4") ?? all.find(({ address }) => !address.startsWith("fe80:"));
  return found?.address ?? "127.0.0.1";
}

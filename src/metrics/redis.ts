/** Metrics of the connection to Redis. Only where Redis is configured. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

export interface RedisUsage {
  readonly up: boolean;
  readonly hears: boolean;
  readonly commands: number;
  readonly failures: number;
  readonly returns: number;
  readonly exceptions: number;
}

export function addRedisMetrics(registry: Registry, usage: () => RedisUsage, writes: () => { readonly waiting: number; readonly dropped: number }): void {
  gauge(registry, "flux_sessions_writes_waiting", "Session writes that wait for Redis", [], (metric) => metric.set(writes().waiting));
  total(registry, "flux_sessions_writes_dropped_total", "Session writes dropped while Redis was unavailable or rejected them", [], (add) => add({}, writes().dropped));
  gauge(registry, "flux_redis_connected", "1 while Redis is connected, answers, and delivers messages to this node", [], (metric) => metric.set(usage().up && usage().hears ? 1 : 0));
  total(registry, "flux_redis_commands_total", "Commands sent to Redis", [], (add) => add({}, usage().commands));
  total(registry, "flux_redis_failures_total", "Commands that Redis rejected or did not answer", [], (add) => add({}, usage().failures));
  total(registry, "flux_redis_exceptions_total", "Exceptions while the node handled an answer or a message of Redis: a bug of the node, or a foreign publisher on its channels", [], (add) => add({}, usage().exceptions));
  total(registry, "flux_redis_returns_total", "Times Redis became available again", [], (add) => add({}, usage().returns));
}

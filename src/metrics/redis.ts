/** What the connection to Redis counts, as Prometheus sees it. There only where a node has one. */
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
  gauge(registry, "flux_sessions_writes_waiting", "Writes of sessions that wait to be sent to Redis", [], (metric) => metric.set(writes().waiting));
  total(registry, "flux_sessions_writes_dropped_total", "Writes of sessions that were dropped while Redis was away or refused them", [], (add) => add({}, writes().dropped));
  gauge(registry, "flux_redis_connected", "Whether Redis is connected, answers, and is heard", [], (metric) => metric.set(usage().up && usage().hears ? 1 : 0));
  total(registry, "flux_redis_commands_total", "Commands sent to Redis", [], (add) => add({}, usage().commands));
  total(registry, "flux_redis_failures_total", "Commands it refused, and times it did not answer", [], (add) => add({}, usage().failures));
  total(registry, "flux_redis_exceptions_total", "Exceptions where an answer of Redis was used, or a message on its channels; each is a mistake of the node or of who publishes there", [], (add) => add({}, usage().exceptions));
  total(registry, "flux_redis_returns_total", "Times Redis was back after it had been away", [], (add) => add({}, usage().returns));
}

/** Metrics of the SQL outbox. Only where one is configured. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

export interface OutboxUsage {
  readonly up: boolean;
  readonly published: number;
  readonly refused: number;
  readonly repeated: number;
  readonly doubled: number;
  readonly failures: number;
}

export function addOutboxMetrics(registry: Registry, usage: () => OutboxUsage): void {
  gauge(registry, "flux_outbox_connected", "1 while PostgreSQL answers this node's outbox", [], (metric) => metric.set(usage().up ? 1 : 0));
  total(registry, "flux_outbox_published_total", "Publications that this node took from the outbox and published", [], (add) => add({}, usage().published));
  total(registry, "flux_outbox_refused_total", "Publications that can never be published, now in flux.outbox_refused", [], (add) => add({}, usage().refused));
  total(registry, "flux_outbox_repeated_total", "Publications sent again with their key, because an earlier attempt had no answer", [], (add) => add({}, usage().repeated));
  total(registry, "flux_outbox_doubled_total", "Publications sent again after keyWindowMs that may have arrived before: nobody could tell", [], (add) => add({}, usage().doubled));
  total(registry, "flux_outbox_failures_total", "Attempts to read the outbox that failed and were repeated", [], (add) => add({}, usage().failures));
}

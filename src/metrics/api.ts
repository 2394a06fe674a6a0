/** What the embedding program's calls come to, as Prometheus sees it. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

export interface ApiUsage {
  readonly waiting: number;
  readonly answered: readonly { readonly call: string; readonly outcome: string; readonly count: number }[];
}

export function addApiMetrics(registry: Registry, usage: () => ApiUsage): void {
  gauge(registry, "flux_api_waiting", "Calls of the embedding program that wait for an answer", [], (metric) => metric.set(usage().waiting));
  total(registry, "flux_api_calls_total", "Answered calls of the embedding program, by outcome: ok or the code of the error", ["call", "outcome"], (add) => {
    for (const { call, outcome, count } of usage().answered) add({ call, outcome }, count);
  });
}

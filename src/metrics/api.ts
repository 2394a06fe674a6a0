/** What the embedding program's calls come to, as Prometheus sees it. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

export interface ApiUsage {
  readonly waiting: number;
  readonly streams: number;
  readonly streamBytes: number;
  readonly answered: readonly { readonly call: string; readonly outcome: string; readonly count: number }[];
}

export function addApiMetrics(registry: Registry, usage: () => ApiUsage): void {
  gauge(registry, "flux_api_waiting", "Calls of the embedding program that wait for an answer", [], (metric) => metric.set(usage().waiting));
  gauge(registry, "flux_api_streams", "Rooms that the embedding program follows, counted per stream", [], (metric) => metric.set(usage().streams));
  gauge(registry, "flux_api_stream_bytes", "Bytes of payloads that wait in the queues of all streams", [], (metric) => metric.set(usage().streamBytes));
  total(registry, "flux_api_calls_total", "Answered calls of the embedding program, by outcome: ok or the code of the error", ["call", "outcome"], (add) => {
    for (const { call, outcome, count } of usage().answered) add({ call, outcome }, count);
  });
}

/** What requests to the HTTP API come to, as Prometheus sees it. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

export interface HttpUsage {
  readonly waiting: number;
  readonly streams: number;
  readonly answered: readonly { readonly call: string; readonly code: string; readonly count: number }[];
}

export function addHttpMetrics(registry: Registry, usage: () => HttpUsage): void {
  gauge(registry, "flux_http_waiting", "Requests to the HTTP API that wait for an answer", [], (metric) => metric.set(usage().waiting));
  gauge(registry, "flux_http_streams", "Rooms that requests to the HTTP API follow, counted per stream", [], (metric) => metric.set(usage().streams));
  total(registry, "flux_http_requests_total", "Answered requests to the HTTP API, by call and code: ok or the code of the error. docs and openapi are the page and the description of the calls. The call is none where the path has none", ["call", "code"], (add) => {
    for (const { call, code, count } of usage().answered) add({ call, code }, count);
  });
}

/** Of requests that came over HTTP, and of those over NATS. */
export function sumOf(one: HttpUsage, other: HttpUsage): HttpUsage {
  return { waiting: one.waiting + other.waiting, streams: one.streams + other.streams, answered: [...one.answered, ...other.answered] };
}

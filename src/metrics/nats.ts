/** Metrics of the connection to NATS. Only where NATS is configured. */
import type { Registry } from "prom-client";
import type { ConnectionUsage } from "../broker/broker.ts";
import { gauge, total } from "./metrics.ts";

export function addNatsMetrics(registry: Registry, usage: () => ConnectionUsage): void {
  gauge(registry, "flux_nats_connected", "1 while NATS is connected and answers", [], (metric) => metric.set(usage().away ? 0 : 1));
  gauge(registry, "flux_nats_pending_acks", "Publications that NATS has not acknowledged yet", [], (metric) => metric.set(usage().waiting));
  gauge(registry, "flux_nats_pending_bytes", "Bytes of publications that NATS has not acknowledged yet", [], (metric) => metric.set(usage().waitingBytes));
  total(registry, "flux_nats_reconnects_total", "Reconnects to NATS", [], (add) => add({}, usage().reconnects));
  total(registry, "flux_nats_timeouts_total", "Publications that NATS did not acknowledge within natsTimeoutMs", [], (add) => add({}, usage().timeouts));
  total(registry, "flux_nats_gap_publications_total", "Publications that were read from a stream because their copy did not arrive", [], (add) => add({}, usage().filled));
  total(registry, "flux_nats_reads_total", "Reads of streams, for gaps, recovery and history", [], (add) => add({}, usage().reads));
  total(registry, "flux_nats_undeliverable_total", "Messages for open rooms that are too large for this node or not readable", [], (add) => add({}, usage().undeliverable));
  gauge(registry, "flux_nats_unheard_rooms", "Open rooms whose subject NATS does not let this node subscribe to; the node retries", [], (metric) => metric.set(usage().unheard));
  total(registry, "flux_nats_stream_restarts_total", "Streams that lost what they kept, or its end, and began a new epoch: members got gaps", [], (add) => add({}, usage().restarts));
  total(registry, "flux_nats_refused_total", "Publications and subscriptions that NATS rejected, by reason", ["reason"], (add) => {
    for (const [reason, count] of Object.entries(usage().refused)) add({ reason }, count);
  });
}

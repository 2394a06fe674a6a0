/** What the connection to NATS counts, as Prometheus sees it. There only where a node has one. */
import type { Registry } from "prom-client";
import type { ConnectionUsage } from "../broker/broker.ts";
import { gauge, total } from "./metrics.ts";

export function addNatsMetrics(registry: Registry, usage: () => ConnectionUsage): void {
  gauge(registry, "flux_nats_connected", "Whether NATS is there and answers", [], (metric) => metric.set(usage().away ? 0 : 1));
  gauge(registry, "flux_nats_pending_acks", "Publications that NATS has not answered yet", [], (metric) => metric.set(usage().waiting));
  gauge(registry, "flux_nats_pending_bytes", "Bytes of them", [], (metric) => metric.set(usage().waitingBytes));
  total(registry, "flux_nats_reconnects_total", "Times the connection was lost and came back", [], (add) => add({}, usage().reconnects));
  total(registry, "flux_nats_timeouts_total", "Publications that NATS did not answer in time", [], (add) => add({}, usage().timeouts));
  total(registry, "flux_nats_gap_publications_total", "Publications read from a stream because they did not arrive by themselves", [], (add) => add({}, usage().filled));
  total(registry, "flux_nats_reads_total", "Reads of streams, for gaps, recoveries and history", [], (add) => add({}, usage().reads));
  total(registry, "flux_nats_undeliverable_total", "Messages for rooms in use that are too large for this node, or not of this program", [], (add) => add({}, usage().undeliverable));
  gauge(registry, "flux_nats_unheard_rooms", "Open rooms that NATS does not let this node listen to; it is tried again", [], (metric) => metric.set(usage().unheard));
  total(registry, "flux_nats_refused_total", "Publications and subscriptions that NATS refused, by reason", ["reason"], (add) => {
    for (const [reason, count] of Object.entries(usage().refused)) add({ reason }, count);
  });
}

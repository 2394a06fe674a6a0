/** Metrics of the archive. Only where one is configured. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

export interface ArchiveUsage {
  readonly up: boolean;
  readonly streams: number;
  readonly pending: number;
  readonly lagMs: number;
  readonly rows: number;
  readonly gaps: number;
  readonly missing: number;
  readonly failures: number;
}

export function addArchiveMetrics(registry: Registry, usage: () => ArchiveUsage, lagMaxMs: number): void {
  gauge(registry, "flux_archive_connected", "1 while PostgreSQL answers this node's archiver", [], (metric) => metric.set(usage().up ? 1 : 0));
  gauge(registry, "flux_archive_streams", "Streams that this node archives. Over all nodes each stream counts once; a lower sum means that some are not archived", [], (metric) => metric.set(usage().streams));
  gauge(registry, "flux_archive_lag_seconds", "Age of the oldest publication that waits to be archived, of the streams of this node. At archiveLagMs publications are lost to the archive; alert at half of it", [], (metric) => metric.set(usage().lagMs / 1000));
  gauge(registry, "flux_archive_lag_limit_seconds", "archiveLagMs: the lag at which streams delete publications that are not archived", [], (metric) => metric.set(lagMaxMs / 1000));
  gauge(registry, "flux_archive_waiting_publications", "Publications that wait to be archived, of the streams of this node", [], (metric) => metric.set(usage().pending));
  total(registry, "flux_archive_rows_total", "Publications archived by this node", [], (add) => add({}, usage().rows));
  total(registry, "flux_archive_gaps_total", "Gaps noted by this node: publications that are missing in the archive, because their stream dropped or lost them, or because they could not be stored", [], (add) => add({}, usage().gaps));
  total(registry, "flux_archive_missing_publications_total", "Publications in these gaps, as far as their number is known", [], (add) => add({}, usage().missing));
  total(registry, "flux_archive_failures_total", "Attempts to archive that failed and were repeated", [], (add) => add({}, usage().failures));
}

/** The metrics of the placement: src/placement/. */
import type { Registry } from "prom-client";
import { gauge } from "./metrics.ts";

export interface PlacementUsage {
  readonly table: number;
  readonly owned: number;
}

export function addPlacementMetrics(registry: Registry, usage: () => PlacementUsage): void {
  gauge(registry, "flux_placement_table", "Number of the table of owners in use; 0 without one. The same on all nodes", [], (metric) => metric.set(usage().table));
  gauge(registry, "flux_placement_owned_partitions", "Partitions of users that belong on this node", [], (metric) => metric.set(usage().owned));
}

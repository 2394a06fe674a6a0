/** The metrics of the placement: src/placement/. */
import type { Registry } from "prom-client";
import { gauge } from "./metrics.ts";

export interface PlacementUsage {
  readonly table: number;
  readonly owned: number;
  readonly movesPerSecond: number;
}

export function addPlacementMetrics(registry: Registry, usage: () => PlacementUsage): void {
  gauge(registry, "flux_placement_table", "Number of the table of owners in use; 0 without one. The same on all nodes", [], (metric) => metric.set(usage().table));
  gauge(registry, "flux_placement_owned_partitions", "Partitions of users that belong on this node", [], (metric) => metric.set(usage().owned));
  gauge(registry, "flux_placement_moves_per_second", "Sessions of users of other nodes that this node may send there in a second; 0 while a node is being lost or drained, Redis or NATS is unavailable, and for placementCalmMs after", [], (metric) => metric.set(usage().movesPerSecond));
}

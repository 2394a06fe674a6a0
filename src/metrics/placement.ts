/** The metrics of the placement: src/placement/. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

export interface PlacementUsage {
  readonly table: number;
  readonly owned: number;
  readonly movesPerSecond: number;
}

/** What a node holds, where users have one holder. */
export interface HoldingUsage {
  readonly held: number;
  readonly maxPartitions: number;
  readonly unowned: number;
  readonly unownedMs: number;
  readonly leaseMs: number;
  readonly claims: number;
  readonly losses: number;
  readonly handovers: number;
  readonly backlogs: readonly { readonly partition: number; readonly messages: number; readonly ageMs: number }[];
}

/** Partitions that metrics name: those whose oldest message waits longest. */
const namedMax = 32;

export function addHoldingMetrics(registry: Registry, usage: () => HoldingUsage): void {
  gauge(registry, "flux_partitions_held", "Partitions that this node holds: it delivers the direct messages of their users", [], (metric) => metric.set(usage().held));
  gauge(registry, "flux_partitions_max", "Partitions that this node may hold (maxPartitions); 0: no limit", [], (metric) => metric.set(usage().maxPartitions));
  gauge(registry, "flux_partitions_unowned", "Partitions that no node holds or claims, as far as this node knows: their users wait. The same on all nodes", [], (metric) => metric.set(usage().unowned));
  gauge(registry, "flux_partitions_unowned_seconds", "For how long no node has held the partition that waits longest", [], (metric) => metric.set(usage().unownedMs / 1000));
  gauge(registry, "flux_partition_lease_seconds", "For how long this node has had its lease; 0: it has none, and delivers no direct messages", [], (metric) => metric.set(usage().leaseMs / 1000));
  total(registry, "flux_partition_claims_total", "Times that this node came to hold a partition", [], (add) => add({}, usage().claims));
  total(registry, "flux_partition_losses_total", "Times that this node stopped serving a partition without having handed it over: its lease ended, NATS was unavailable, or another node claimed it", [], (add) => add({}, usage().losses));
  total(registry, "flux_partition_handovers_total", "Partitions that this node handed over to another one", [], (add) => add({}, usage().handovers));
  gauge(registry, "flux_partition_backlog_messages", "Direct messages in the queues of partitions that were not handed to sessions yet: of those that this node holds, on the first node also of those that nobody holds. At most 32 partitions are named, those with the oldest messages; `other` is the rest", ["partition"], (metric) => {
    const { backlogs } = usage();
    metric.reset();
    for (const { partition, messages } of backlogs.slice(0, namedMax)) metric.set({ partition: String(partition) }, messages);
    metric.set({ partition: "other" }, backlogs.slice(namedMax).reduce((sum, { messages }) => sum + messages, 0));
  });
  gauge(registry, "flux_partition_backlog_seconds", "Age of the oldest direct message in a queue, for the same partitions", ["partition"], (metric) => {
    const { backlogs } = usage();
    metric.reset();
    for (const { partition, ageMs } of backlogs.slice(0, namedMax)) metric.set({ partition: String(partition) }, ageMs / 1000);
    metric.set({ partition: "other" }, Math.max(0, ...backlogs.slice(namedMax).map((one) => one.ageMs)) / 1000);
  });
}

export function addPlacementMetrics(registry: Registry, usage: () => PlacementUsage): void {
  gauge(registry, "flux_placement_table", "Number of the table of owners in use; 0 without one. The same on all nodes", [], (metric) => metric.set(usage().table));
  gauge(registry, "flux_placement_owned_partitions", "Partitions of users that belong on this node", [], (metric) => metric.set(usage().owned));
  gauge(registry, "flux_placement_moves_per_second", "Sessions of users of other nodes that this node may send there in a second; 0 while a node is being lost or drained, Redis or NATS is unavailable, and for placementCalmMs after", [], (metric) => metric.set(usage().movesPerSecond));
}

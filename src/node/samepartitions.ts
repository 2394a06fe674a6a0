/** Checks at start that all nodes divide the users alike. Otherwise they would send users to and fro. */
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, type Config } from "../config/config.ts";
import type { RegisteredNode } from "../registry/registry.ts";

const lookMs = 50;

/**
 * A node that has just crashed is still listed. So a node with another number counts only once it has been heard again.
 * @throws ConfigError
 */
export async function checkPartitions({ placement, placementPartitions, nodeId }: Config, nodes: () => readonly RegisteredNode[]): Promise<void> {
  if (placement === "any") return;
  const others = () => nodes().filter(({ id, state, placement: theirs, partitions }) => id !== nodeId && state !== "down" && theirs === placement && partitions !== placementPartitions);
  const first = new Map(others().map((node) => [node.id, node.last_heartbeat]));
  for (let left = others(); left.length > 0; left = others()) {
    const alive = left.find(({ id, last_heartbeat: beat }) => first.get(id) !== beat);
    if (alive !== undefined) throw new ConfigError([problemWith(alive, placementPartitions)]);
    await sleep(lookMs);
  }
}

function problemWith({ id, partitions }: RegisteredNode, own: number): string {
  return `--placement-partitions ${own}: node ${id} uses ${partitions ?? "none"}, and a user would belong on different nodes; set the same number on all nodes, or stop all of them to change it`;
}

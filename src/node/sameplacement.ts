/**
 * Checks at start that all nodes place users alike. Otherwise they would send users to and fro, and with
 * `--placement partition` two nodes would deliver to one user.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, type Config } from "../config/config.ts";
import type { RegisteredNode } from "../registry/registry.ts";

const lookMs = 50;

/**
 * A node that has just crashed is still listed. So a node that places otherwise counts only once it has been heard
 * again. @throws ConfigError
 */
export async function checkPlacement(config: Config, nodes: () => readonly RegisteredNode[]): Promise<void> {
  const others = () => nodes().filter((node) => node.id !== config.nodeId && node.state !== "down" && problemWith(node, config) !== null);
  const first = new Map(others().map((node) => [node.id, node.last_heartbeat]));
  for (let left = others(); left.length > 0; left = others()) {
    const alive = left.find(({ id, last_heartbeat: beat }) => first.get(id) !== beat);
    if (alive !== undefined) throw new ConfigError([problemWith(alive, config)!]);
    await sleep(lookMs);
  }
}

/** Null: there is none. Nodes may have `any` and `hash` at the same time, while an operator changes one into the other. */
function problemWith({ id, placement = "any", partitions }: RegisteredNode, own: Config): string | null {
  if ((placement === "partition") !== (own.placement === "partition")) {
    return `--placement ${own.placement}: node ${id} uses ${placement}, and direct messages are stored in other streams with partition; use ${placement}, or stop all nodes to change it`;
  }
  if (own.placement === "any" || placement !== own.placement || partitions === own.placementPartitions) return null;
  return `--placement-partitions ${own.placementPartitions}: node ${id} uses ${partitions ?? "none"}, and a user would belong on different nodes; set the same number on all nodes, or stop all of them to change it`;
}

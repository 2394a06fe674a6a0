/**
 * Nodes report the partitions that they hold with their heartbeats, by way of Redis. A node that has no lease may hear
 * of no claim in NATS, as when its NATS server is cut off from the others. It sends the users of a partition to the node
 * that reports it. Otherwise their sessions would stay, and would be given nothing.
 *
 * A report is a hint, like every direction to a client: the node there knows better, and may send the client on.
 */
import type { RegisteredNode } from "../registry/registry.ts";

/** For a heartbeat: a bit for each partition, in base64url. @param claims by partition; 0: not held */
export function reportOfHeld(claims: ArrayLike<number>): string {
  const bits = Buffer.alloc(Math.ceil(claims.length / 8));
  for (let i = 0; i < claims.length; i++) if (claims[i] !== 0) bits[i >> 3]! |= 1 << (i & 7);
  return bits.toString("base64url");
}

/** Calls `assign` for each partition that another node reports. @param freshMs reports that are older do not count */
export function readHeldElsewhere(nodes: readonly RegisteredNode[], self: string, partitions: number, freshMs: number, assign: (partition: number, owner: string) => void): void {
  for (const { id, state, silentMs, holds = "" } of nodes) {
    if (id === self || state !== "up" || silentMs >= freshMs || holds === "") continue;
    const bits = Buffer.from(holds, "base64url");
    for (let i = 0; i < partitions; i++) if (((bits[i >> 3] ?? 0) >> (i & 7)) & 1) assign(i, id);
  }
}

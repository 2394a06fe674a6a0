/**
 * What this reactor may deliver from inboxes, where each partition of users has one holder (placement/leases/). The
 * main thread may be stalled while its lease ends. So the reactor looks at the gate before each delivery.
 *
 * Each time that this node comes to hold a partition is another claim. The hub writes the claim into the ring. What
 * lies before it in the ring was accepted under an earlier claim, and is not delivered under this one.
 */
import { Gate } from "../../placement/leases/gate.ts";
import { xxh32 } from "../../placement/hash.ts";
import { inboxName, roomKey } from "../../protocol/roomkeys.ts";
import type { Grant } from "../../auth/grants.ts";

/** A room that no partition restricts. */
export const noPartition = -1;

export class Holdings {
  readonly #gate: Gate | null;
  readonly #claims: Uint32Array;

  /** @param gate null where users have no holder. */
  constructor(gate: SharedArrayBuffer | null, partitions: number) {
    this.#gate = gate === null ? null : new Gate(gate, partitions);
    this.#claims = new Uint32Array(partitions);
  }

  /** From here on in the ring, deliveries are of this claim. */
  claimed(partition: number, claim: number): void {
    this.#claims[partition] = claim;
  }

  /** Whether a delivery for the partition may begin now. */
  allows(partition: number): boolean {
    return partition === noPartition || this.#gate === null || this.#gate.allows(partition, this.#claims[partition]!);
  }

  /** The partition of a user's room, where only the partition's holder delivers it. */
  partitionOf({ tenant, user }: Grant, room: string): number {
    return this.#gate === null || room !== inboxName ? noPartition : xxh32(roomKey(tenant, user)) % this.#claims.length;
  }
}

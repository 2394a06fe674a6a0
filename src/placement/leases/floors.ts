/**
 * Records how far this node has delivered, in the assignments of the partitions that it holds. Consumers know it more
 * exactly, but only in the memory of the servers. When they are gone, the next claim goes on from the record, and what was
 * delivered since comes again.
 *
 * Only a record of this node's own claim is written over. So a floor that arrives late changes nobody else's.
 */
import type { Assignments } from "./assignments.ts";
import type { Bucket } from "./bucket.ts";
import type { Holding } from "./holding.ts";
import type { Lease } from "./lease.ts";
import { floorMs, type QueuedMessage } from "./leases.ts";
import { assignmentKey, isHeldBy, writeRecord } from "./records.ts";
import type { Timers } from "./timers.ts";

export interface FloorsParts {
  readonly node: string;
  readonly lease: Lease;
  readonly bucket: Bucket;
  readonly assignments: Assignments;
  readonly timers: Timers;
}

/** Writes at once: others wait for their answers, too. */
const writesMax = 16;

export class Floors {
  readonly #parts: FloorsParts;
  #writing = 0;
  /** Those whose record is the oldest come first. */
  #due: Holding<QueuedMessage>[] = [];

  constructor(parts: FloorsParts) {
    this.#parts = parts;
  }

  /** Writes those that are due. Call it now and then. */
  look(holdings: Iterable<Holding<QueuedMessage>>): void {
    this.#due = [...holdings].filter((holding) => this.#isDue(holding)).sort((a, b) => a.recordedAt - b.recordedAt);
    this.#next();
  }

  #isDue({ isLeaving, floor, recordedFloor, recordedAt }: Holding<QueuedMessage>): boolean {
    return !isLeaving && floor !== recordedFloor && this.#parts.timers.now() - recordedAt >= floorMs;
  }

  #next(): void {
    while (this.#writing < writesMax) {
      const holding = this.#due.shift();
      if (holding === undefined) return;
      if (this.#isDue(holding)) void this.#write(holding);
    }
  }

  async #write(holding: Holding<QueuedMessage>): Promise<void> {
    const { node, lease, bucket, assignments, timers } = this.#parts;
    const { floor, claimed: { partition, boot, epoch, stream } } = holding;
    const known = assignments.get(partition);
    // Also where the answer is never heard: the next try is as long after this one.
    holding.recordedAt = timers.now();
    if (lease.boot !== boot || !isHeldBy(known?.record, node, boot, epoch)) return;
    const [key, value] = [assignmentKey(partition), writeRecord({ state: "held", owner: node, boot, epoch, floor, stream, next: "" })];
    this.#writing++;
    const answer = await bucket.updateHint(key, value, known!.revision);
    if (answer?.kind === "written") {
      holding.recordedFloor = floor;
      assignments.learn({ key, value, revision: answer.revision });
    } else {
      // An earlier one was stored after all, or the partition is another claim's by now.
      if (answer !== undefined) assignments.disprove(partition, known!.revision);
      const found = await bucket.readHint(key);
      if (found) assignments.learn(found);
    }
    this.#writing--;
    this.#next();
  }
}

/**
 * Claims a partition, in this order: claim → look at the buckets, and at the floors → own consumer → confirm.
 * Between any two steps the node may be frozen, cut off or replaced. Then one of its writes fails, and it gives up.
 *
 * Consumers of lower epochs are deleted after that, while the node delivers already: users wait for every step before.
 *
 * A claimant that gives up leaves its consumer, which the next claimant deletes.
 */
import type { Asking } from "./asking.ts";
import type { Assignments } from "./assignments.ts";
import type { Bucket } from "./bucket.ts";
import type { Lease } from "./lease.ts";
import type { PartitionQueue, PartitionState, QueuedMessage } from "./leases.ts";
import { assignmentKey, epochOf, writeRecord, type Assignment } from "./records.ts";

export interface ClaimParts {
  readonly node: string;
  readonly lease: Lease;
  readonly leases: Bucket;
  readonly bucket: Bucket;
  readonly assignments: Assignments;
  readonly queue: PartitionQueue<QueuedMessage>;
  readonly asking: Asking;
}

/** A confirmed claim. */
export interface Claimed {
  readonly partition: number;
  readonly boot: string;
  readonly epoch: number;
  readonly floor: number;
  readonly stream: string;
  readonly revision: number;
}

/** Times that a step is tried. After that the claim is given up, and begins again at the node's next look. */
const triesMax = 4;

/** @param wasOwn it is what this process held: it may be claimed in a young bucket, too */
export async function claim(parts: ClaimParts, partition: number, wasOwn: boolean): Promise<Claimed | null> {
  const { lease } = parts;
  const boot = lease.boot;
  const isAlive = () => lease.boot === boot;
  if (boot === "") return null;
  const one = new Claim(parts, partition, boot);
  if (!(await one.claim()) || !isAlive()) return null;
  const [isSame, floor] = await Promise.all([one.sameBuckets(wasOwn), one.floor()]);
  if (!isSame || floor === null || !isAlive()) return null;
  if (!(await one.consumer(floor)) || !isAlive()) return null;
  const claimed = await one.confirm(floor);
  if (claimed === null || !isAlive()) return null;
  // The next claimant deletes what is left.
  void one.deleteLower();
  return claimed;
}

class Claim {
  readonly #parts: ClaimParts;
  readonly #partition: number;
  readonly #boot: string;
  #record: Assignment | null = null;
  #revision = 0;
  #epoch = 0;

  constructor(parts: ClaimParts, partition: number, boot: string) {
    this.#parts = parts;
    this.#partition = partition;
    this.#boot = boot;
  }

  /** Claims over the record that this node knows. */
  async claim(): Promise<boolean> {
    const known = this.#parts.assignments.get(this.#partition);
    if (known?.record === null) return false;
    const before = known?.record;
    const epoch = before ? epochOf(before, known!.revision) : 0;
    return this.#claimOver(known?.revision ?? 0, epoch, before);
  }

  /** @param epoch the highest before */
  async #claimOver(revision: number, epoch: number, before: Assignment | undefined | null): Promise<boolean> {
    const { node } = this.#parts;
    this.#record = { state: "claimed", owner: node, boot: this.#boot, epoch, floor: before?.floor ?? 0, stream: before?.stream ?? "", next: "" };
    const written = await this.#write(this.#record, revision);
    if (written === null) return false;
    this.#revision = written;
    this.#epoch = epochOf(this.#record, written);
    return true;
  }

  /** Whether the claim, and the proof before it, are in the buckets that the node knew. */
  async sameBuckets(wasOwn: boolean): Promise<boolean> {
    const { leases, bucket } = this.#parts;
    const looks = [leases.look(), bucket.look()];
    for (const look of looks) if (!(await look)) return false;
    return wasOwn || !(leases.isYoung || bucket.isYoung);
  }

  /** From where to deliver: the highest floor of lower epochs, the record's included. Null: the claim is given up. */
  async floor(): Promise<number | null> {
    const { queue } = this.#parts;
    for (let i = 0; i < triesMax; i++) {
      const state = await this.#ask(() => queue.state(this.#partition));
      if (state === undefined) return null;
      const highest = Math.max(0, ...state.consumers.map(({ epoch }) => epoch));
      if (highest < this.#epoch) return this.#floorOf(state);
      // Another claim came later, or the records were set back and count again from a lower revision. A write decides.
      if (!(await this.#claimOver(this.#revision, highest, this.#record))) return null;
    }
    return null;
  }

  #floorOf({ stream, last, consumers }: PartitionState): number {
    const record = this.#record!;
    // Sequences of another life of the stream mean nothing.
    const recorded = record.stream === stream ? record.floor : 0;
    this.#record = { ...record, stream };
    return Math.min(last, Math.max(recorded, ...consumers.map(({ floor }) => floor)));
  }

  async consumer(floor: number): Promise<boolean> {
    const { queue } = this.#parts;
    return (await this.#ask(() => queue.createConsumer(this.#partition, this.#epoch, floor).then(() => true))) ?? false;
  }

  async deleteLower(): Promise<boolean> {
    const { queue } = this.#parts;
    return (await this.#ask(() => queue.deleteConsumersBelow(this.#partition, this.#epoch).then(() => true))) ?? false;
  }

  /** The second write. From its answer on the node may deliver. */
  async confirm(floor: number): Promise<Claimed | null> {
    const { stream } = this.#record!;
    this.#record = { ...this.#record!, state: "held", epoch: this.#epoch, floor };
    const revision = await this.#write(this.#record, this.#revision);
    if (revision === null) return null;
    return { partition: this.#partition, boot: this.#boot, epoch: this.#epoch, floor, stream, revision };
  }

  /**
   * Writes over a revision. An unanswered write may have been stored: it is repeated from the revision that is read
   * then, where the record there is this claim's own. Only an answered write counts.
   */
  async #write(record: Assignment, over: number): Promise<number | null> {
    const { bucket, assignments, lease } = this.#parts;
    const [key, value] = [assignmentKey(this.#partition), writeRecord(record)];
    let revision = over;
    for (let i = 0; i < triesMax && lease.boot === this.#boot; i++) {
      const answer = await (revision === 0 ? bucket.create(key, value) : bucket.update(key, value, revision));
      if (answer?.kind === "written") {
        assignments.learn({ key, value, revision: answer.revision });
        return answer.revision;
      }
      if (answer !== undefined) assignments.disprove(this.#partition, revision);
      const found = await bucket.read(key);
      if (found) assignments.learn(found);
      if (found === undefined) continue;
      const isUnchanged = (found?.revision ?? 0) === revision;
      if (isUnchanged && answer === undefined) continue;
      if (isUnchanged || found?.value !== value) return null;
      revision = found.revision;
    }
    return null;
  }

  async #ask<T>(call: () => Promise<T>): Promise<T | undefined> {
    for (let i = 0; i < triesMax && this.#parts.lease.boot === this.#boot; i++) {
      const answer = await this.#parts.asking.ask(call);
      if (answer !== undefined) return answer;
    }
    return undefined;
  }
}

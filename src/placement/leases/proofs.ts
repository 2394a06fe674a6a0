/**
 * Which boot ids of other nodes have ended, proven. The proof is a tombstone: it can be created only where no lease is,
 * and a node whose lease is gone has stopped before. That no lease was read proves nothing: reads may be old.
 */
import type { Bucket } from "./bucket.ts";
import { leaseMs, type StoredRecord } from "./leases.ts";
import { endedMax, leaseKey, nodeOfKey, readLease, writeRecord, type Tombstone } from "./records.ts";
import type { Timers } from "./timers.ts";

/** Boot ids remembered as ended. One that was evicted is proven again. */
const rememberedMax = 10_000;
/** A lease that was not renewed for so long may be gone: it is worth trying. */
const silentMs = leaseMs - 3_000;

interface Sighting {
  readonly revision: number;
  /** When it was seen. */
  readonly at: number;
  readonly isLease: boolean;
}

export class Proofs {
  readonly #node: string;
  readonly #leases: Bucket;
  readonly #timers: Timers;
  readonly #onProven: () => void;
  #ended = new Map<string, number>();
  #seen = new Map<string, Sighting>();
  readonly #trying = new Set<string>();
  #generation = 0;

  constructor(node: string, leases: Bucket, timers: Timers, onProven: () => void) {
    this.#node = node;
    this.#leases = leases;
    this.#timers = timers;
    this.#onProven = onProven;
  }

  /** Since when this node has the proof. Undefined: it has none. */
  endedAt(boot: string): number | undefined {
    return this.#ended.get(boot);
  }

  /** A record of the leases, read or watched. */
  learn({ key, value, revision }: StoredRecord): void {
    const node = nodeOfKey(key);
    if (node === "" || (this.#seen.get(node)?.revision ?? 0) >= revision) return;
    const record = readLease(value);
    this.#seen.set(node, { revision, at: this.#timers.now(), isLease: record?.kind === "lease" });
    // In a bucket that was just made again, tombstones may be of those who had not noticed.
    if (record?.kind === "tombstone" && !this.#leases.isYoung) this.#note(record.ended);
  }

  /** The lease of this node was seen lately. */
  isAlive(node: string): boolean {
    const seen = this.#seen.get(node);
    return seen !== undefined && seen.isLease && this.#timers.now() - seen.at < silentMs;
  }

  /** See assignments.ts. */
  forgetAbove(revision: number, learnedBefore: number): void {
    for (const [node, seen] of this.#seen) if (seen.revision > revision && seen.at < learnedBefore) this.#seen.delete(node);
  }

  /** Everything that was known is void. */
  reset(): void {
    this.#generation++;
    this.#ended = new Map();
    this.#seen = new Map();
  }

  /**
   * Tries to prove that these boot ids of a node have ended. They MUST have been read from assignments before: their
   * leases are then older than the tombstone. It does not matter whether the node lives, nor whether it ever did.
   */
  async prove(node: string, boots: readonly string[]): Promise<void> {
    if (this.#trying.has(node) || this.#leases.isYoung) return;
    this.#trying.add(node);
    const generation = this.#generation;
    const ended = boots.slice(0, endedMax);
    const tombstone: Tombstone = { kind: "tombstone", ended, by: this.#node };
    const answer = await this.#leases.create(leaseKey(node), writeRecord(tombstone));
    if (answer?.kind === "written" && generation === this.#generation) this.#note(ended);
    // Somebody's lease or tombstone is there. What is read of a tombstone is true.
    if (answer?.kind === "conflict") await this.#read(node, generation);
    this.#trying.delete(node);
  }

  async #read(node: string, generation: number): Promise<void> {
    const found = await this.#leases.read(leaseKey(node));
    if (found && generation === this.#generation) this.learn(found);
  }

  #note(boots: readonly string[]): void {
    const fresh = boots.filter((boot) => !this.#ended.has(boot));
    if (fresh.length === 0) return;
    for (const boot of fresh) this.#ended.set(boot, this.#timers.now());
    for (const oldest of this.#ended.keys()) {
      if (this.#ended.size <= rememberedMax) break;
      this.#ended.delete(oldest);
    }
    this.#onProven();
  }
}

/** The assignments as this node knows them: what it read, watched and wrote. They may be old: a write decides. */
import type { StoredRecord } from "./leases.ts";
import { isHeldBy, partitionOfKey, readAssignment, type Assignment } from "./records.ts";
import type { Timers } from "./timers.ts";

export interface KnownAssignment {
  readonly revision: number;
  /** Null: it cannot be read, and nobody acts on it. */
  readonly record: Assignment | null;
  /** When this node learned of this revision. */
  readonly at: number;
}

export class Assignments {
  readonly #timers: Timers;
  readonly #onChanged: (partition: number, known: KnownAssignment) => void;
  #known: (KnownAssignment | undefined)[];
  /** When this node began to look at the partitions that have no record. */
  #since: number;
  #counts: Map<string, number> | null = null;

  constructor(partitions: number, timers: Timers, onChanged: (partition: number, known: KnownAssignment) => void) {
    this.#timers = timers;
    this.#onChanged = onChanged;
    this.#known = Array.from({ length: partitions });
    this.#since = timers.now();
  }

  get(partition: number): KnownAssignment | undefined {
    return this.#known[partition];
  }

  get since(): number {
    return this.#since;
  }

  /** Of two revisions the higher one is newer. */
  learn({ key, value, revision }: StoredRecord): void {
    const partition = partitionOfKey(key);
    if (partition < 0 || partition >= this.#known.length || revision <= (this.#known[partition]?.revision ?? 0)) return;
    const before = this.#known[partition];
    const known = { revision, record: readAssignment(value), at: this.#timers.now() };
    this.#known[partition] = known;
    // Its holder has recorded how far it is: nobody has to act on that.
    if (before?.record && before.record.state === "held" && isHeldBy(known.record, before.record.owner, before.record.boot, before.record.epoch)) return;
    this.#counts = null;
    this.#onChanged(partition, known);
  }

  /**
   * A write over this revision was refused: it is not the newest. Where it is what this node knows, the bucket was set
   * back unnoticed, and what is read has a lower revision.
   */
  disprove(partition: number, revision: number): void {
    if (this.#known[partition]?.revision !== revision) return;
    this.#known[partition] = undefined;
    this.#counts = null;
  }

  /** Partitions that a node has, or claims. */
  countOf(node: string): number {
    this.#counts ??= this.#count();
    return this.#counts.get(node) ?? 0;
  }

  /** Boot ids of a node that are named in records. */
  bootsOf(node: string): string[] {
    const boots = new Set<string>();
    for (const known of this.#known) if (known?.record?.owner === node && known.record.state !== "released") boots.add(known.record.boot);
    return [...boots];
  }

  /** A watch may tell late of a bucket that is gone. Its revisions would hide those of the new one. */
  forgetAbove(revision: number, learnedBefore: number): void {
    this.#known.forEach((known, partition) => {
      if (known === undefined || known.revision <= revision || known.at >= learnedBefore) return;
      this.#known[partition] = undefined;
      this.#counts = null;
    });
  }

  reset(): void {
    this.#known = Array.from({ length: this.#known.length });
    this.#since = this.#timers.now();
    this.#counts = null;
  }

  #count(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const known of this.#known) {
      if (known?.record && known.record.state !== "released") counts.set(known.record.owner, (counts.get(known.record.owner) ?? 0) + 1);
    }
    return counts;
  }
}

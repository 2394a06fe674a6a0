/** The two kinds of records, as they are stored. What cannot be read is null: nobody acts on it. */
import * as z from "zod";

/**
 * `node.<id>`. A lease names the boot id that lives; a tombstone the one that has ended. A tombstone stays true: a boot
 * id that ended is never used again. So its reader has the proof as well as its writer.
 */
export interface LeaseRecord {
  readonly kind: "lease" | "tombstone";
  readonly boot: string;
  /** Node that wrote a tombstone: for people. */
  readonly by: string;
}

/**
 * `p.<n>`, changed by `update(revision)` only.
 * - claimed: `owner` prepares to deliver, and does not yet. Clients may be sent to it: it answers them within 2 s.
 * - held: `owner` delivers, while the lease of `boot` lasts.
 * - released: nobody delivers. `owner` and `boot` had it last; `next` should claim it ("" for anybody).
 */
export interface Assignment {
  readonly state: "claimed" | "held" | "released";
  readonly owner: string;
  readonly boot: string;
  /**
   * Orders the claims of a partition and names their consumers. The revision of the claim, or one more than the highest
   * epoch that is known, where that is more (a bucket was set back). While claimed: that of the claim before.
   */
  readonly epoch: number;
  /** All messages up to this sequence of this life of the stream were delivered. */
  readonly floor: number;
  readonly stream: string;
  readonly next: string;
}

const id = z.string().max(64);
const count = z.int().min(0);
const leaseShape = z.object({ kind: z.enum(["lease", "tombstone"]), boot: id, by: id });
const assignmentShape = z.object({
  state: z.enum(["claimed", "held", "released"]), owner: id, boot: id, epoch: count, floor: count, stream: z.string().max(128), next: id,
});

export const leaseKey = (node: string) => `node.${node}`;
export const assignmentKey = (partition: number) => `p.${partition}`;

/** -1: the key is of no partition. */
export function partitionOfKey(key: string): number {
  return /^p\.(0|[1-9]\d{0,4})$/.test(key) ? Number(key.slice(2)) : -1;
}

/** "": the key is of no node. */
export function nodeOfKey(key: string): string {
  return key.startsWith("node.") ? key.slice(5) : "";
}

export function writeRecord(record: LeaseRecord | Assignment): string {
  return JSON.stringify(record);
}

export function readLease(text: string): LeaseRecord | null {
  return leaseShape.safeParse(json(text)).data ?? null;
}

export function readAssignment(text: string): Assignment | null {
  return assignmentShape.safeParse(json(text)).data ?? null;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The two kinds of records, as they are stored. What cannot be read is null: nobody acts on it. */
import * as z from "zod";

/** `node.<id>` while the node lives: the boot id that holds. A boot id is used once: it never comes back. */
export interface LiveLease {
  readonly kind: "lease";
  readonly boot: string;
}

/**
 * `node.<id>` after the lease has lapsed: boot ids of that node that have ended. It stays true. So its reader has the
 * proof as well as its writer, also when the tombstone itself has expired.
 */
export interface Tombstone {
  readonly kind: "tombstone";
  readonly ended: readonly string[];
  /** Node that wrote it: for people. */
  readonly by: string;
}

export type LeaseRecord = LiveLease | Tombstone;

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
   * Orders the claims of a partition and names their consumers. While claimed: the highest epoch before this claim.
   * `epochOf` is the claim's own.
   */
  readonly epoch: number;
  /** All messages up to this sequence of this life of the stream were delivered. */
  readonly floor: number;
  readonly stream: string;
  readonly next: string;
}

/** Boot ids in a tombstone. The others get one of their own when it has expired. */
export const endedMax = 16;

const id = z.string().max(64);
const count = z.int().min(0);
const leaseShape = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("lease"), boot: id }),
  z.object({ kind: z.literal("tombstone"), ended: z.array(id).max(endedMax), by: id }),
]);
const assignmentShape = z.object({
  state: z.enum(["claimed", "held", "released"]), owner: id, boot: id, epoch: count, floor: count, stream: z.string().max(128), next: id,
});

export const leaseKey = (node: string) => `node.${node}`;
export const assignmentKey = (partition: number) => `p.${partition}`;

/**
 * The epoch of the claim that this record is of. The revision of the claim's write, or one more than the epochs before,
 * where that is more: a bucket that was wiped or set back counts from a lower revision.
 */
export function epochOf({ state, epoch }: Assignment, revision: number): number {
  return state === "claimed" ? Math.max(revision, epoch + 1) : epoch;
}

/** The record is what the holder of this claim writes. Nobody else has written since. */
export function isHeldBy(record: Assignment | null | undefined, owner: string, boot: string, epoch: number): boolean {
  return record?.state === "held" && record.owner === owner && record.boot === boot && record.epoch === epoch;
}

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

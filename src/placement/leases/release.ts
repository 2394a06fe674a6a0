/**
 * Gives a partition away: nobody delivers for it from the moment that this is stored. The node MUST have stopped before.
 * Nothing else is deleted: the consumer keeps the floor until the next claimant has its own.
 */
import type { Assignments } from "./assignments.ts";
import type { Bucket } from "./bucket.ts";
import type { Lease } from "./lease.ts";
import { assignmentKey, readAssignment, writeRecord, type Assignment } from "./records.ts";
import type { Timers } from "./timers.ts";

export interface ReleaseParts {
  readonly lease: Lease;
  readonly bucket: Bucket;
  readonly assignments: Assignments;
  readonly timers: Timers;
}

const triesMax = 20;
const pauseMs = 250;

/** Ends without an answer where the lease ends: others then prove that. */
export async function release(parts: ReleaseParts, partition: number, record: Assignment, over: number): Promise<void> {
  const { lease, bucket, assignments, timers } = parts;
  const [boot, key, value] = [lease.boot, assignmentKey(partition), writeRecord({ ...record, state: "released" })];
  let revision = over;
  for (let i = 0; i < triesMax && boot !== "" && lease.boot === boot; i++) {
    const answer = await bucket.update(key, value, revision);
    if (answer?.kind === "written") return assignments.learn({ key, value, revision: answer.revision });
    if (answer !== undefined) assignments.disprove(partition, revision);
    const found = await bucket.read(key);
    if (found) assignments.learn(found);
    // It was stored by an earlier try, or the partition is another claim's by now.
    if (found === null || (found && !isClaim(readAssignment(found.value), record))) return;
    if (found && found.revision !== revision) revision = found.revision;
    else await new Promise<void>((resolve) => timers.after(pauseMs, resolve));
  }
}

/** The record is still of the claim that is given away. */
function isClaim(found: Assignment | null, { owner, boot }: Assignment): boolean {
  return found !== null && found.state !== "released" && found.owner === owner && found.boot === boot;
}

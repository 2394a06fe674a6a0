/** The table that all nodes of a gateway agree on: its members, and with them the owner of each partition. */
import * as z from "zod";
import { xxh32 } from "./hash.ts";
import { weightMax, type Member } from "./ring.ts";

export interface Table {
  /** Of two tables the one with the higher number counts. The first is 1. */
  readonly number: number;
  readonly partitions: number;
  /** Sorted by id. */
  readonly members: readonly Member[];
  /** The node that made the table, and when by its clock: for people. */
  readonly by: string;
  readonly at: number;
}

const numberMax = 2 ** 31 - 1;
const membersMax = 10_000;
const shape = z.object({
  number: z.int().min(1).max(numberMax),
  partitions: z.int().min(1).max(2 ** 16),
  members: z.array(z.object({ id: z.string().min(1).max(64), weight: z.int().min(1).max(weightMax) })).max(membersMax),
  by: z.string(),
  at: z.number(),
});

/** Null: not a table. Other software may write to the same Redis. */
export function readTable(text: string): Table | null {
  try {
    const table = shape.parse(JSON.parse(text));
    return table.members.every(({ id }, i) => i === 0 || table.members[i - 1]!.id < id) ? table : null;
  } catch {
    return null;
  }
}

/** Names what the owners depend on. Tables with the same hash have the same owners. */
export function hashOf({ partitions, members }: Pick<Table, "partitions" | "members">): string {
  const text = JSON.stringify([partitions, members.map(({ id, weight }) => [id, weight])]);
  return xxh32(text).toString(16).padStart(8, "0");
}

/** Any number that a node reports, as a weight that every node uses alike. Nodes of older releases report none. */
export function weightOf(reported: number | undefined): number {
  if (reported === undefined || Number.isNaN(reported)) return 1;
  return Math.min(weightMax, Math.max(0, Math.round(reported)));
}

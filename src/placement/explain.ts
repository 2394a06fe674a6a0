/** Says where a user belongs and why, and what would move if the nodes were others. For operators; nothing depends on it. */
import { roomKey } from "../protocol/roomkeys.ts";
import type { RegisteredNode } from "../registry/registry.ts";
import { xxh32 } from "./hash.ts";
import { ownersOf, trailOf, weightMax, type Member } from "./ring.ts";
import { hashOf, weightOf, type Table } from "./table.ts";
import type { PartitionReport } from "./leases/holderoptions.ts";
import type { PlacementMode } from "./view.ts";

/** What the answers are made from. */
export interface Known {
  readonly node: string;
  readonly mode: PlacementMode;
  readonly partitions: number;
  readonly table: Table | null;
  readonly nodes: readonly RegisteredNode[];
  readonly moves: { readonly perSecond: number; readonly problem: string };
  /** Who holds a partition. Absent: users have no holder. */
  readonly reportOf?: ((partition: number) => PartitionReport) | undefined;
}

export interface Overview {
  readonly node: string;
  readonly placement: PlacementMode;
  readonly partitions: number;
  /** The table in use on this node. Null: there is none. */
  readonly table: { readonly number: number; readonly hash: string; readonly by: string; readonly at: number } | null;
  readonly members: readonly (Member & { readonly partitions: number })[];
  /** Sessions that this node may move in a second, and why it moves none; "" where it may. */
  readonly moves: { readonly perSecond: number; readonly problem: string };
}

export function overview({ node, mode, partitions, table, moves }: Known): Overview {
  const members = table?.members ?? [];
  const counts = countsOf(members, partitions);
  return {
    node, placement: mode, partitions, moves,
    table: table && { number: table.number, hash: hashOf(table), by: table.by, at: table.at },
    members: members.map((member, i) => ({ ...member, partitions: counts[i]! })),
  };
}

export interface Explanation extends Overview {
  readonly user: string;
  readonly tenant: string;
  /** xxHash of the user with 32 bits, in hexadecimal, and the partition: its remainder. */
  readonly hash: string;
  readonly partition: number;
  /** The node that the user belongs on. Null: any. */
  readonly owner: string | null;
  /** As the registry has it now. */
  readonly ownerState: RegisteredNode["state"] | "unknown" | null;
  readonly why: string;
  /** Nodes on the ring behind the partition's place, the owner last. */
  readonly ring: readonly { readonly node: string; readonly place: string }[];
  /** With `partition`: who holds the partition, as this node knows it. */
  readonly held?: PartitionReport;
}

export function explain(known: Known, tenant: string, user: string): Explanation {
  const { mode, partitions, table, nodes } = known;
  const hash = xxh32(roomKey(tenant, user));
  const partition = hash % partitions;
  const members = table?.members ?? [];
  const trail = trailOf(members, partitions, partition);
  const ring = trail.points.map(({ place, member }) => ({ node: members[member]!.id, place: inHex(place) }));
  const byTable = ring.at(-1)?.node ?? null;
  const held = known.reportOf?.(partition);
  const owner = held === undefined ? byTable : held.owner || null;
  const ownerState = owner === null ? null : (nodes.find(({ id }) => id === owner)?.state ?? "unknown");
  return { ...overview(known), user, tenant, hash: inHex(hash), partition, owner, ownerState, why: held === undefined ? whyOf(mode, table, trail.place, ring.map(({ node }) => node)) : whyHeld(held, byTable), ring, ...(held !== undefined && { held }) };
}

function whyHeld({ owner, confirmed, epoch, next, unownedMs }: PartitionReport, byTable: string | null): string {
  const intended = byTable === null ? "the table names nobody for it" : `the table names ${byTable} for it`;
  if (owner === "") {
    const since = `no node holds the partition, for ${Math.round(unownedMs / 1000)} s`;
    return `${since}${next === "" ? "" : `; ${next} is to claim it`}; ${intended}; its users wait`;
  }
  return `${owner} ${confirmed ? "holds" : "is claiming"} the partition by its lease, epoch ${epoch}; ${intended}`;
}

function whyOf(mode: PlacementMode, table: Table | null, place: number, ring: readonly string[]): string {
  if (mode === "any") return "every node serves every user (--placement any)";
  if (table === null) return "there is no table yet, so every node serves the user";
  if (ring.length === 0) return "no node may own users (their --weight is 0, or they drain), so every node serves the user";
  const owner = ring.at(-1)!;
  const passed = ring.slice(0, -1);
  const next = `the partition stands at ${inHex(place)} on the ring`;
  if (passed.length === 0) return `${next}, and the next point is one of ${owner}`;
  return `${next}; ${passed.join(", ")} came first but own as many partitions as they may, and the next point with room is one of ${owner}`;
}

export interface Plan {
  /** Partitions that would move, of all. */
  readonly moved: number;
  readonly partitions: number;
  /** Those of them that move between nodes whose weight does not change. */
  readonly between: number;
  readonly nodes: readonly PlannedNode[];
}

export interface PlannedNode {
  readonly id: string;
  /** Weights: 0 for a node that is no member. */
  readonly weightBefore: number;
  readonly weightAfter: number;
  /** Partitions. */
  readonly before: number;
  readonly after: number;
  readonly gains: number;
  readonly loses: number;
  /** Sessions it would lose, if every partition has as many as any other. Null: their number is not known. */
  readonly sessionsLost: number | null;
}

const changesMax = 64;
const nodeName = /^[a-zA-Z0-9_.-]{1,64}$/;

/**
 * What would move if the members changed: `+gateway-4`, `-gateway-2`, `gateway-1=2`, separated by commas. Without a
 * table, the members are the nodes that are up. A text says what is wrong with the changes.
 */
export function plan({ partitions, table, nodes }: Known, changes: string): Plan | string {
  const before = table?.members ?? membersOf(nodes);
  const weights = new Map(before.map(({ id, weight }) => [id, weight]));
  const parts = changes.split(",").map((part) => part.trim()).filter((part) => part !== "");
  if (parts.length === 0 || parts.length > changesMax) return `plan: 1 to ${changesMax} changes such as +gateway-4, -gateway-2 or gateway-1=2`;
  for (const part of parts) {
    const problem = apply(weights, part);
    if (problem !== null) return `plan: ${JSON.stringify(part)}: ${problem}`;
  }
  const after = [...weights].map(([id, weight]) => ({ id, weight })).filter(({ weight }) => weight > 0).sort((a, b) => (a.id < b.id ? -1 : 1));
  return compared(before, after, partitions, nodes);
}

/** Null: applied. */
function apply(weights: Map<string, number>, change: string): string | null {
  const [, sign = "", id = "", given] = /^([+-]?)([^=]*)(?:=(.*))?$/s.exec(change) ?? [];
  if (!nodeName.test(id)) return "is no name of a node";
  if (given !== undefined && !(/^\d{1,2}$/.test(given) && Number(given) <= weightMax)) return `a weight is a whole number from 0 to ${weightMax}`;
  if (sign === "+") {
    if (weights.has(id)) return "the node is a member already; without the + its weight is changed";
    weights.set(id, Number(given ?? 1));
    return null;
  }
  if (!weights.has(id)) return `the node is no member; the members are ${[...weights.keys()].join(", ") || "none"}`;
  if (sign === "" && given === undefined) return "what is to change? +NAME adds a node, -NAME removes it, NAME=2 changes its weight";
  if (sign === "-") weights.delete(id);
  else weights.set(id, Number(given));
  return null;
}

function compared(before: readonly Member[], after: readonly Member[], partitions: number, nodes: readonly RegisteredNode[]): Plan {
  const namesBefore = namesOf(before, partitions);
  const namesAfter = namesOf(after, partitions);
  const weightIn = (members: readonly Member[], id: string) => members.find((member) => member.id === id)?.weight ?? 0;
  const isSame = (id: string) => weightIn(before, id) === weightIn(after, id);
  const moved = namesBefore.flatMap((from, i) => (from === namesAfter[i] ? [] : [{ from, to: namesAfter[i]! }]));
  const ids = [...new Set([...before, ...after].map(({ id }) => id))].sort();
  return {
    moved: moved.length,
    partitions,
    between: moved.filter(({ from, to }) => isSame(from) && isSame(to)).length,
    nodes: ids.map((id) => {
      const owned = namesBefore.filter((name) => name === id).length;
      const loses = moved.filter(({ from }) => from === id).length;
      const sockets = nodes.find((node) => node.id === id)?.sockets;
      return {
        id, weightBefore: weightIn(before, id), weightAfter: weightIn(after, id), before: owned, after: namesAfter.filter((name) => name === id).length,
        gains: moved.filter(({ to }) => to === id).length, loses,
        sessionsLost: sockets === undefined ? null : owned === 0 ? 0 : Math.round((sockets * loses) / owned),
      };
    }),
  };
}

function membersOf(nodes: readonly RegisteredNode[]): Member[] {
  const up = nodes.filter(({ state }) => state === "up").map(({ id, weight }) => ({ id, weight: weightOf(weight) }));
  return up.filter(({ weight }) => weight > 0).sort((a, b) => (a.id < b.id ? -1 : 1));
}

function namesOf(members: readonly Member[], partitions: number): string[] {
  return Array.from(ownersOf(members, partitions), (index) => members[index]?.id ?? "");
}

function countsOf(members: readonly Member[], partitions: number): Int32Array {
  const counts = new Int32Array(members.length);
  for (const owner of ownersOf(members, partitions)) if (owner >= 0) counts[owner]!++;
  return counts;
}

function inHex(place: number): string {
  return place.toString(16).padStart(8, "0");
}

/**
 * What a node should do next with a partition. Pure: from what the node knows, right or wrong. A wrong step costs time
 * and no more, since each ends at a write over a revision.
 */
import { xxh32 } from "../hash.ts";
import type { KnownAssignment } from "./assignments.ts";
import type { HolderNode } from "./holderoptions.ts";
import { nextMs } from "./leases.ts";

export interface Situation {
  readonly self: string;
  /** This node's boot id, which lives. "": it has none. */
  boot: string;
  now: number;
  /** This node hands over everything. */
  isDraining: boolean;
  /** It may claim what it did not hold before. */
  mayClaimNew: boolean;
  mayRebalance: boolean;
  readonly nodes: Map<string, HolderNode>;
  /** This node may take another partition. */
  hasRoom(): boolean;
  /** The partition's owner by the table. */
  ownerOf(partition: number): string;
  /** Its owner by a table without this node. */
  heirOf(partition: number): string;
  /** Partitions that a node has, by the records. */
  countOf(node: string): number;
  /** Since when it is proven that a boot id has ended. */
  endedAt(boot: string): number | undefined;
  /** Boot ids of this process that have ended. */
  isFormer(boot: string): boolean;
  /** The lease of a node was renewed lately, as far as this node saw. */
  isAlive(node: string): boolean;
}

export type Step =
  | { readonly kind: "wait" }
  | { readonly kind: "claim" }
  /** The record names this node, and it cannot have the partition. */
  | { readonly kind: "release"; readonly next: string }
  | { readonly kind: "prove"; readonly owner: string };

const wait: Step = { kind: "wait" };
const claim: Step = { kind: "claim" };
/** Nodes with room try one after the other, in an order of the partition's own. */
const rankMs = 250;

/**
 * For a partition that this node neither holds nor claims.
 * @param unownedSince since when this node looks at a partition without a record
 * @param wasOwn the record is what this process wrote last as its holder
 */
export function nextStep(partition: number, known: KnownAssignment | undefined, unownedSince: number, wasOwn: boolean, at: Situation): Step {
  if (at.boot === "") return wait;
  if (known === undefined) return at.mayClaimNew && isTurn(partition, unownedSince, at) ? claim : wait;
  const { record } = known;
  if (record === null) return wait;
  if (record.state === "released") {
    if (!at.mayClaimNew || !canTake(at)) return wait;
    if (record.next === at.self) return claim;
    const since = isAble(record.next, at) ? known.at + nextMs : known.at;
    return isTurn(partition, since, at) ? claim : wait;
  }
  if (record.owner === at.self) return ownStep(partition, record.boot, wasOwn, at);
  const endedAt = at.endedAt(record.boot);
  if (endedAt !== undefined) return at.mayClaimNew && isTurn(partition, Math.max(endedAt, known.at), at) ? claim : wait;
  return at.mayClaimNew && !at.isAlive(record.owner) ? { kind: "prove", owner: record.owner } : wait;
}

/** The record names this node, which does not deliver: it was restarted, lost its lease, or gave a claim up. */
function ownStep(partition: number, boot: string, wasOwn: boolean, at: Situation): Step {
  // This node has the lease: so every other boot id of the node has ended.
  const isOver = boot === at.boot || at.isFormer(boot) || at.mayClaimNew;
  if (!isOver) return wait;
  if (!canTake(at)) return { kind: "release", next: heirOf(partition, at) };
  return at.mayClaimNew || wasOwn ? claim : wait;
}

function canTake(at: Situation): boolean {
  return at.hasRoom() && !at.isDraining;
}

/** The table's owner takes an unowned partition at once, the others when that had its time. */
function isTurn(partition: number, since: number, at: Situation): boolean {
  if (!canTake(at)) return false;
  const owner = at.ownerOf(partition);
  if (owner === at.self) return true;
  const ownersMs = isAble(owner, at) ? nextMs : 0;
  const others = ranked(partition, at).filter((id) => id !== owner);
  return at.now - since >= ownersMs + rankMs * Math.max(0, others.indexOf(at.self));
}

/** For a partition that this node holds: who should have it instead. Null: nobody. */
export function betterOwner(partition: number, at: Situation): string | null {
  const owner = at.ownerOf(partition);
  return owner !== at.self && at.mayRebalance && isAble(owner, at) ? owner : null;
}

/** The node that should get a partition that this node gives away. "": none is known. */
export function heirOf(partition: number, at: Situation): string {
  const owners = [at.ownerOf(partition), at.heirOf(partition)];
  const owner = owners.find((id) => id !== at.self && isAble(id, at));
  return owner ?? ranked(partition, at).find((id) => id !== at.self) ?? "";
}

/** Nodes that may take it. */
function ranked(partition: number, at: Situation): string[] {
  const able = [...at.nodes.keys()].filter((id) => isAble(id, at));
  return able.map((id) => ({ id, rank: xxh32(`${partition} ${id}`) })).sort((a, b) => a.rank - b.rank).map(({ id }) => id);
}

/** A node without a lease can claim nothing, such as one that reaches Redis and not NATS. */
function isAble(node: string, at: Situation): boolean {
  if (node === at.self) return canTake(at);
  const known = at.nodes.get(node);
  return known?.state === "up" && at.isAlive(node) && (known.maxPartitions === 0 || at.countOf(node) < known.maxPartitions);
}

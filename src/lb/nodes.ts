/**
 * The nodes that a load balancer forwards to: what the list of nodes says of each, what its own dials and checks have
 * found, and what it sent there. The list decides which nodes there are. Dials and checks only take a node out for a while.
 */
import { placeTag } from "../auth/placetickets.ts";
import { ownersOf } from "../placement/ring.ts";
import { hashOf, weightOf, type Table } from "../placement/table.ts";

/** A node as the list has it. */
export interface ListedNode {
  readonly id: string;
  readonly host: string;
  readonly port: number;
  readonly state: "up" | "draining" | "down";
  /** Share of the last second that its event loops were busy, 0 to 1. */
  readonly load: number;
  /** Its part of the users. Undefined: the node is of an older release. */
  readonly weight: number | undefined;
}

export interface BalancedNode {
  listed: ListedNode;
  /** How tickets name it. */
  readonly tag: number;
  /** Connections that are open, and being opened. */
  open: number;
  opened: number;
  failed: number;
  /** The last dial failed. The next good check, or the next good dial, ends that. */
  refuses: boolean;
  /** Failed checks in a row. */
  failedChecks: number;
  /** It serves TLS: the last answer to a check came over TLS. */
  isTls: boolean;
  /** Connections it was sent lately, and when that was counted: its load does not show them yet. */
  sent: number;
  sentAt: number;
}

/** Failed checks in a row that take a node out. */
const failedChecksMax = 2;

export class Nodes {
  #all: readonly BalancedNode[] = [];
  /** Those that get new connections; null: not known since the last change. */
  #usable: readonly BalancedNode[] | null = null;
  #table: Table | null = null;
  #tableHash = "";
  /** The owner of each partition, by the table. */
  #owners: readonly string[] = [];
  #byId = new Map<string, BalancedNode>();

  all(): readonly BalancedNode[] {
    return this.#all;
  }

  /** Nodes that get new connections. */
  usable(): readonly BalancedNode[] {
    this.#usable ??= this.#all.filter((node) => isUsable(node));
    return this.#usable;
  }

  /** What is left where no node is usable. A draining node is never among them. */
  lastResort(): readonly BalancedNode[] {
    return this.#all.filter(({ listed }) => listed.state !== "draining");
  }

  byId(id: string): BalancedNode | null {
    return this.#byId.get(id) ?? null;
  }

  byTag(tag: number): BalancedNode | null {
    return this.#all.find((node) => node.tag === tag) ?? null;
  }

  /** The table in use. Null: no node may own users, or none is known. */
  get table(): Table | null {
    return this.#table;
  }

  /** Without a table there are no partitions, and the answer means nothing. */
  partitionOf(hash: number): number {
    return hash % (this.#table?.partitions ?? 1);
  }

  /** Id of the node that owns the partition; "" for none. */
  ownerOf(partition: number): string {
    return this.#owners[partition] ?? "";
  }

  /** @param stored the table of the nodes; null: they have none, and every load balancer makes the same from the list */
  update(listed: readonly ListedNode[], stored: Table | null, partitions: number): void {
    const before = this.#byId;
    this.#all = listed.map((one) => {
      const known = before.get(one.id);
      if (known === undefined) return { listed: one, tag: placeTag(one.id), open: 0, opened: 0, failed: 0, refuses: false, failedChecks: 0, isTls: false, sent: 0, sentAt: 0 };
      // Elsewhere, or started again: what was found before says nothing.
      if (known.listed.host !== one.host || known.listed.port !== one.port) [known.refuses, known.failedChecks] = [false, 0];
      known.listed = one;
      return known;
    });
    this.#byId = new Map(this.#all.map((node) => [node.listed.id, node]));
    this.changed();
    this.#setTable(stored ?? ownTable(listed, partitions));
  }

  /** A node's health has changed. */
  changed(): void {
    this.#usable = null;
  }

  #setTable(table: Table | null): void {
    const hash = table === null ? "" : hashOf(table);
    this.#table = table;
    if (hash === this.#tableHash) return;
    this.#tableHash = hash;
    this.#owners = table === null ? [] : Array.from(ownersOf(table.members, table.partitions), (index) => table.members[index]?.id ?? "");
  }
}

export function isUsable({ listed, refuses, failedChecks }: BalancedNode): boolean {
  return listed.state === "up" && !refuses && failedChecks < failedChecksMax;
}

/** Depends on the list alone, so load balancers agree without talking. */
function ownTable(listed: readonly ListedNode[], partitions: number): Table | null {
  const members = listed
    .filter(({ state }) => state === "up")
    .map(({ id, weight }) => ({ id, weight: weightOf(weight) }))
    .filter(({ weight }) => weight > 0)
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  return members.length === 0 ? null : { number: 0, partitions, members, by: "", at: 0 };
}

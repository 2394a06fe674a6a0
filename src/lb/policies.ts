/** Chooses the node for a connection. A dial that fails asks again, with the nodes it has tried. */
import { xxh32 } from "../placement/hash.ts";
import type { Hint } from "./firstbytes.ts";
import type { BalancedNode, Nodes } from "./nodes.ts";

export type Policy = "hash" | "round-robin" | "least-connections" | "least-load";

export interface PoliciesOptions {
  readonly nodes: Nodes;
  /** Replaced in tests: from 0 to 1, and milliseconds. */
  readonly random?: () => number;
  readonly clock?: () => number;
}

/** A difference in load that means nothing: chance decides. */
const alike = 0.02;
/** So many connections count as the whole time of a node, until it reports its load again. */
const connectionsPerLoad = 10_000;
/** Nodes report their load at this interval, by default. */
const reportedMs = 5_000;

export class Policies {
  readonly #nodes: Nodes;
  readonly #random: () => number;
  readonly #clock: () => number;
  #turn = 0;

  constructor({ nodes, random = Math.random, clock = () => performance.now() }: PoliciesOptions) {
    this.#nodes = nodes;
    this.#random = random;
    this.#clock = clock;
  }

  /** Null: no node is left to try. @param tried nodes that did not accept this connection */
  choose(policy: Policy, hint: Hint, tried: readonly BalancedNode[]): BalancedNode | null {
    const usable = without(this.#nodes.usable(), tried);
    const among = usable.length > 0 ? usable : without(this.#nodes.lastResort(), tried);
    if (among.length === 0) return null;
    switch (policy) {
      case "hash":
        return this.#named(hint, among) ?? this.#owner(hint.hash, among);
      case "round-robin":
        return among[this.#turn++ % among.length]!;
      case "least-connections":
        return this.#fewest(among);
      case "least-load":
        return this.#sentTo(this.#better(among));
    }
  }

  /** The node that the URL or the ticket names. */
  #named({ node, tag }: Hint, among: readonly BalancedNode[]): BalancedNode | null {
    const named = (node === "" ? null : this.#nodes.byId(node)) ?? (tag === 0 ? null : this.#nodes.byTag(tag));
    return named !== null && among.includes(named) ? named : null;
  }

  /** The owner of the partition, or the node that every load balancer takes in its place. */
  #owner(hash: number, among: readonly BalancedNode[]): BalancedNode {
    const partition = this.#nodes.table === null ? hash : this.#nodes.partitionOf(hash);
    const owner = this.#nodes.byId(this.#nodes.ownerOf(partition));
    if (owner !== null && among.includes(owner)) return owner;
    const rank = ({ listed }: BalancedNode) => xxh32(`${partition}#${listed.id}`);
    return among.reduce((best, node) => (rank(node) > rank(best) ? node : best));
  }

  /** Those with equally many take turns. */
  #fewest(among: readonly BalancedNode[]): BalancedNode {
    const first = this.#turn++ % among.length;
    let best = among[first]!;
    for (let i = 1; i < among.length; i++) {
      const node = among[(first + i) % among.length]!;
      if (node.open < best.open) best = node;
    }
    return best;
  }

  /** Of two at random: the least loaded of all would get everybody until loads are reported again. */
  #better(among: readonly BalancedNode[]): BalancedNode {
    if (among.length === 1) return among[0]!;
    const first = Math.floor(this.#random() * among.length);
    const second = (first + 1 + Math.floor(this.#random() * (among.length - 1))) % among.length;
    const [a, b] = [among[first]!, among[second]!];
    return this.#work(b) < this.#work(a) - alike ? b : a;
  }

  #work(node: BalancedNode): number {
    return node.listed.load + this.#unreported(node) / connectionsPerLoad;
  }

  #sentTo(node: BalancedNode): BalancedNode {
    node.sent = this.#unreported(node) + 1;
    node.sentAt = this.#clock();
    return node;
  }

  /** Fades as the node reports what they cost. */
  #unreported({ sent, sentAt }: BalancedNode): number {
    return sent === 0 ? 0 : sent * Math.exp((sentAt - this.#clock()) / reportedMs);
  }
}

function without(nodes: readonly BalancedNode[], tried: readonly BalancedNode[]): readonly BalancedNode[] {
  return tried.length === 0 ? nodes : nodes.filter((node) => !tried.includes(node));
}

/**
 * The state of the other nodes, judged by their heartbeats. Every heartbeat changes a node's entry. This node measures
 * the time without a change by its own monotonic clock, so no other clock has to be right. Silence counts only while
 * this node has been reading: a node is never declared down for a time that was not observed.
 */
import * as z from "zod";
import type { NodeFacts, OwnState, RegisteredNode, RegistryEvents } from "./registry.ts";

const facts = z.object({
  ip: z.string(), port: z.number(), url: z.string(), region: z.string(), load: z.number(), cpu: z.number(), rss: z.number(),
  reactors: z.number(), state: z.enum(["up", "draining"]), version: z.string(), sockets: z.number(), started: z.number(),
  last_heartbeat: z.number(),
  // Nodes of older releases do not write these. A value of another kind costs only itself, not the node.
  tcpUrl: z.string().optional().catch(undefined), handshakesPerSecond: z.number().optional().catch(undefined), weight: z.number().optional().catch(undefined),
  placement: z.string().optional().catch(undefined), partitions: z.number().optional().catch(undefined), maxPartitions: z.number().optional().catch(undefined),
  holds: z.string().optional().catch(undefined),
});

/** A node's own entry. */
export interface Entry extends NodeFacts {
  readonly state: OwnState;
  readonly last_heartbeat: number;
}

export interface LiveNodesOptions {
  /** This node, which is not listed. */
  readonly self: string;
  /** After this silence a node is down. After this much more, its entry is removed. */
  readonly deadMs: number;
  readonly forgetMs: number;
  /** The time between two looks further apart than this was not observed. */
  readonly gapMs: number;
  /** Monotonic. */
  readonly clock: () => number;
  readonly events: RegistryEvents;
}

interface Known {
  readonly id: string;
  text: string;
  entry: Entry;
  down: boolean;
  /** When its last change was seen, or when this node began to look again. */
  heardAt: number;
}

export class LiveNodes {
  readonly #options: LiveNodesOptions;
  readonly #nodes = new Map<string, Known>();
  /** Nodes that left a moment ago, with their start time: a look under way may still show their entries. */
  readonly #left = new Map<string, { readonly started: number; readonly at: number }>();
  #lookedAt: number;

  constructor(options: LiveNodesOptions) {
    this.#options = options;
    this.#lookedAt = options.clock();
  }

  /**
   * Judges the current entries of all nodes. `wasAway`: since the last look, nodes may have been unable to write. Those
   * still reconnecting get the whole time again. Otherwise, a gap comes from this node, which was busy. Such a pause
   * does not count as silence of others, but what was seen between pauses does.
   */
  look(written: ReadonlyMap<string, string>, wasAway: boolean): void {
    const now = this.#options.clock();
    const gap = now - this.#lookedAt;
    this.#lookedAt = now;
    for (const [id, { at }] of this.#left) if (now - at > this.#options.deadMs) this.#left.delete(id);
    for (const node of this.#nodes.values()) {
      if (gap > this.#options.gapMs && !node.down) node.heardAt = wasAway ? now : Math.min(now, node.heardAt + gap);
    }
    for (const [id, text] of written) this.heard(id, text);
    for (const node of [...this.#nodes.values()]) this.#judge(node, now, written.has(node.id));
  }

  /** A node's entry was read or received. An unchanged or unreadable entry is ignored. */
  heard(id: string, text: string): void {
    const known = this.#nodes.get(id);
    if (id === this.#options.self || known?.text === text) return;
    const entry = read(text);
    if (entry === null || this.#left.get(id)?.started === entry.started) return;
    const heardAt = this.#options.clock();
    const before = known === undefined || known.down ? "down" : known.entry.state;
    const node: Known = { id, text, entry, down: false, heardAt };
    this.#nodes.set(id, node);
    if (before !== entry.state) this.#tell(entry.state, node);
  }

  /** A node has announced that it leaves, or another node has removed its entry. */
  left(id: string): void {
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    this.#nodes.delete(id);
    this.#left.set(id, { started: node.entry.started, at: this.#options.clock() });
    this.#tell("left", node);
  }

  /** Nodes that were silent long enough to remove their entries, with these entries. */
  forgettable(): [id: string, text: string][] {
    const before = this.#options.clock() - this.#options.forgetMs;
    return [...this.#nodes.values()].filter(({ down, heardAt }) => down && heardAt <= before).map(({ id, text }) => [id, text]);
  }

  list(): RegisteredNode[] {
    return [...this.#nodes.values()].map((node) => this.#asSeen(node)).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** A silent node without an entry is gone, no matter which node removed the entry. */
  #judge(node: Known, now: number, isWritten: boolean): void {
    if (now - node.heardAt < this.#options.deadMs) return;
    if (!node.down) {
      node.down = true;
      this.#tell("down", node);
    }
    if (!isWritten) this.left(node.id);
  }

  #asSeen({ id, entry, down, heardAt }: Known): RegisteredNode {
    return { id, ...entry, state: down ? "down" : entry.state, silentMs: Math.round(this.#options.clock() - heardAt) };
  }

  #tell(kind: "up" | "draining" | "down" | "left", node: Known): void {
    this.#options.events.nodeChanged({ kind, node: this.#asSeen(node) });
  }
}

function read(text: string): Entry | null {
  try {
    return facts.parse(JSON.parse(text));
  } catch {
    return null; // written by other software, or by a version with other fields
  }
}

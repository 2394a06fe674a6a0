/**
 * Looks whether other nodes take connections, for clients that could not reach one. Heartbeats notice a dead node only
 * after nodeDeadMs. One look serves all who ask: a TCP connection to the node's port for clients, given up after half a
 * second. A node that refuses is looked at again, until it answers or is known to be down.
 */
import { connect } from "node:net";
import type { RegisteredNode } from "../registry/registry.ts";

export interface LooksOptions {
  /** All nodes, this one first. */
  nodes(): readonly RegisteredNode[];
  /** A look has ended. `refusing`: all nodes that refuse now. */
  onLooked(node: string, refusing: readonly string[]): void;
  /** Whether something listens there; replaced in tests. */
  readonly reach?: (ip: string, port: number) => Promise<boolean>;
}

const lookMs = 500;
const againMs = 1_000;
/** Looks at once: each is an open file. */
const looksMax = 64;

export class Looks {
  readonly #options: LooksOptions;
  readonly #looking = new Set<string>();
  readonly #refusing = new Map<string, NodeJS.Timeout>();
  #stopped = false;

  constructor(options: LooksOptions) {
    this.#options = options;
  }

  /** Nodes that refused connections at the last look. */
  get refusing(): readonly string[] {
    return [...this.#refusing.keys()];
  }

  /** Looks at a node, unless a look is under way. A name that is no other node's is answered at once. */
  look(id: string): void {
    if (this.#stopped || this.#looking.has(id)) return;
    const node = this.#options.nodes().slice(1).find((one) => one.id === id && one.state !== "down");
    if (node === undefined || this.#looking.size >= looksMax) return this.#looked(id, node !== undefined && this.#refusing.has(id));
    this.#looking.add(id);
    const { reach = reachable } = this.#options;
    // It throws at a port that is none: whatever software wrote the entry, it must not end this node.
    const reached = reach(node.ip, node.port).catch(() => false);
    void reached.then((isReached) => {
      this.#looking.delete(id);
      this.#looked(id, !isReached);
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#refusing.values()) clearTimeout(timer);
  }

  #looked(id: string, refuses: boolean): void {
    if (this.#stopped) return;
    clearTimeout(this.#refusing.get(id));
    this.#refusing.delete(id);
    if (refuses) this.#refusing.set(id, setTimeout(() => this.look(id), againMs).unref());
    this.#options.onLooked(id, this.refusing);
  }
}

/** Rejects where port or address cannot be. */
function reachable(ip: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: ip, port, timeout: lookMs });
    const end = (isReached: boolean) => {
      socket.destroy();
      resolve(isReached);
    };
    socket.once("connect", () => end(true)).once("timeout", () => end(false)).once("error", () => end(false));
  });
}

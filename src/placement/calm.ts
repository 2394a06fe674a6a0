/**
 * Whether the gateway is calm enough to move users that have a socket. While a node is being lost or drained, or Redis
 * or NATS is unavailable, everybody stays, and for a while after. Many clients move by themselves then, and the next
 * table may change everything again.
 */
import type { RegisteredNode } from "../registry/registry.ts";

export interface Surroundings {
  readonly nodes: readonly RegisteredNode[];
  /** The list of nodes may be out of date. */
  readonly stale: boolean;
  readonly natsAway: boolean;
}

export interface CalmOptions {
  readonly calmMs: number;
  /** A node that has been silent for so long may be lost. */
  readonly silentMs: number;
  /** Monotonic. */
  readonly clock: () => number;
}

export class Calm {
  readonly #options: CalmOptions;
  #states = new Map<string, RegisteredNode["state"]>();
  #disturbedAt = -Infinity;
  /** At the last look. */
  #isDisturbed = false;
  /** The last disturbance, in words. */
  #cause = "";

  constructor(options: CalmOptions) {
    this.#options = options;
  }

  /** Why nobody moves. Empty: users may move. */
  get problem(): string {
    const { calmMs, clock } = this.#options;
    return this.#isDisturbed || clock() - this.#disturbedAt < calmMs ? this.#cause : "";
  }

  look(surroundings: Surroundings): void {
    const cause = this.#causeIn(surroundings);
    this.#states = new Map(surroundings.nodes.map(({ id, state }) => [id, state]));
    this.#isDisturbed = cause !== "";
    if (!this.#isDisturbed) return;
    this.#cause = cause;
    this.#disturbedAt = this.#options.clock();
  }

  #causeIn({ nodes, stale, natsAway }: Surroundings): string {
    if (stale) return "Redis is unavailable";
    if (natsAway) return "NATS is unavailable";
    for (const { id, state, silentMs } of nodes) {
      if (state === "draining") return `node ${id} drains`;
      if (state === "down" && this.#states.get(id) !== "down") return `node ${id} is down`;
      if (state === "up" && silentMs >= this.#options.silentMs) return `node ${id} is silent`;
    }
    const listed = new Set(nodes.map(({ id }) => id));
    for (const [id, state] of this.#states) if (state !== "down" && !listed.has(id)) return `node ${id} has left`;
    return "";
  }
}

/** Fewer sessions move while a node is busy: a move costs the node it leaves and the node it comes to. */
export function moveRate(perSecond: number, nodes: readonly Pick<RegisteredNode, "state" | "load">[]): number {
  const load = Math.max(0, ...nodes.filter(({ state }) => state === "up").map((node) => node.load));
  const share = Math.min(1, Math.max(slowest, 1 - (load - busyFrom) / (1 - busyFrom)));
  return Math.ceil(perSecond * share);
}

const busyFrom = 0.5;
const slowest = 0.1;

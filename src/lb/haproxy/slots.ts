/**
 * Haproxy cannot add a server to `use-server` under a name of its choice while it runs. So its configuration has servers
 * s1, s2, … and each node gets one of them, the spare ones being disabled. A node keeps its slot while it is listed.
 */
import type { ListedNode } from "../nodes.ts";

export interface Slot {
  /** Name of the server in haproxy. */
  readonly name: string;
  /** Null: spare. */
  readonly node: ListedNode | null;
}

/** For nodes that join later. */
const spareMin = 8;

export class Slots {
  readonly #ids: (string | null)[] = [];

  /** @param count of servers in haproxy; 0: twice the nodes that there are first, and eight at least */
  constructor(count: number) {
    this.#count = count;
  }

  #count: number;

  /** Nodes beyond the slots are left out: they get a slot when one is free. */
  assign(nodes: readonly ListedNode[]): Slot[] {
    if (this.#count === 0) this.#count = Math.max(spareMin, 2 * nodes.length);
    while (this.#ids.length < this.#count) this.#ids.push(null);
    const listed = new Map(nodes.map((node) => [node.id, node]));
    for (const [i, id] of this.#ids.entries()) if (id !== null && !listed.has(id)) this.#ids[i] = null;
    for (const { id } of nodes) {
      const free = this.#ids.indexOf(null);
      if (!this.#ids.includes(id) && free >= 0) this.#ids[free] = id;
    }
    return this.#ids.map((id, i) => ({ name: `s${i + 1}`, node: id === null ? null : listed.get(id)! }));
  }
}

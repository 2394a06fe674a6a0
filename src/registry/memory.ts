/** The registry of a single node: it lists only this node. */
import type { NodeFacts, OwnState, Registry } from "./registry.ts";

export interface MemoryRegistryOptions {
  readonly id: string;
  readonly facts: () => NodeFacts;
}

export function createMemoryRegistry({ id, facts }: MemoryRegistryOptions): Registry {
  let state: OwnState | null = null;
  return {
    stale: false,

    async announce(next) {
      state = next;
    },

    nodes() {
      return state === null ? [] : [{ id, ...facts(), state, last_heartbeat: Date.now(), silentMs: 0 }];
    },

    async stop() {
      state = null;
    },
  };
}

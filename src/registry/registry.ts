/**
 * The registry seam: which nodes make up the gateway, and how each of them is. What it says it says from what this node
 * knows already: nobody waits for a network to learn who is there.
 *
 * A registry that cannot reach the others keeps what it knew and says that it is stale. It MUST NOT take its own
 * blindness for the death of everybody else.
 */

/** What a node says of itself, with every heartbeat. */
export interface NodeFacts {
  readonly ip: string;
  readonly port: number;
  /** Where clients connect to. */
  readonly url: string;
  readonly region: string;
  /** Share of the last second that its event loops were busy, 0 to 1: the mean of its reactors. */
  readonly load: number;
  /** Cores its process kept busy since the heartbeat before. */
  readonly cpu: number;
  /** Bytes. */
  readonly rss: number;
  readonly reactors: number;
  readonly version: string;
  readonly sockets: number;
  /** Milliseconds since 1970 on the node's own clock, which nobody compares with another's. */
  readonly started: number;
}

/** What it says it does: takes clients, or takes no new ones and is about to leave. */
export type OwnState = "up" | "draining";

export interface RegisteredNode extends NodeFacts {
  readonly id: string;
  /** down: nothing was heard of it for too long. */
  readonly state: OwnState | "down";
  /** By the node's own clock: when it said this. */
  readonly last_heartbeat: number;
  /** By this node's clock, which never steps: for how long nothing new was heard of it. */
  readonly silentMs: number;
}

export interface RegistryEvents {
  /**
   * A node came up, is draining, is down, or is gone for good (`left`): MUST be called once for each such change of
   * another node, and as soon as this node knows of it.
   */
  nodeChanged(change: { readonly kind: "up" | "draining" | "down" | "left"; readonly node: RegisteredNode }): void;
}

export interface Registry {
  /**
   * This node is in that state from now on; the first call makes it known. MUST be told to the others at once, and again
   * by itself where they could not be reached. Resolves when it was told, or could not be.
   */
  announce(state: OwnState): Promise<void>;

  /** All nodes, this one first, those that are down too until they are forgotten. MUST answer without asking anybody. */
  nodes(): readonly RegisteredNode[];

  /** The others could not be looked at lately: what `nodes` says is what was known then. */
  readonly stale: boolean;

  /** This node is gone on purpose: MUST be forgotten by the others at once. Calls after it are errors of the caller. */
  stop(): Promise<void>;
}

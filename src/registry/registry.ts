/**
 * The registry seam: the nodes of the gateway and their health. It answers at once from what this node already knows:
 * no caller waits for the network.
 *
 * A registry that cannot reach the others keeps its last state and reports itself stale. It MUST NOT declare other
 * nodes dead because it cannot see them itself.
 */

/** A node's report about itself, with every heartbeat. */
export interface NodeFacts {
  readonly ip: string;
  readonly port: number;
  /** The URL for clients. */
  readonly url: string;
  readonly region: string;
  /** Share of the last seconds that its event loops were busy, 0 to 1: the mean of its reactors, or its hub where that is busier. */
  readonly load: number;
  /** Cores its process kept busy since the heartbeat before. */
  readonly cpu: number;
  /** Bytes. */
  readonly rss: number;
  readonly reactors: number;
  readonly version: string;
  readonly sockets: number;
  /** Milliseconds since 1970 on the node's own clock; never compared with another clock. */
  readonly started: number;
  // Nodes of older releases do not report what follows.
  /** URL for clients on raw TCP. */
  readonly tcpUrl?: string | undefined;
  /** Handshakes it takes in a second; 0 for no limit. */
  readonly handshakesPerSecond?: number | undefined;
  /** The node's part of the users, relative to the other nodes. */
  readonly weight?: number | undefined;
  /** Which node serves a user, as this node is configured, and the number of partitions of all users. */
  readonly placement?: string | undefined;
  readonly partitions?: number | undefined;
  /** Partitions that the node may hold; 0 for no limit. */
  readonly maxPartitions?: number | undefined;
  /** Partitions that the node holds, as node/heldelsewhere.ts writes them; absent where partitions have no holders. */
  readonly holds?: string | undefined;
}

/** up: takes clients. draining: takes no new ones and is about to leave. */
export type OwnState = "up" | "draining";

export interface RegisteredNode extends NodeFacts {
  readonly id: string;
  /** down: no heartbeat for too long. */
  readonly state: OwnState | "down";
  /** By the node's own clock: the time of this report. */
  readonly last_heartbeat: number;
  /** By this node's monotonic clock: the time since the last new heartbeat. */
  readonly silentMs: number;
}

export interface RegistryEvents {
  /**
   * A node came up, is draining, is down, or is gone for good (`left`). MUST be called once for each such change of
   * another node, as soon as this node knows of it.
   */
  nodeChanged(change: { readonly kind: "up" | "draining" | "down" | "left"; readonly node: RegisteredNode }): void;
}

export interface Registry {
  /**
   * Sets the state of this node; the first call makes it known. MUST tell the other nodes at once, and later by itself
   * where they cannot be reached. Resolves when they know, or could not be reached.
   */
  announce(state: OwnState): Promise<void>;

  /**
   * All nodes, this one first, down nodes included until their entries are removed. MUST answer without the network.
   */
  nodes(): readonly RegisteredNode[];

  /** The entries could not be read lately: `nodes` returns the last known state. */
  readonly stale: boolean;

  /** This node leaves on purpose: the others MUST remove it at once. Later calls are errors of the caller. */
  stop(): Promise<void>;
}

/**
 * Where users belong, as one thread sees it. Every reactor and the main thread have a view. It answers from memory that
 * all threads share: no look-up waits for the hub, Redis or NATS.
 */

/**
 * any: every node may serve a user. hash: the owner of the user's partition by the table serves the user. partition: the
 * node that holds the user's partition by a lease (leases/) serves the user, and nobody where there is none.
 */
export type PlacementMode = "any" | "hash" | "partition";

/** A node that clients may be sent to, or that they should leave. */
export interface PlacedNode {
  readonly id: string;
  /** The URL for clients. */
  readonly url: string;
  /** The URL for clients on raw TCP. Empty where it is off, or where the node is of an older release. */
  readonly tcpUrl: string;
  readonly region: string;
  /** Share of the last second that its event loops were busy, 0 to 1. */
  readonly load: number;
  /** Handshakes it takes in a second. 0: no limit. */
  readonly slotsPerSecond: number;
  /** Its part of the users, relative to other nodes. 0: none. */
  readonly weight: number;
  /** Only a node that is up takes clients. */
  readonly state: "up" | "draining" | "down";
}

export interface PlacementView {
  readonly mode: PlacementMode;
  /** Partitions of all users. */
  readonly partitions: number;
  /** Changes with every change of what this view answers. */
  readonly generation: number;
  /** The number of the table in use. 0: there is none yet. */
  readonly table: number;
  /** All known nodes, this one included. The array is replaced when it changes: an index is valid for one generation. */
  readonly nodes: readonly PlacedNode[];
  /** Index of this node. */
  readonly self: number;
  /** Sessions of users of other nodes that this node may send there in a second. 0: nobody moves now. */
  readonly movesPerSecond: number;
  /** Partitions that this node owns. */
  readonly owned: number;
  partitionOf(tenant: string, user: string): number;
  /**
   * Index of the node that owns the user's partition. -1: the mode is `any`, there is no table yet, or no node may own
   * users. In mode `partition`, of the node that holds it or claims it: by what this node has heard.
   */
  ownerOf(tenant: string, user: string): number;
}

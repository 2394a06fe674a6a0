/** What a holder needs of its node, and what it says to it. */
import type { Timers } from "./timers.ts";
import type { GateWriter } from "./gate.ts";
import type { PartitionQueue, QueuedMessage, RecordStore } from "./leases.ts";

/** A node as the registry and the others report it. */
export interface HolderNode {
  readonly id: string;
  readonly state: "up" | "draining" | "down";
  /** 0: no limit. */
  readonly maxPartitions: number;
}

/** What the holder asks at each look. It MUST answer at once, from memory. Wrong answers cost time, never the promise. */
export interface HolderWorld {
  /** The partition's owner by the table. "": there is no table yet, or no member. */
  ownerOf(partition: number): string;
  /** Its owner by a table without this node: it stays there when this node has left. "": there is none. */
  heirOf(partition: number): string;
  /** All known nodes, this one included. */
  nodes(): readonly HolderNode[];
  /** Whether partitions may move now to balance nodes (calm.ts). A drain and a smaller maxPartitions do not ask. */
  mayRebalance(): boolean;
}

export interface HolderEvents<M extends QueuedMessage> {
  /**
   * This node delivers for the partition from now on, under this claim. Called before its first message. `claim` goes
   * with every message to the reactors: they ask the gate for it (gate.ts) before each delivery.
   */
  held(partition: number, claim: number): void;
  /**
   * Hand the message to the user's sessions, in this order. Then call `acknowledged`, or `refused` where the gate said
   * no, or where it cannot be handed over. Exactly one of the two for each message.
   */
  message(partition: number, claim: number, message: M): void;
  /**
   * The partition is about to go to `next` ("": nobody is known): take no new users, tell its sessions `reconnect`, all
   * together. Messages are still delivered until `dropped`.
   */
  leaving(partition: number, next: string): void;
  /** This node does not deliver for the partition any more. It may later be held again, under another claim. */
  dropped(partition: number, claim: number, reason: string): void;
  /** Who owns the partition, as the records say, or is to claim it next: for `connection-url`, the table that reactors read, and `explain`. */
  assigned(partition: number, owner: string, confirmed: boolean): void;
}

export interface HolderLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface HolderOptions<M extends QueuedMessage> {
  /** Id of this node. */
  readonly node: string;
  readonly partitions: number;
  /** Partitions that this node may hold. 0: no limit. */
  readonly maxPartitions: number;
  readonly leases: RecordStore;
  readonly assignments: RecordStore;
  readonly queue: PartitionQueue<M>;
  readonly gate: GateWriter;
  readonly world: HolderWorld;
  readonly events: HolderEvents<M>;
  readonly log: HolderLog;
  readonly timers: Timers;
  /** A new boot id: unique for all time. */
  readonly randomId: () => string;
}

/** Where a partition is, as this node knows it. */
export interface PartitionReport {
  readonly partition: number;
  /** "": unowned. */
  readonly owner: string;
  /** The owner has confirmed its claim: it delivers. */
  readonly confirmed: boolean;
  readonly epoch: number;
  readonly boot: string;
  /** Who should claim it next; "" where that is open. */
  readonly next: string;
  /** For so long nobody has it, by what this node knows. 0: it is owned. */
  readonly unownedMs: number;
  /** What this node is doing with it. */
  readonly here: "idle" | "claiming" | "held" | "leaving";
}

export interface HolderUsage {
  readonly held: number;
  readonly claiming: number;
  readonly leaving: number;
  readonly maxPartitions: number;
  /** Partitions that nobody holds, and since when the one that waits longest: the alarm. */
  readonly unowned: number;
  readonly unownedMs: number;
  /** This node has a lease, for so long. 0: it has none, and delivers for nobody. */
  readonly leaseMs: number;
  /** Why this node claims nothing new now; "" where it may. */
  readonly problem: string;
}

/**
 * One node's part in the leases (holder.ts).
 *
 * Wiring, in order: make the gate (`createGate`) before the reactors, give its memory to them, start the holder when
 * reactors can take messages. `look()` whenever the table, the registry or the calm changed; it looks once a second
 * anyway. On SIGTERM `drain()`, then `stop()`.
 */
export interface PartitionHolder {
  start(): void;
  /** Something in the `HolderWorld` changed. */
  look(): void;
  /** A connection to the store was lost: what it did not hold before, the node claims only 5 s after the return. */
  storeAway(): void;
  acknowledged(partition: number, claim: number, seq: number): void;
  /** A message was not delivered. The partition is dropped here, and claimed again: that keeps the order. */
  refused(partition: number, claim: number): void;
  /** Takes effect at once: what is too much is handed over. 0: no limit. */
  setMaxPartitions(limit: number): void;
  /** Hands over all partitions and claims none any more. Resolves when none is left; by then the lease may be lost, too. */
  drain(): Promise<void>;
  /**
   * Ends at once: nothing is delivered any more. Writes the node's own tombstone where it can, so that others need not
   * wait for its lease to expire. MUST NOT be called while messages are handed out elsewhere.
   */
  stop(): Promise<void>;
  /** Without one it delivers for nobody. */
  readonly hasLease: boolean;
  report(partition: number): PartitionReport;
  usage(): HolderUsage;
}

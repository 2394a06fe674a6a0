/**
 * The partitions of users that this node holds (`--placement partition`): joins the leases (placement/leases/) with the
 * queues in NATS, the hub, the reactors, and what the node knows of the others.
 */
import type { RoomQueues } from "../broker/nats/broker.ts";
import type { QueuedPublication } from "../broker/nats/queue/pulling.ts";
import type { NatsRecords } from "../broker/nats/records/records.ts";
import { showValue, ConfigError, type Config } from "../config/config.ts";
import type { Hub } from "../hub/hub.ts";
import type { PartitionsSaid } from "../messages/messages.ts";
import type { Logger } from "../platform/log/log.ts";
import { randomId } from "../platform/ids.ts";
import { Gate, GateWriter } from "../placement/leases/gate.ts";
import { Holder } from "../placement/leases/holder.ts";
import type { HolderUsage, PartitionHolder, PartitionReport } from "../placement/leases/holderoptions.ts";
import { answerMs, leaseMs } from "../placement/leases/leases.ts";
import { realTimers } from "../placement/leases/timers.ts";
import type { Placement } from "../placement/placement.ts";
import type { RegisteredNode } from "../registry/registry.ts";
import { readHeldElsewhere, reportOfHeld } from "./heldelsewhere.ts";
import { Backlogs, type Looked, type PartitionBacklog } from "./backlog.ts";
import { natsAccess } from "./stores.ts";

export interface PartitionsOptions {
  readonly config: Config;
  readonly gate: SharedArrayBuffer;
  readonly queues: RoomQueues;
  readonly hub: Hub;
  readonly placement: Placement;
  readonly nodes: () => readonly RegisteredNode[];
  readonly log: Logger;
}

const alarmMs = 30_000;
/** A node without a lease looks so often where its users may be served. */
const followMs = 1_000;
/** Heartbeats: a report that is older says nothing. */
const freshBeats = 2;

export interface PartitionsUsage extends HolderUsage {
  readonly claims: number;
  readonly losses: number;
  readonly handovers: number;
  readonly backlogs: readonly PartitionBacklog[];
}

export class Partitions {
  readonly #options: PartitionsOptions;
  readonly #records: NatsRecords;
  readonly #holder: PartitionHolder;
  readonly #backlogs: Backlogs;
  #alarm: NodeJS.Timeout | null = null;
  #isAlarmed = false;
  #follower: NodeJS.Timeout | null = null;
  #hasFollowed = false;
  /** By partition: the claim that this node holds it under; 0 for none. */
  readonly #claims: Uint32Array;
  /** Times that this node came to hold a partition, lost one that it held, and handed one over. */
  claims = 0;
  losses = 0;
  handovers = 0;

  constructor(options: PartitionsOptions, records: NatsRecords) {
    const { config, gate, queues, placement, nodes, log } = options;
    const { nodeId: node, placementPartitions: partitions, maxPartitions } = config;
    this.#options = options;
    this.#records = records;
    this.#backlogs = new Backlogs({ queue: queues.queue, partitions: () => this.#lookedAt() });
    this.#claims = new Uint32Array(partitions);
    const reader = new Gate(gate, partitions);
    queues.setHolds((partition) => reader.allows(partition, this.#claims[partition]!));
    const leaving = new Set<number>();
    this.#holder = new Holder<QueuedPublication>({
      node, partitions, maxPartitions,
      leases: records.leases,
      assignments: records.assignments,
      queue: queues.queue,
      gate: new GateWriter(gate),
      world: {
        ownerOf: (partition) => placement.ownerByTable(partition),
        heirOf: (partition) => placement.heirByTable(partition),
        nodes: () => nodes().map(({ id, state, maxPartitions: limit = 0 }) => ({ id, state, maxPartitions: limit })),
        mayRebalance: () => placement.moves.problem === "",
      },
      events: {
        held: (partition, claim) => {
          this.claims++;
          this.#claims[partition] = claim;
          options.hub.hold(partition, claim);
          queues.began(partition);
        },
        // What the hub takes is on its way to the user's sessions. Their devices recover what does not arrive there.
        message: (partition, claim, publication) => {
          if (!reader.allows(partition, claim)) return this.#holder.refused(partition, claim);
          queues.deliver(publication);
          this.#holder.acknowledged(partition, claim, publication.seq);
        },
        leaving: (partition, next) => {
          leaving.add(partition);
          placement.assign(partition, next);
        },
        dropped: (partition) => {
          if (leaving.delete(partition)) this.handovers++;
          else this.losses++;
          this.#claims[partition] = 0;
          options.hub.hold(partition, 0);
          queues.ended(partition);
        },
        assigned: (partition, owner) => {
          if (!leaving.has(partition) || owner !== node) placement.assign(partition, owner);
        },
      },
      log,
      timers: realTimers,
      randomId: () => randomId(12),
    });
    records.onAway = () => this.#holder.storeAway();
  }

  start(): void {
    this.#holder.start();
    this.#backlogs.start();
    this.#alarm = setInterval(() => this.#warnOfUnowned(), alarmMs / 6).unref();
    this.#follower = setInterval(() => this.#follow(), followMs).unref();
  }

  /** Nodes, table or calm changed. */
  look(): void {
    this.#holder.look();
  }

  setMaxPartitions(limit: number): void {
    this.#holder.setMaxPartitions(limit);
    this.#holder.look();
  }

  /** Hands everything over. */
  drain(): Promise<void> {
    return this.#holder.drain();
  }

  /** A holder that crashed is replaced well within this time. */
  #warnOfUnowned(): void {
    const { unowned, unownedMs, problem } = this.#holder.usage();
    const isAlarmed = unowned > 0 && unownedMs >= alarmMs;
    if (isAlarmed === this.#isAlarmed) return;
    this.#isAlarmed = isAlarmed;
    const { log } = this.#options;
    if (isAlarmed) log.error({ unowned, forSeconds: Math.round(unownedMs / 1000), problem }, "placement: partitions have no holder, and their users wait: raise maxPartitions or add a node; check NATS");
    else log.info("placement: every partition has a holder again");
  }

  async stop(): Promise<void> {
    if (this.#alarm !== null) clearInterval(this.#alarm);
    if (this.#follower !== null) clearInterval(this.#follower);
    await this.#backlogs.stop();
    await this.#holder.stop();
    await this.#records.close();
  }

  usage(): PartitionsUsage {
    const { claims, losses, handovers } = this;
    return { ...this.#holder.usage(), claims, losses, handovers, backlogs: this.#backlogs.all };
  }

  /** For the heartbeat. */
  holds(): string {
    return reportOfHeld(this.#claims);
  }

  /** Without a lease: users go to the nodes that report to hold their partitions. With one again, what NATS says counts. */
  #follow(): void {
    const { config: { nodeId, nodeHeartbeatMs, placementPartitions: partitions }, nodes, placement } = this.#options;
    if (this.#holder.hasLease) {
      if (this.#hasFollowed) for (const { partition, owner } of this.reports()) placement.assign(partition, owner);
      this.#hasFollowed = false;
      return;
    }
    readHeldElsewhere(nodes(), nodeId, partitions, freshBeats * nodeHeartbeatMs, (partition, owner) => {
      this.#hasFollowed = true;
      placement.assign(partition, owner);
    });
  }

  /** Those that this node holds. The first node of all also looks at those that nobody holds. */
  #lookedAt(): Looked[] {
    const { config: { nodeId }, nodes } = this.#options;
    const first = nodes().filter(({ state }) => state === "up").map(({ id }) => id).sort()[0];
    return this.reports().filter(({ here, unownedMs }) => here === "held" || (unownedMs > 0 && first === nodeId));
  }

  readonly report = (partition: number): PartitionReport => this.#holder.report(partition);

  reports(): PartitionReport[] {
    return Array.from({ length: this.#options.config.placementPartitions }, (_, partition) => this.#holder.report(partition));
  }

  /** For the list of nodes. */
  said(): PartitionsSaid {
    const { held, maxPartitions: max, unowned, backlogs } = this.usage();
    return { held, max, unowned, backlog: backlogs.reduce((sum, { messages }) => sum + messages, 0), oldestMs: backlogs[0]?.ageMs ?? 0 };
  }
}

/** While the node starts. */
export function holdsNothing({ maxPartitions }: Config): PartitionsUsage {
  return { held: 0, claiming: 0, leaving: 0, maxPartitions, unowned: 0, unownedMs: 0, leaseMs: 0, problem: "the node starts", claims: 0, losses: 0, handovers: 0, backlogs: [] };
}

/** Null: users have no holder. @throws ConfigError where NATS does not let the node keep leases */
export async function openPartitions(given: Omit<PartitionsOptions, "gate" | "queues"> & { readonly gate: SharedArrayBuffer | null; readonly queues: RoomQueues | null }): Promise<Partitions | null> {
  const { gate, queues, config, log } = given;
  if (gate === null || queues === null) return null;
  const options = { ...given, gate, queues };
  const { openRecords } = await import("../broker/nats/records/records.ts");
  try {
    const { nodeId: node, natsPrefix: prefix } = config;
    return new Partitions(options, await openRecords({ ...natsAccess(config), node, prefix, replicas: Number(config.natsReplicas), leaseMs, answerMs, log }));
  } catch (error) {
    if ((error as Error).name !== "NatsProblem") throw error;
    throw new ConfigError([`--nats ${showValue(config, "nats")}: ${(error as Error).message}`]);
  }
}

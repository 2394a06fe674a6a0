/**
 * How much waits in the queues of partitions: of those that this node holds, and of those that nobody holds, which the
 * first node of all looks after. That tells an operator, or an autoscaler, to add nodes.
 */
export interface PartitionBacklog {
  readonly partition: number;
  /** Direct messages that were not handed to the user's sessions yet. */
  readonly messages: number;
  /** Age of the oldest of them, by the clocks of this machine and of NATS. */
  readonly ageMs: number;
}

/** A partition to look at, and the epoch whose consumer has its floor. */
export interface Looked {
  readonly partition: number;
  readonly epoch: number;
}

export interface BacklogOptions {
  readonly queue: {
    /** Messages that the epoch's consumer has not acknowledged, and when the first of them was stored; 0: unknown. Null: there is no such consumer. */
    backlogOf(partition: number, epoch: number): Promise<{ readonly pending: number; readonly since: number } | null>;
  };
  /** Asked before each look. */
  partitions(): readonly Looked[];
}

const lookMs = 5_000;

export class Backlogs {
  readonly #options: BacklogOptions;
  #found: readonly PartitionBacklog[] = [];
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;

  constructor(options: BacklogOptions) {
    this.#options = options;
  }

  /** Those with a backlog, the oldest first. */
  get all(): readonly PartitionBacklog[] {
    return this.#found;
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), lookMs).unref();
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#looking;
  }

  /** Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = null));
    return this.#looking;
  }

  async #look(): Promise<void> {
    const found: PartitionBacklog[] = [];
    for (const { partition, epoch } of this.#options.partitions()) {
      // While NATS does not answer, the last figures stay.
      const backlog = await this.#options.queue.backlogOf(partition, epoch).catch(() => undefined);
      if (backlog === undefined) return;
      if (backlog !== null && backlog.pending > 0) found.push({ partition, messages: backlog.pending, ageMs: backlog.since === 0 ? 0 : Math.max(0, Date.now() - backlog.since) });
    }
    this.#found = found.sort((a, b) => b.ageMs - a.ageMs);
  }
}

/** A partition that this node delivers for: its pull, and how far its messages were acknowledged. */
import type { Claimed } from "./claim.ts";
import type { PartitionQueue, Pull, QueuedMessage } from "./leases.ts";

export interface HoldingEvents<M extends QueuedMessage> {
  message(message: M): void;
  lost(reason: string): void;
}

export class Holding<M extends QueuedMessage> {
  readonly claimed: Claimed;
  /** Goes with its messages to the reactors. */
  readonly claim: number;
  /** It is about to go to another node. */
  isLeaving = false;
  /** What the assignment says of the floor, and when this node wrote that, or tried to. */
  recordedFloor: number;
  recordedAt: number;
  /** Messages that were pulled and not acknowledged, and those acknowledged behind one of them: in order. */
  readonly #open = new Map<number, boolean>();
  #floor: number;
  #pull: Pull | null = null;
  #whenIdle: (() => void) | null = null;

  constructor(claimed: Claimed, claim: number, now: number) {
    this.claimed = claimed;
    this.claim = claim;
    this.#floor = this.recordedFloor = claimed.floor;
    this.recordedAt = now;
  }

  /** All messages up to this sequence were delivered. */
  get floor(): number {
    return this.#floor;
  }

  /** Pulled and not acknowledged. */
  get open(): number {
    return this.#open.size;
  }

  begin(queue: PartitionQueue<M>, { message, lost }: HoldingEvents<M>): void {
    const { partition, epoch } = this.claimed;
    this.#pull = queue.pull(partition, epoch, {
      message: (one) => {
        if (this.#pull === null || this.isLeaving) return;
        this.#open.set(one.seq, false);
        message(one);
      },
      lost: (reason) => {
        if (this.#pull !== null) lost(reason);
      },
    });
  }

  acknowledged(seq: number): void {
    if (this.#open.get(seq) !== false) return;
    this.#pull?.acknowledge(seq);
    this.#open.set(seq, true);
    for (const [first, isDone] of this.#open) {
      if (!isDone) return;
      this.#floor = first;
      this.#open.delete(first);
    }
    this.#whenIdle?.();
  }

  /** Pulls no more. @param idle is called when everything that was pulled is acknowledged: perhaps at once */
  leave(idle: () => void): void {
    this.isLeaving = true;
    this.#pull?.stop();
    this.#whenIdle = idle;
    if (this.#open.size === 0) idle();
  }

  close(): void {
    const pull = this.#pull;
    this.#pull = null;
    this.#whenIdle = null;
    pull?.close();
  }
}

/** The queue of each partition on its leader, and the consumers of it. */
import type { PartitionState } from "../../../src/placement/leases/leases.ts";

interface SimulatedConsumer {
  /** Where it began. */
  readonly from: number;
  floor: number;
  /** Index of the first message behind it. */
  next: number;
  readonly acknowledged: Set<number>;
  /** Told of messages behind the floor, and of its end. */
  puller: { message(seq: number): void; lost(): void } | null;
}

export class SimulatedQueue {
  readonly #messages: number[][];
  readonly #consumers: Map<number, SimulatedConsumer>[];
  onAcknowledged: (partition: number, epoch: number, floor: number) => void = () => {};
  #last = 0;

  constructor(partitions: number) {
    this.#messages = Array.from({ length: partitions }, () => []);
    this.#consumers = Array.from({ length: partitions }, () => new Map<number, SimulatedConsumer>());
  }

  messages(partition: number): readonly number[] {
    return this.#messages[partition]!;
  }

  publish(partition: number): void {
    const seq = ++this.#last;
    this.#messages[partition]!.push(seq);
    for (const consumer of this.#consumers[partition]!.values()) consumer.puller?.message(seq);
  }

  state(partition: number): PartitionState {
    const consumers = [...this.#consumers[partition]!].map(([epoch, { floor }]) => ({ epoch, floor }));
    return { stream: "1", last: this.#last, consumers };
  }

  create(partition: number, epoch: number, floor: number): void {
    const consumers = this.#consumers[partition]!;
    if (!consumers.has(epoch)) consumers.set(epoch, { from: floor, floor, next: this.#behind(partition, floor), acknowledged: new Set(), puller: null });
  }

  /** Servers that were restarted have no consumers any more, or those stand where they began. A pull hands over nothing twice. */
  forget(areGone: boolean): void {
    for (const [partition, consumers] of this.#consumers.entries()) {
      if (areGone) this.deleteWhere(partition, () => true);
      for (const consumer of consumers.values()) {
        consumer.floor = consumer.from;
        consumer.next = this.#behind(partition, consumer.from);
        consumer.acknowledged.clear();
      }
    }
  }

  #behind(partition: number, floor: number): number {
    return this.#messages[partition]!.findLastIndex((seq) => seq <= floor) + 1;
  }

  deleteWhere(partition: number, isOver: (epoch: number) => boolean): void {
    for (const [epoch, { puller }] of this.#consumers[partition]!) {
      if (!isOver(epoch)) continue;
      this.#consumers[partition]!.delete(epoch);
      puller?.lost();
    }
  }

  /** False: there is no such consumer. */
  pull(partition: number, epoch: number, puller: NonNullable<SimulatedConsumer["puller"]>): boolean {
    const consumer = this.#consumers[partition]!.get(epoch);
    if (consumer === undefined) return false;
    consumer.puller = puller;
    for (const seq of this.#messages[partition]!.slice(consumer.next)) puller.message(seq);
    return true;
  }

  acknowledge(partition: number, epoch: number, seq: number): void {
    const consumer = this.#consumers[partition]!.get(epoch);
    if (consumer === undefined) return;
    consumer.acknowledged.add(seq);
    const messages = this.#messages[partition]!;
    for (let one = messages[consumer.next]; one !== undefined && consumer.acknowledged.delete(one); one = messages[++consumer.next]) consumer.floor = one;
    this.onAcknowledged(partition, epoch, consumer.floor);
  }
}

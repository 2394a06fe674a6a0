/**
 * The open rooms of this node that have queues, by partition, and the partitions for which it may deliver. A node that
 * does not hold a partition delivers nothing of its rooms, neither what arrives nor what it has read.
 */
import { LRUCache } from "lru-cache";
import type { DurableRoom } from "./room.ts";

/** Subjects whose newest consumed message is remembered. */
const passedMax = 10_000;

export class QueuedRooms {
  /** Whether this node may deliver for a partition now. Set by whoever holds partitions; until then, none is held. */
  holds: (partition: number) => boolean = () => false;
  readonly #rooms = new Map<number, Set<DurableRoom>>();
  readonly #passed = new LRUCache<string, number>({ max: passedMax });

  add(room: DurableRoom): void {
    if (room.queue < 0) return;
    const rooms = this.#rooms.get(room.queue) ?? new Set();
    this.#rooms.set(room.queue, rooms.add(room));
  }

  remove(room: DurableRoom): void {
    const rooms = this.#rooms.get(room.queue);
    if (rooms?.delete(room) === true && rooms.size === 0) this.#rooms.delete(room.queue);
  }

  of(partition: number): DurableRoom[] {
    return [...(this.#rooms.get(partition) ?? [])];
  }

  mayDeliver({ queue }: DurableRoom): boolean {
    return queue < 0 || this.holds(queue);
  }

  /** A message was consumed whose room is not open here. */
  pass(subject: string, seq: number): void {
    this.#passed.set(subject, seq);
  }

  /** The newest such message of a room that is being opened: an old answer about the room's head may lack it. */
  passed(subject: string): number {
    return this.#passed.get(subject) ?? 0;
  }

  stop(): void {
    this.#rooms.clear();
  }
}

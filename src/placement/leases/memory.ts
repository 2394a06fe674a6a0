/** Records and queues of partitions in memory: for tests, and the measure of what other implementations do. */
import type { PartitionConsumer, PartitionQueue, Pull, PullEvents, QueuedMessage, RecordStore, StoredRecord, Written } from "./leases.ts";

export interface MemoryRecordsOptions {
  /** After so long a record expires. 0: never. */
  readonly maxAgeMs: number;
  readonly clock: () => number;
}

const conflict: Written = { kind: "conflict" };

interface AgedRecord extends StoredRecord {
  readonly at: number;
}

export interface MemoryRecords extends RecordStore {
  /** The bucket is deleted and made again. */
  wipe(): void;
}

export function createMemoryRecords({ maxAgeMs, clock }: MemoryRecordsOptions): MemoryRecords {
  let records = new Map<string, AgedRecord>();
  let [last, life, createdAt] = [0, 1, clock()];
  const listeners = new Set<(record: StoredRecord) => void>();

  const find = (key: string): AgedRecord | null => {
    const record = records.get(key);
    return record === undefined || (maxAgeMs > 0 && clock() - record.at >= maxAgeMs) ? null : record;
  };
  const write = (key: string, value: string): Written => {
    const record = { key, value, revision: ++last, at: clock() };
    records.set(key, record);
    for (const listener of listeners) listener({ key, value, revision: record.revision });
    return { kind: "written", revision: record.revision };
  };

  return {
    create: async (key, value) => (find(key) === null ? write(key, value) : conflict),
    update: async (key, value, revision) => (find(key)?.revision === revision ? write(key, value) : conflict),
    read: async (key) => publicRecord(find(key)),
    readAll: async () => [...records.keys()].flatMap((key) => publicRecord(find(key)) ?? []),
    info: async () => ({ created: String(life), ageMs: clock() - createdAt, lastRevision: last }),

    watch(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },

    wipe() {
      records = new Map();
      [last, life, createdAt] = [0, life + 1, clock()];
    },
  };
}

function publicRecord(record: AgedRecord | null): StoredRecord | null {
  return record === null ? null : { key: record.key, value: record.value, revision: record.revision };
}

export interface MemoryQueue<M extends QueuedMessage> extends PartitionQueue<M> {
  /** Sequences MUST increase. */
  publish(partition: number, message: M): void;
}

interface Consumer {
  floor: number;
  readonly acknowledged: Set<number>;
  pull: { readonly events: PullEvents<QueuedMessage>; sent: number; scheduled: boolean } | null;
}

interface Queue<M> {
  readonly messages: M[];
  readonly consumers: Map<number, Consumer>;
}

export function createMemoryQueue<M extends QueuedMessage>(): MemoryQueue<M> {
  const queues = new Map<number, Queue<M>>();

  const queueOf = (partition: number): Queue<M> => {
    let queue = queues.get(partition);
    if (queue === undefined) queues.set(partition, (queue = { messages: [], consumers: new Map() }));
    return queue;
  };
  /** Not from within the call that caused it: the caller does not expect a message there. */
  const schedule = (queue: Queue<M>, consumer: Consumer): void => {
    const { pull } = consumer;
    if (pull === null || pull.scheduled) return;
    pull.scheduled = true;
    queueMicrotask(() => {
      pull.scheduled = false;
      for (const message of queue.messages) {
        if (consumer.pull !== pull) return;
        if (message.seq <= pull.sent) continue;
        pull.sent = message.seq;
        pull.events.message(message);
      }
    });
  };

  return {
    publish(partition, message) {
      const queue = queueOf(partition);
      queue.messages.push(message);
      for (const consumer of queue.consumers.values()) schedule(queue, consumer);
    },

    async state(partition) {
      const { messages, consumers } = queueOf(partition);
      const states: PartitionConsumer[] = [...consumers].map(([epoch, { floor }]) => ({ epoch, floor }));
      return { stream: "1", last: messages.at(-1)?.seq ?? 0, consumers: states };
    },

    async createConsumer(partition, epoch, floor) {
      const { consumers } = queueOf(partition);
      if (!consumers.has(epoch)) consumers.set(epoch, { floor, acknowledged: new Set(), pull: null });
    },

    async deleteConsumersBelow(partition, below) {
      const { consumers } = queueOf(partition);
      for (const [epoch, { pull }] of [...consumers]) {
        if (epoch >= below) continue;
        consumers.delete(epoch);
        if (pull !== null) queueMicrotask(() => pull.events.lost("the consumer was deleted"));
      }
    },

    pull(partition, epoch, events) {
      const queue = queueOf(partition);
      const consumer = queue.consumers.get(epoch);
      if (consumer === undefined) {
        queueMicrotask(() => events.lost("there is no such consumer"));
        return { stop() {}, close() {}, acknowledge() {} };
      }
      consumer.pull = { events, sent: consumer.floor, scheduled: false };
      schedule(queue, consumer);
      return pullOf(queue, consumer);
    },
  };
}

function pullOf(queue: Queue<QueuedMessage>, consumer: Consumer): Pull {
  const own = consumer.pull;
  let isOpen = true;
  const stop = (): void => {
    if (consumer.pull === own) consumer.pull = null;
  };
  return {
    stop,

    close() {
      isOpen = false;
      stop();
    },

    acknowledge(seq) {
      if (!isOpen) return;
      consumer.acknowledged.add(seq);
      for (const message of queue.messages) {
        if (message.seq <= consumer.floor) continue;
        if (!consumer.acknowledged.delete(message.seq)) return;
        consumer.floor = message.seq;
      }
    },
  };
}

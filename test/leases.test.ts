/** What leases stand on: the contract of records and queues. */
import t from "tap";
import { partitionQueueContract, recordStoreContract, type RecordPlace } from "../src/contracts/leases.ts";
import { createMemoryQueue, createMemoryRecords } from "../src/placement/leases/memory.ts";

recordStoreContract(t, "memory", (_, maxAgeMs) => {
  const clock = { now: 1_000 };
  const store = createMemoryRecords({ maxAgeMs, clock: () => clock.now });
  return { open: () => store, wipe: () => store.wipe(), pass: async (ms) => void (clock.now += ms) } satisfies RecordPlace;
});

partitionQueueContract(t, "memory", () => {
  const queue = createMemoryQueue();
  let last = 0;
  return {
    open: () => queue,
    publish: async (partition) => {
      queue.publish(partition, { seq: (last += 1) });
      return last;
    },
  };
});

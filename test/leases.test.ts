/** What leases stand on: the contract of records and queues, and the gate that reactors ask. */
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import t from "tap";
import { partitionQueueContract, recordStoreContract, type RecordPlace } from "../src/contracts/leases.ts";
import { createGate, Gate, GateWriter } from "../src/placement/leases/gate.ts";
import { createMemoryQueue, createMemoryRecords } from "../src/placement/leases/memory.ts";
import { root } from "./support/root.ts";

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

t.test("gate: a delivery is allowed until the lease ends, for the claim that holds", async (t) => {
  const shared = createGate(4);
  const clock = { now: 1_000 };
  const writer = new GateWriter(shared, 500);
  const gate = new Gate(shared, 4, () => clock.now, 500);
  writer.serve(2_000);
  t.notOk(gate.allows(1, 0), "no claim");
  writer.hold(1, 7);
  t.ok(gate.allows(1, 7));
  t.notOk(gate.allows(1, 6), "a message of an earlier claim");
  t.notOk(gate.allows(2, 7), "another partition");
  t.notOk(gate.allows(4, 7), "one that does not exist");
  clock.now = 1_999;
  t.ok(gate.allows(1, 7));
  clock.now = 2_000;
  t.notOk(gate.allows(1, 7), "the lease has ended");
  writer.serve(3_000);
  t.ok(gate.allows(1, 7), "renewed");
  writer.drop(1);
  t.notOk(gate.allows(1, 7), "dropped");
});

t.test("gate: times are right after weeks, when they no longer fit 32 bits", async (t) => {
  const shared = createGate(1);
  for (const days of [0, 24, 25, 49, 50, 400]) {
    const now = days * 86_400_000 + 0.4;
    const writer = new GateWriter(shared, 0);
    const gate = new Gate(shared, 1, () => now, 0);
    writer.hold(0, 1);
    writer.serve(now + 1_000);
    t.ok(gate.allows(0, 1), `${days} days`);
    writer.serve(now - 1);
    t.notOk(gate.allows(0, 1), `${days} days, late`);
  }
});

t.test("gate: a thread that started later has the same time", async (t) => {
  const built = await build({ entryPoints: [join(root, "src/placement/leases/gate.ts")], bundle: true, platform: "node", format: "cjs", write: false });
  const code = `${built.outputFiles[0]!.text}
    const { parentPort, workerData } = require("node:worker_threads");
    const gate = new module.exports.Gate(workerData, 1);
    parentPort.on("message", () => parentPort.postMessage(gate.allows(0, 1)));`;
  const shared = createGate(1);
  const writer = new GateWriter(shared);
  writer.hold(0, 1);
  const worker = new Worker(code, { eval: true, workerData: shared });
  t.teardown(() => worker.terminate());
  const allows = async (until: number) => {
    writer.serve(until);
    worker.postMessage("");
    return (await once(worker, "message"))[0] as boolean;
  };
  t.equal(await allows(performance.now() + 600_000), true);
  t.equal(await allows(performance.now() - 1), false);
});

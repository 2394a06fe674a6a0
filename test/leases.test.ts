/** What leases stand on: the contract of records and queues, and the gate that reactors ask. */
import { once } from "node:events";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import t, { type Test } from "tap";
import { readHeldElsewhere, reportOfHeld } from "../src/node/heldelsewhere.ts";
import type { RegisteredNode } from "../src/registry/registry.ts";
import { partitionQueueContract, recordStoreContract, type RecordPlace } from "../src/contracts/leases.ts";
import { createGate, Gate, GateWriter } from "../src/placement/leases/gate.ts";
import { Holder } from "../src/placement/leases/holder.ts";
import type { HolderEvents } from "../src/placement/leases/holderoptions.ts";
import { leaseMs, type QueuedMessage } from "../src/placement/leases/leases.ts";
import { createMemoryQueue, createMemoryRecords } from "../src/placement/leases/memory.ts";
import { assignmentKey, readAssignment } from "../src/placement/leases/records.ts";
import { SimulatedClock } from "./support/leases/clock.ts";
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

t.test("a node without a lease sends users to the nodes that report their partitions, not to those that have gone silent", async (t) => {
  const at = (id: string, claims: number[], more: object = {}) => ({ id, state: "up", silentMs: 100, holds: reportOfHeld(claims), ...more }) as RegisteredNode;
  const found: [number, string][] = [];
  const nodes = [
    at("self", [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), at("a", [0, 7, 0, 0, 0, 0, 0, 0, 0, 9]), at("silent", [0, 0, 1, 0], { silentMs: 1_000 }),
    at("drains", [0, 0, 0, 1], { state: "draining" }), at("old", [], { holds: undefined }), at("odd", [], { holds: "?" }), at("short", [0, 0, 0, 0, 5]),
  ];
  readHeldElsewhere(nodes, "self", 10, 1_000, (partition, owner) => void found.push([partition, owner]));
  t.same(found, [[1, "a"], [9, "a"], [4, "short"]]);
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

/** Holders of some nodes over one store, on a clock that the test holds. The table's owner of everything is a. */
function startHolders(t: Test, partitions: number) {
  const clock = new SimulatedClock();
  clock.now = 60_000;
  const pass = async (ms: number) => {
    for (const end = clock.now + ms; clock.now < end; await turn()) await clock.runUntil(clock.now + 10);
  };
  const timers = {
    now: () => clock.now,
    after: (ms: number, run: () => void) => {
      const event = clock.at(clock.now + ms, run);
      return () => void (event.run = null);
    },
  };
  const old = () => clock.now + 1e6;
  const [leases, assignments] = [createMemoryRecords({ maxAgeMs: leaseMs, clock: old }), createMemoryRecords({ maxAgeMs: 0, clock: old })];
  const queue = createMemoryQueue();
  const nodes: { id: string; state: "up" | "draining"; maxPartitions: number }[] = ["a", "b", "c"].map((id) => ({ id, state: "up", maxPartitions: 0 }));
  const quiet = { info() {}, warn() {}, error() {} };
  let boots = 0;
  const start = (node: string, events: Partial<HolderEvents<QueuedMessage>>, mayRebalance = false) => {
    const holder: Holder<QueuedMessage> = new Holder({
      node, partitions, maxPartitions: 0, leases, assignments, queue, timers, log: quiet, gate: new GateWriter(createGate(partitions), 0), randomId: () => `${node}${boots++}`,
      world: { ownerOf: () => "a", heirOf: (partition) => (partition % 2 === 0 ? "b" : "c"), nodes: () => nodes, mayRebalance: () => mayRebalance },
      events: {
        held() {}, dropped() {}, leaving() {}, assigned() {},
        message: (partition, claim, { seq }) => holder.acknowledged(partition, claim, seq),
        ...events,
      },
    });
    holder.start();
    t.teardown(async () => {
      void holder.stop();
      await pass(10);
    });
    return holder;
  };
  const recordOf = async (partition: number) => {
    const { value, revision } = (await assignments.read(assignmentKey(partition)))!;
    return { ...readAssignment(value)!, revision };
  };
  return { nodes, queue, pass, start, recordOf };
}

t.test("a node that drains hands over a few partitions at once, to the table's next owner, and their users belong there at once", async (t) => {
  const partitions = 12;
  const { nodes, pass, start } = startHolders(t, partitions);
  const seen: string[][] = Array.from({ length: partitions }, () => []);
  const held = new Set<number>();
  let mostAtOnce = 0;
  const [a, b, c] = ["a", "b", "c"].map((node) => start(node, {
    held: (partition) => void held.add(partition),
    dropped: (partition) => {
      held.delete(partition);
      mostAtOnce = Math.max(mostAtOnce, partitions - held.size);
    },
    assigned: (partition, owner) => void (node === "b" && seen[partition]!.at(-1) !== owner && seen[partition]!.push(owner)),
  }));
  await pass(20_000);
  t.equal(a!.usage().held, partitions, "the table's owner has all");
  nodes[0]!.state = "draining";
  let isDrained = false;
  void a!.drain().then(() => (isDrained = true));
  await pass(1_000);
  t.ok(isDrained, "without waiting for a time to pass");
  t.equal(b!.usage().held + c!.usage().held, partitions);
  t.equal(mostAtOnce, 4);
  t.same(seen, Array.from({ length: partitions }, (_, i) => ["a", i % 2 === 0 ? "b" : "c"]), "nobody was sent to a node that does not get it, nor told that there is none");
});

t.test("a holder records how far it has delivered, at most every ten seconds, and the next one goes on from there where the consumers are gone", async (t) => {
  const { queue, pass, start, recordOf } = startHolders(t, 1);
  const a = start("a", {});
  await pass(20_000);
  const before = await recordOf(0);
  t.same([before.owner, before.state, before.floor], ["a", "held", 0]);
  await pass(30_000);
  t.equal((await recordOf(0)).revision, before.revision, "nothing is written where nothing is delivered");
  for (let seq = 1; seq <= 100; seq++) {
    queue.publish(0, { seq });
    await pass(500);
  }
  const after = await recordOf(0);
  t.ok(after.floor > 75 && after.floor <= 100, `up to ${after.floor}`);
  t.ok(after.revision - before.revision <= 6, `${after.revision - before.revision} writes in 50 s`);
  t.same([after.owner, after.boot, after.epoch, after.state], [before.owner, before.boot, before.epoch, before.state]);
  await pass(12_000);
  t.equal((await recordOf(0)).floor, 100, "and the last of it");
  await queue.deleteConsumersBelow(0, Infinity);
  await pass(5_000);
  const [again, state] = [await recordOf(0), await queue.state(0)];
  t.ok(again.epoch > after.epoch, "claimed again");
  t.same(state.consumers, [{ epoch: again.epoch, floor: 100 }]);
  t.equal(a.usage().held, 1);
});

t.test("a partition is not handed over to a node that has no lease", async (t) => {
  const { pass, start, recordOf } = startHolders(t, 2);
  start("b", {}, true);
  await pass(30_000);
  const before = await recordOf(0);
  t.equal(before.owner, "b", "the table's owner does not reach the leases");
  await pass(30_000);
  t.same(await recordOf(0), before, "and it stays");
  start("a", {});
  await pass(60_000);
  t.equal((await recordOf(0)).owner, "a", "until that node has one");
});

// The other thread of link-threads.test.ts, in one of two roles. It is no TypeScript and runs on what is built, since a thread
// does not get the loader of the thread that starts it in every version of Node.
import { parentPort, workerData } from "node:worker_threads";
import { Link } from "../../dist/link/link.js";
import { RingReader } from "../../dist/link/ring.js";

const { role, ring, back, state } = workerData;

/** A reader that sleeps in the kernel, so that nothing but the doorbell wakes it: no other event of a loop. */
function sleeper() {
  const [seen, bell, slept] = [0, 1, 2];
  const reader = new RingReader(ring);
  let next = 0;
  let rung = 0;
  while (next < workerData.records) {
    const more = reader.read(1 << 20, (_, start) => {
      if (reader.bytes.readUInt32LE(start) !== next) throw new Error(`record ${next} came as ${reader.bytes.readUInt32LE(start)}`);
      Atomics.store(state, seen, ++next);
      Atomics.notify(state, seen);
    });
    if (more || next === workerData.records || !reader.sleep()) continue;
    if (Atomics.wait(state, bell, rung) === "ok") Atomics.add(state, slept, 1);
    rung = Atomics.load(state, bell);
  }
}

/** A link on an event loop, as reactors and hub have one: it answers every record with the same. "stand still" takes its thread. */
function echo() {
  const [gate] = [3];
  let next = 0;
  const link = new Link({
    out: back, in: ring, overflowBytesMax: 1 << 20, readBudgetBytes: 4096,
    wakeRestMs: workerData.wakeRestMs,
    ringDoorbell: () => parentPort.postMessage("doorbell"),
    onBatchEnd: () => {},
    onRecord: (_, record) => {
      const i = record.u32();
      if (i !== next++) throw new Error(`record ${next - 1} came as ${i}`);
      link.begin(1, 4, true);
      link.u32(i);
      link.end();
    },
  });
  parentPort.on("message", (message) => {
    if (message === "doorbell") return link.wake();
    if (message === "end") return parentPort.close();
    parentPort.postMessage("stands still");
    Atomics.wait(state, gate, 0);
    Atomics.store(state, gate, 0);
  });
}

({ sleeper, echo })[role]();

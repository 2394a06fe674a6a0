// The writing thread of link.test.ts: numbered records of changing sizes, as fast as the ring takes them. It is no TypeScript
// and runs on what is built, since a thread does not get the loader of the thread that starts it in every version of Node.
import { parentPort, workerData } from "node:worker_threads";
import { RingWriter } from "../../dist/link/ring.js";

const { shared, records } = workerData;
const ring = new RingWriter(shared);
for (let i = 0; i < records; i++) {
  const bytes = 4 + (i % 97);
  let at = ring.reserve(bytes);
  while (at < 0) at = ring.reserve(bytes);
  ring.bytes.writeUInt32LE(i, at);
  ring.bytes.fill(i & 255, at + 4, at + bytes);
  if (ring.commit(1 + (i % 5), bytes)) parentPort.postMessage("doorbell");
}

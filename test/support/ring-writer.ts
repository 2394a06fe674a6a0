/** The writing thread of ring.test.ts: numbered records of changing sizes, as fast as the ring takes them. */
import { parentPort, workerData } from "node:worker_threads";
import { RingWriter } from "../../src/link/ring.ts";

const { shared, records } = workerData as { shared: SharedArrayBuffer; records: number };
const ring = new RingWriter(shared);
for (let i = 0; i < records; i++) {
  const bytes = 4 + (i % 97);
  let at = ring.reserve(bytes);
  while (at < 0) at = ring.reserve(bytes);
  ring.bytes.writeUInt32LE(i, at);
  ring.bytes.fill(i & 255, at + 4, at + bytes);
  if (ring.commit(1 + (i % 5), bytes)) parentPort!.postMessage("doorbell");
}

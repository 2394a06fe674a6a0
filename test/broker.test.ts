import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock } from "node:test";
import t from "tap";
import type { Published } from "../src/broker/broker.ts";
import { createLogBroker } from "../src/broker/disk/log.ts";
import { createMemoryBroker } from "../src/broker/memory.ts";
import { createNatsBroker } from "../src/broker/nats/broker.ts";
import { brokerBytesContract, brokerContract, brokerTimeContract, type MakeBroker } from "../src/contracts/broker.ts";
import { brokerOptions } from "./support/natsbroker.ts";
import { startNats } from "./support/nats.ts";

const folders = mkdtempSync(join(tmpdir(), "flux-broker-"));
t.teardown(() => rmSync(folders, { recursive: true }));
const quiet = { info() {}, warn() {}, error() {} };

const nats = await startNats(t);

const implementations: { name: string; make: MakeBroker; hasClock: boolean; bytesPerRoom: boolean }[] = [
  { name: "memory", hasClock: true, bytesPerRoom: true, make: (options, deliver, clock) => createMemoryBroker({ ...options, clock }, deliver) },
  {
    name: "log",
    hasClock: true,
    bytesPerRoom: true,
    make: (options, deliver, clock) =>
      createLogBroker(
        {
          ...options,
          clock,
          folder: mkdtempSync(join(folders, "log-")),
          dataBytesMax: options.historyTotalBytesMax,
          sync: true,
          uncommittedBytesMax: 1024 * 1024,
          retentionOf: () => null,
          log: quiet,
        },
        deliver,
      ),
  },
  // Time is the server's, and a stream knows no bytes of a room.
  {
    name: "nats",
    hasClock: false,
    bytesPerRoom: false,
    make: (options, deliver) => createNatsBroker({ ...brokerOptions(nats), ...options }, deliver),
  },
];

for (const { name, make, hasClock, bytesPerRoom } of implementations) {
  brokerContract(t, name, make);
  if (bytesPerRoom) brokerBytesContract(t, name, make);
  if (hasClock) brokerTimeContract(t, name, make);
}

/** Not of the contract: it is about the timer on which this broker forgets, which is made to tick here. */
t.test("memory: a key outlives its idle room, which used to be forgotten after a minute and its keys with it", async (t) => {
  mock.timers.enable({ apis: ["setInterval"] });
  t.teardown(() => mock.timers.reset());
  const clock = { time: 1_000_000 };
  const options = { roomsMax: 10, historyTotalBytesMax: 1e6, keyWindowMs: 120_000, keysPerRoomMax: 10, clock: () => clock.time };
  const broker = createMemoryBroker(options, () => t.fail("nobody is in the room"));
  const ephemeral = { durable: false, historySize: 0, historyTtlMs: 0, historyBytesMax: 0 };
  const pay = (key: string): Published => {
    const draft = { sender: "ann", payload: new Uint8Array(1), format: 0, key, origin: "" };
    let published: Published | undefined;
    broker.publish("orders", ephemeral, draft, (answer) => (published = "value" in answer ? answer.value : undefined));
    if (published === undefined) throw new Error("the memory broker answers before publish returns");
    return published;
  };
  const pass = (ms: number) => {
    clock.time += ms;
    mock.timers.tick(60_000);
  };
  const first = pay("order-1");
  pass(75_000);
  t.equal(broker.usage().rooms, 1);
  t.same(pay("order-1"), { epoch: first.epoch, seq: first.seq, duplicate: true });
  pass(75_000);
  t.equal(pay("order-1").duplicate, false, "its window is over");
  pass(59_000);
  pass(59_000);
  t.equal(broker.usage().rooms, 1, "the window of the second is not");
  pass(3_000);
  t.equal(broker.usage().rooms, 0, "then the room is forgotten");
  await broker.stop();
});

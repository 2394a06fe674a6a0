/** The system's clock is set while a node runs: what is kept for a time is kept for that time. */
import t, { type Test } from "tap";
import { resolveConfig } from "../src/config/config.ts";
import type { Answer, Page } from "../src/broker/broker.ts";
import { createLogBroker } from "../src/broker/disk/log.ts";
import { createMemoryBroker } from "../src/broker/memory.ts";
import { HubRooms } from "../src/hub/rooms.ts";
import { TailBudget } from "../src/hub/recovery/tail.ts";
import { compileKinds } from "../src/config/roomnames.ts";
import { createDiskSessions } from "../src/sessions/disk.ts";
import { createMemorySessions } from "../src/sessions/memory.ts";
import { value } from "../src/contracts/answers.ts";
import { promised, record } from "../src/contracts/sessions.ts";
import { startNats } from "./support/nats.ts";
import { brokerOptions, startBroker } from "./support/natsbroker.ts";
import { until } from "./support/until.ts";

const hourMs = 3_600_000;
const minuteMs = 60_000;

/** By how much each is off what it really is. Replaced before anything takes them for its own. */
const off = { system: 0, steady: 0 };
const [system, steady] = [Date.now, performance.now.bind(performance)];
Date.now = () => system() + off.system;
performance.now = () => steady() + off.steady;
t.afterEach(() => void Object.assign(off, { system: 0, steady: 0 }));

function emptyRoom() {
  const rooms = new HubRooms({ roomsMax: 1, reactors: 1, tailLimits: { publicationsMax: 1, bytesMax: 1 }, tailBudget: new TailBudget(1) });
  const room = rooms.create("chat:a", compileKinds(resolveConfig().config)("chat:a")!)!;
  rooms.opened(room, "epoch", 0);
  return { rooms, room };
}

t.test("a room whose members have just left keeps its place when the clock is set ahead", async (t) => {
  const { rooms } = emptyRoom();
  off.system = hourMs;
  t.same(rooms.expired(), []);
});

t.test("one that has been empty long enough is forgotten though the clock was set back", async (t) => {
  const { rooms, room } = emptyRoom();
  Object.assign(off, { system: -hourMs, steady: minuteMs + 1 });
  t.same(rooms.expired(), [room]);
});

t.test("a publish that is repeated with its key takes place once though the clock is set ahead, and again when the window is over", async (t) => {
  const seqs: number[] = [];
  const broker = createMemoryBroker({ roomsMax: 1, historyTotalBytesMax: 1000, keyWindowMs: minuteMs, keysPerRoomMax: 10 }, (_, { seq }) => void seqs.push(seq));
  t.teardown(() => broker.stop());
  const retention = { durable: true, historySize: 10, historyTtlMs: 24 * hourMs, historyBytesMax: 1000 };
  const publish = () => broker.publish("chat:a", retention, { sender: "ann", key: "k", payload: Buffer.from("x"), format: 0, origin: "" }, () => {});
  broker.open("chat:a", retention, () => {});
  publish();
  off.system = hourMs;
  publish();
  t.same(seqs, [1]);
  Object.assign(off, { system: -hourMs, steady: minuteMs + 1 });
  publish();
  t.same(seqs, [1, 2]);
});

t.test("NATS that was away is found again at once though the clock was set back after the node had connected", async (t) => {
  const nats = await startNats(t);
  off.system = hourMs;
  const { broker } = await startBroker(t, brokerOptions(nats));
  off.system = 0;
  await nats.stop();
  await until(() => broker.nats().away, "it to be noticed");
  await nats.start();
  await until(() => !broker.nats().away, "it to be back");
});

const quiet = { info() {}, warn() {}, error() {} };

t.test("with a data directory, too: a repeated publish takes place once though the clock is set ahead, also after a restart", async (t) => {
  const folder = t.testdir();
  const seqs: number[] = [];
  const retention = { durable: true, historySize: 10, historyTtlMs: 24 * hourMs, historyBytesMax: 1000 };
  const start = () => createLogBroker({
    folder, sync: false, roomsMax: 1, historyTotalBytesMax: 1000, dataBytesMax: 1 << 20, uncommittedBytesMax: 1 << 16, keyWindowMs: minuteMs, keysPerRoomMax: 10, retentionOf: () => retention, log: quiet,
  }, (_, { seq }) => void seqs.push(seq));
  let broker = await start();
  t.teardown(() => broker.stop());
  const publish = () => new Promise((resolve) => broker.publish("chat:a", retention, { sender: "ann", key: "k", payload: Buffer.from("x"), format: 0, origin: "" }, resolve));
  const opened = () => new Promise((resolve) => broker.open("chat:a", retention, resolve));
  await opened();
  await publish();
  off.system = hourMs;
  t.match(await publish(), { value: { seq: 1, duplicate: true } });
  off.system = 0;
  await broker.stop();
  broker = await start();
  await opened();
  t.match(await publish(), { value: { seq: 1, duplicate: true } }, "after a restart");
  Object.assign(off, { system: -hourMs, steady: minuteMs + 1 });
  t.match(await publish(), { value: { seq: 2, duplicate: false } }, "when the window is over");
  t.same(seqs, [1, 2]);
});

t.test("what a room keeps does not expire when the clock is set ahead, in memory and in a data directory", async (t) => {
  const retention = { durable: true, historySize: 10, historyTtlMs: 10 * minuteMs, historyBytesMax: 1000 };
  const options = { roomsMax: 1, historyTotalBytesMax: 1000, keyWindowMs: minuteMs, keysPerRoomMax: 10 };
  const brokers = [
    createMemoryBroker(options, () => {}),
    await createLogBroker({ ...options, folder: t.testdir(), sync: false, dataBytesMax: 1 << 20, uncommittedBytesMax: 1 << 16, retentionOf: () => retention, log: quiet }, () => {}),
  ];
  for (const broker of brokers) {
    t.teardown(() => broker.stop());
    await new Promise((resolve) => broker.open("chat:a", retention, resolve));
    await new Promise((resolve) => broker.publish("chat:a", retention, { sender: "ann", key: "", payload: Buffer.from("x"), format: 0, origin: "" }, resolve));
    const query = { direction: "newest", position: { epoch: "", seq: 0 }, limit: 10, bytesMax: 1000 } as const;
    const count = async () => value(await new Promise<Answer<Page>>((resolve) => broker.history("chat:a", retention, query, resolve))).publications.length;
    off.system = hourMs;
    t.equal(await count(), 1);
    Object.assign(off, { system: 10 * minuteMs + 1, steady: 10 * minuteMs + 1 });
    t.equal(await count(), 0, "when the time is over");
    Object.assign(off, { system: 0, steady: 0 });
  }
});

const kept = { ttlMs: minuteMs, sessionsMax: 10, cursorsMax: 10 };

for (const [where, start] of [
  ["in memory", () => createMemorySessions(kept)],
  ["in a data directory", (t: Test) => createDiskSessions({ ...kept, folder: t.testdir(), sync: false, uncommittedBytesMax: 1 << 16, log: quiet })],
] as const) t.test(`a session that is away, ${where}, can be resumed when the clock is set ahead, and no longer than it may when it is set back`, async (t) => {
  const sessions = await start(t);
  t.teardown(() => sessions.stop());
  const { take } = promised(sessions);
  sessions.put(record("s"));
  off.system = hourMs;
  t.ok(value(await take("s")));
  Object.assign(off, { system: -hourMs, steady: minuteMs + 1 });
  t.equal(value(await take("s")), null);
});

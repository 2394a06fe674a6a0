/**
 * Rings and links between two real threads, each of which sleeps and is woken by nothing but the other's doorbell. A wake-up
 * that is lost leaves both asleep: then the test ends by its limit. That is the only clock here.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import t, { type Test } from "tap";
import { Link } from "../src/link/link.ts";
import { createRing, RingWriter } from "../src/link/ring.ts";
import { within } from "./support/rawsocket.ts";
import { until } from "./support/until.ts";

const limitMs = 120_000;
/** Places in the state that both threads share. */
const [seen, bell, slept, gate] = [0, 1, 2, 3];

function startPeer(t: Test, role: "sleeper" | "echo", more: object) {
  const ring = createRing(1024);
  const back = createRing(1024);
  const state = new Int32Array(new SharedArrayBuffer(64));
  const worker = new Worker(new URL("./support/ring-peer.mjs", import.meta.url), { workerData: { role, ring, back, state, ...more } });
  t.teardown(() => worker.terminate());
  const failed = new Promise<never>((_, reject) => worker.once("error", reject));
  failed.catch(() => undefined); // who waits for the thread hears of it
  return { ring, back, state, worker, within: <T>(promise: Promise<T>, what: string) => within(Promise.race([promise, failed]), what, limitMs) };
}

t.test("a reader that goes to sleep while a record is written is woken, in 10,000 rounds", async (t) => {
  const records = 10_000;
  const peer = startPeer(t, "sleeper", { records });
  const writer = new RingWriter(peer.ring);
  const { state } = peer;
  const giveUpAt = performance.now() + limitMs;
  let doorbells = 0;
  for (let i = 0; i < records; i++) {
    const at = writer.reserve(4);
    writer.bytes.writeUInt32LE(i, at);
    if (writer.commit(1, 4)) {
      doorbells++;
      Atomics.add(state, bell, 1);
      Atomics.notify(state, bell);
    }
    // The next one is written just after this one was read, at another moment each time of the reader's way to sleep.
    for (let looks = 0; Atomics.load(state, seen) !== i + 1; looks++) {
      if (looks < 2_000) continue;
      Atomics.wait(state, seen, i, 100);
      if (performance.now() > giveUpAt) throw new Error(`record ${i} of ${records} lies there and the reader sleeps`);
    }
    for (let spins = i % 61; spins > 0; spins--) Atomics.load(state, seen);
  }
  await peer.within(once(peer.worker, "exit"), "the reader to have everything");
  t.ok(doorbells > 0 && Atomics.load(state, slept) > 0, "it really slept");
  t.comment(`${doorbells} doorbells, asleep ${Atomics.load(state, slept)} times`);
});

/** A link to a thread that answers each record with the same. It goes on only when the other's doorbell rings. */
function startEcho(t: Test, overflowBytesMax: number, wakeRestMs = 0) {
  const peer = startPeer(t, "echo", { wakeRestMs });
  const { worker } = peer;
  let written = 0;
  let echoed = 0;
  let rung = 0;
  let turns = 0;
  let onStanding = () => {};
  let onWoken = () => {};
  const link = new Link({
    out: peer.ring, in: peer.back, overflowBytesMax, readBudgetBytes: 4096, wakeRestMs,
    ringDoorbell: () => worker.postMessage("doorbell"),
    onTurn: () => void turns++,
    onBatchEnd: () => onWoken(),
    onRecord: (_, record) => {
      const i = record.u32();
      if (i !== echoed++) throw new Error(`answer ${echoed - 1} came as ${i}`);
    },
  });
  worker.on("message", (message) => {
    if (message !== "doorbell") return onStanding();
    rung++;
    link.wake();
  });
  t.teardown(() => link.close());
  return {
    link,
    get written() { return written; },
    get echoed() { return echoed; },
    get rung() { return rung; },
    get turns() { return turns; },
    write: (mustPass: boolean): boolean => {
      if (!link.begin(1, 24, mustPass)) return false;
      link.u32(written++);
      link.blob(new Uint8Array(written % 16));
      link.end();
      return true;
    },
    /** Looked at only when the link was woken. */
    until: (condition: () => boolean, what: string): Promise<void> =>
      peer.within(new Promise<void>((resolve) => {
        onWoken = () => condition() && resolve();
        onWoken();
      }), what),
    /** Its thread does nothing from here on, until `goOn`. */
    standStill: () => peer.within(new Promise<void>((resolve) => {
      onStanding = resolve;
      worker.postMessage("stand still");
    }), "the other thread to stand still"),
    goOn: () => {
      Atomics.store(peer.state, gate, 1);
      Atomics.notify(peer.state, gate);
    },
    end: async () => {
      worker.postMessage("end");
      await peer.within(once(worker, "exit"), "the other thread to end");
    },
  };
}

for (const [wakeRestMs, rounds] of [[0, 3_000], [1, 500]] as const) t.test(`two links that wait for each other's answer are woken each time, in ${rounds} rounds, ${wakeRestMs} ms between wakes`, async (t) => {
  const echo = startEcho(t, 1e6, wakeRestMs);
  for (let round = 0; round < rounds; round++) {
    for (let n = round % 7; n >= 0; n--) echo.write(false);
    await echo.until(() => echo.echoed === echo.written, `the answers of round ${round}`);
  }
  // The other thread answers while it reads, and then says how far it has read.
  await until(() => echo.link.depth.ring === 0, "all to be read");
  t.equal(echo.link.depth.overflow, 0);
  t.ok(echo.rung > 0, `${echo.rung} doorbells`);
  await echo.end();
});

t.test("a writer whose ring and overflow are full is woken when there is room, each time of 50,000 records", async (t) => {
  const echo = startEcho(t, 200);
  let waits = 0;
  while (echo.written < 50_000) {
    if (echo.write(false)) continue;
    waits++;
    await echo.until(() => !echo.link.congested, `room for record ${echo.written}`);
  }
  await echo.until(() => echo.echoed === echo.written, "every answer");
  t.ok(waits > 100, `it waited ${waits} times`);
  // The other thread answers while it reads, and then says how far it has read.
  await until(() => echo.link.depth.ring === 0, "all to be read");
  t.equal(echo.link.depth.overflow, 0);
  await echo.end();
});

t.test("a reader that stands still: the ring fills, then the overflow up to its bound, and nothing is lost of what was taken", async (t) => {
  const overflowBytesMax = 4_000;
  const echo = startEcho(t, overflowBytesMax);
  for (let round = 0; round < 50; round++) {
    await echo.standStill();
    const before = echo.written;
    let taken = 0;
    while (taken < 1_000 && echo.write(false)) taken++;
    if (taken === 1_000) return t.fail(`${taken} records of a ring of 1024 and an overflow of ${overflowBytesMax} bytes`);
    const { ring, overflow } = echo.link.depth;
    if (ring < 1024 - 64 || overflow < overflowBytesMax || overflow > overflowBytesMax + 24) t.fail(`${ring} bytes in the ring, ${overflow} in the overflow`);
    if (echo.write(false) || !echo.link.congested) t.fail("it takes more while nobody reads");
    if (!echo.write(true)) t.fail("what must pass is refused");
    const turns = echo.turns;
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    if (echo.turns !== turns) t.fail(`it looked ${echo.turns - turns} times in vain`);
    if (echo.echoed > before) t.fail("somebody reads");
    echo.goOn();
    await echo.until(() => echo.echoed === echo.written, `everything of round ${round}`);
  }
  // The other thread answers while it reads, and then says how far it has read.
  await until(() => echo.link.depth.ring === 0, "all to be read");
  t.equal(echo.link.depth.overflow, 0);
  t.notOk(echo.link.congested);
  t.ok(echo.written > 50 * 200, `${echo.written} records in order, each once`);
  await echo.end();
});

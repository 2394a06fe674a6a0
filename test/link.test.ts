import { Worker } from "node:worker_threads";
import fc from "fast-check";
import t from "tap";
import { Counters, createCounters, fanoutBucketsMs } from "../src/link/counters.ts";
import { collectGarbage } from "../src/platform/collect.ts";
import { Link, type RecordReader } from "../src/link/link.ts";
import { readPublish, writePublish, type PublishRecord } from "../src/link/publications.ts";
import * as records from "../src/link/records.ts";
import { until } from "./support/until.ts";
import { createRing, RingReader, ringRecordMax, RingWriter } from "../src/link/ring.ts";

t.test("a ring gives back any records in order, wherever its end cuts", async (t) => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 60 });
  const reads = fc.infiniteStream(fc.integer({ min: 1, max: 900 }));
  fc.assert(
    fc.property(bodies, reads, (bodies, reads) => {
      const shared = createRing(1024);
      const writer = new RingWriter(shared);
      const reader = new RingReader(shared);
      const got: Uint8Array[] = [];
      const readSome = () =>
        reader.read(reads.next().value!, (kind, start, end) => {
          if (kind !== got.length + 1) throw new Error(`record ${kind} out of order`);
          got.push(Uint8Array.from(reader.bytes.subarray(start, end)));
        });
      bodies.forEach((body, i) => {
        let at = writer.reserve(body.length);
        while (at < 0) {
          readSome();
          at = writer.reserve(body.length);
        }
        writer.bytes.set(body, at);
        writer.commit(i + 1, body.length);
      });
      while (readSome());
      if (JSON.stringify(got) !== JSON.stringify(bodies)) throw new Error("records differ");
      if (writer.depth !== 0) throw new Error("something is left");
    }),
  );
  t.pass("no counterexample");
});

t.test("a full ring takes nothing, the largest record fits an empty one, a wrong size is refused", async (t) => {
  const shared = createRing(1024);
  const writer = new RingWriter(shared);
  const reader = new RingReader(shared);
  const largest = ringRecordMax(1024);
  for (let round = 0; round < 7; round++) {
    let taken = 0;
    while (writer.reserve(largest) >= 0) {
      writer.commit(1, largest);
      taken++;
    }
    t.ok(taken === 1 || taken === 2, `round ${round}: ${taken} of half the ring's size each`);
    reader.read(1e6, () => {});
    writer.reserve(40);
    writer.commit(1, 40); // moves the head a little
    reader.read(1e6, () => {});
  }
  t.throws(() => createRing(1000), { message: /power of two/ });
});

t.test("the doorbell is rung once for a sleeping reader, and a reader does not sleep over a record", async (t) => {
  const shared = createRing(1024);
  const writer = new RingWriter(shared);
  const reader = new RingReader(shared);
  const write = () => (writer.reserve(8), writer.commit(1, 8));
  t.equal(write(), true, "a new reader has not looked yet");
  t.equal(write(), false, "it has been woken already");
  t.equal(reader.sleep(), false, "there is something to read");
  reader.read(1e6, () => {});
  t.equal(reader.sleep(), true);
  t.equal(write(), true);
});

t.test("a writer does not wait for room that the reader has made meanwhile, and is told of room made later", async (t) => {
  const shared = createRing(1024);
  const writer = new RingWriter(shared);
  const reader = new RingReader(shared);
  const fill = () => { while (writer.reserve(100) >= 0) writer.commit(1, 100); };
  fill();
  reader.read(1e6, () => {});
  t.equal(reader.takeBlocked(), false, "nobody has said that it waits");
  t.equal(writer.block(), false, "there is room already, and this reader has looked");
  t.ok(writer.reserve(100) >= 0);
  fill();
  t.equal(writer.block(), true);
  reader.read(1e6, () => {});
  t.equal(reader.takeBlocked(), true);
  t.equal(reader.takeBlocked(), false, "once");
});

t.test("records cross between two threads complete and in order while the ring is always nearly full", async (t) => {
  const count = 20_000;
  const shared = createRing(4096);
  const reader = new RingReader(shared);
  const workerData = { shared, records: count };
  const worker = new Worker(new URL("./support/ring-writer.mjs", import.meta.url), { workerData });
  const failed = new Promise<never>((_, reject) => worker.once("error", reject));
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  let next = 0;
  const check = (kind: number, start: number, end: number) => {
    const body = reader.bytes.subarray(start, end);
    const i = body.readUInt32LE(0);
    const intact = i === next && kind === 1 + (i % 5) && body.length === 4 + (i % 97) && body.subarray(4).every((b) => b === (i & 255));
    if (!intact) throw new Error(`record ${next} came as ${i}, kind ${kind}, ${body.length} bytes`);
    next++;
  };
  const drained = (async () => {
    while (next < count) {
      reader.read(1e6, check);
      await new Promise(setImmediate);
    }
  })();
  await Promise.race([drained, failed]);
  await exited;
  t.equal(next, count);
});

/** Two links back to back in one thread; doorbells are counted and answered when the test says so. */
function linkPair(ringBytes: number, overflowBytesMax: number, onRecord: (kind: number, record: RecordReader) => void) {
  const out = createRing(ringBytes);
  const back = createRing(ringBytes);
  const rung = { atReader: 0, atWriter: 0 };
  const none = { readBudgetBytes: 1 << 20, onRecord: () => {}, onBatchEnd: () => {} };
  const writer = new Link({ out, in: back, overflowBytesMax, ringDoorbell: () => rung.atReader++, ...none });
  const reader = new Link({ out: back, in: out, overflowBytesMax, ringDoorbell: () => rung.atWriter++, ...none, onRecord });
  return { writer, reader, rung };
}

t.test("whole numbers up to 2^53 come as they were sent", async (t) => {
  const seen: number[] = [];
  const sent = [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 7, Number.MAX_SAFE_INTEGER];
  const { writer, reader } = linkPair(1024, 2000, (_, record) => seen.push(...sent.map(() => record.whole())));
  writer.begin(7, 8 * sent.length, false);
  for (const value of sent) writer.whole(value);
  writer.end();
  reader.wake();
  t.strictSame(seen, sent);
});

t.test("a link whose ring is full keeps records in order, refuses past its bound, and goes on when there is room", async (t) => {
  const seen: number[] = [];
  const { writer, reader, rung } = linkPair(1024, 2000, (_, record) => seen.push(record.u32()));
  const write = (i: number) => {
    if (!writer.begin(7, 100, false)) return false;
    writer.u32(i);
    writer.blob(new Uint8Array(80));
    writer.end();
    return true;
  };
  let accepted = 0;
  while (write(accepted)) accepted++;
  t.ok(accepted > 10 && accepted < 100, `${accepted} before the first refusal`);
  t.ok(writer.congested);
  t.ok(writer.depth.overflow >= 2000);
  t.ok(writer.begin(7, 8, true), "what must pass does");
  writer.u32(accepted++);
  writer.end();
  while (seen.length < accepted) {
    reader.wake();
    t.ok(rung.atWriter > 0, "the reader says that there is room");
    writer.wake();
  }
  t.same(seen, Array.from({ length: accepted }, (_, i) => i));
  t.notOk(writer.congested);
  t.ok(write(accepted), "taken again");
});

t.test("a record that no ring of this size takes is a mistake said at once: it used to wait for room for ever", async (t) => {
  const sizes: number[] = [];
  const { writer, reader } = linkPair(1024, 1e6, (_, record) => sizes.push(record.blob().length));
  const largest = ringRecordMax(1024);
  const write = (length: number) => {
    t.ok(writer.begin(7, length, true));
    writer.blob(new Uint8Array(length - 4));
    writer.end();
  };
  t.throws(() => writer.begin(7, largest + 1, true), RangeError);
  t.throws(() => writer.begin(7, largest + 1, false), RangeError);
  for (let i = 0; i < 4; i++) write(largest);
  t.ok(writer.depth.overflow > 0, "some of the largest have to wait");
  t.throws(() => writer.begin(7, largest + 1, true), RangeError, "said although there is a queue to put it in");
  for (let i = 0; i < 4; i++) (reader.wake(), writer.wake());
  reader.wake();
  t.same(sizes, [largest - 4, largest - 4, largest - 4, largest - 4], "the largest pass, and the link goes on");
});

t.test("a link with a backlog takes one turn of the loop after the other, however often the doorbell rings: each ring began turns of its own", async (t) => {
  const [out, back] = [createRing(1 << 16), createRing(1 << 16)];
  const common = { overflowBytesMax: 1e6, ringDoorbell: () => {}, onBatchEnd: () => {} };
  let [seen, turns] = [0, 0];
  const writer = new Link({ ...common, out, in: back, readBudgetBytes: 1e6, onRecord: () => {} });
  const reader = new Link({ ...common, out: back, in: out, readBudgetBytes: 1, onTurn: () => void turns++, onRecord: () => void seen++ });
  const count = 200;
  for (let i = 0; i < count; i++) {
    writer.begin(7, 8, true);
    writer.u32(i);
    writer.end();
  }
  let iterations = 0;
  const perIteration: number[] = [];
  for (let before = 0; seen < count && iterations < 2 * count; iterations++, before = turns) {
    for (let rings = 0; iterations < 10 && rings < 5; rings++) reader.wake();
    await new Promise(setImmediate);
    perIteration.push(turns - before);
  }
  t.equal(seen, count, "all of it is read");
  t.equal(Math.max(...perIteration), 1, `turns of each iteration: ${perIteration.slice(0, 20).join(" ")}`);
  t.ok(iterations >= count - 10, `a record a turn, and one a first ring: ${iterations} iterations`);
});

t.test("a record of a long queue costs as much as one of a short: taking each off its front used to copy the rest", async (t) => {
  /** Microseconds of CPU, not of a clock: what else the machine does is not counted. */
  const costOf = (overflowBytesMax: number): { written: number; each: number } => {
    let seen = 0;
    const { writer, reader } = linkPair(1 << 16, overflowBytesMax, (_, record) => (seen += record.u32() === seen ? 1 : NaN));
    let written = 0;
    for (; !writer.congested; written++) {
      writer.begin(7, 20, true);
      writer.u32(written);
      writer.blob(new Uint8Array(12));
      writer.end();
    }
    const before = process.cpuUsage();
    while (seen < written) (reader.wake(), writer.wake());
    const { user, system } = process.cpuUsage(before);
    t.equal(seen, written, "in order");
    return { written, each: (user + system) / written };
  };
  costOf(1 << 20); // to have it compiled
  const [short, long] = [costOf(1 << 20), costOf(1 << 23)];
  t.ok(long.written > 400_000, `${long.written} records`);
  // Copying the rest makes one of the long queue cost 300 times as much.
  t.ok(long.each < 30 * short.each, `${long.each} µs each of ${long.written}, ${short.each} of ${short.written}`);
});

t.test("what waits is counted as what was written, however much room was asked for, and nothing is left of it", async (t) => {
  const records = fc.array(fc.record({ length: fc.nat(100), spare: fc.nat(200), drains: fc.nat(30).map((n) => n === 0) }), { minLength: 40, maxLength: 80 });
  fc.assert(
    fc.property(records, (records) => {
      let read = 0;
      let unread = 0;
      const { writer, reader } = linkPair(1024, 1e9, (_, record) => {
        read++;
        unread -= 4 + record.blob().length;
      });
      for (const { length, spare, drains } of records) {
        writer.begin(7, 4 + length + spare, true);
        writer.blob(new Uint8Array(length));
        writer.end();
        unread += 4 + length;
        if (writer.depth.overflow > unread) throw new Error(`${writer.depth.overflow} bytes wait of ${unread} that were not read`);
        if (drains) (reader.wake(), writer.wake());
      }
      while (read < records.length) (reader.wake(), writer.wake());
      if (writer.depth.overflow !== 0) throw new Error(`${writer.depth.overflow} bytes are left of nothing`);
    }),
  );
  t.pass("no counterexample");
});

t.test("every kind of record is read as it was written", async (t) => {
  const read: unknown[] = [];
  const publish = {} as PublishRecord;
  const { writer, reader } = linkPair(1 << 16, 1e6, (kind, record) => {
    switch (kind) {
      case records.kinds.join: return read.push(records.readJoin(record));
      case records.kinds.history: return read.push(records.readHistory(record));
      case records.kinds.publish: return read.push({ ...readPublish(record, publish), payload: [...publish.payload] });
      case records.kinds.leave: return read.push(records.readLeave(record));
      case records.kinds.next:
      case records.kinds.abandon:
        return read.push([kind, record.u32()]);
      default:
        throw new Error(`kind ${kind}`);
    }
  });
  const join = { member: 7, slot: 3, life: 4, id: 9, wire: 1, room: "chat:ü😀", epoch: "e", seq: 2 ** 40, history: 3, restored: true, assigned: true, ahead: true };
  const history = { slot: 1, life: 2, id: 3, wire: 0, room: "r", direction: "before", epoch: "e", seq: 5, limit: 6, orOldest: true } as const;
  const leave = { slot: 1, life: 2, handle: 12, wire: 1, lost: true };
  records.writeJoin(writer, join);
  records.writeJoin(writer, { ...join, epoch: null, seq: 0, wire: 0 });
  records.writeHistory(writer, history);
  writePublish(writer, 1, 2, 3, 2, 4, "room", "ann", "key", 1, true, false, new Uint8Array([9, 8]));
  records.writeLeave(writer, leave);
  records.writeNext(writer, 5);
  records.writeAbandon(writer, 6);
  reader.wake();
  const published = { slot: 1, life: 2, id: 3, wire: 2, handle: 4, room: "room", sender: "ann", key: "key" };
  t.same(read, [
    join,
    { ...join, epoch: null, seq: 0, wire: 0 },
    history,
    { ...published, format: 1, excludeSelf: true, direct: false, payload: [9, 8] },
    leave,
    [records.kinds.next, 5],
    [records.kinds.abandon, 6],
  ]);
});

t.test("counters add up, and a fan-out falls into the bucket of its time", async (t) => {
  const counters = new Counters(createCounters());
  counters.add("framesIn", 2);
  counters.add("framesIn", 3);
  counters.set("ready", 7);
  counters.fanout(0.07);
  counters.fanout(99_999);
  t.equal(counters.get("framesIn"), 5);
  t.equal(counters.get("ready"), 7);
  t.equal(counters.get("fanoutCount"), 2);
  const buckets = counters.fanoutBuckets();
  t.equal(buckets.length, fanoutBucketsMs.length + 1);
  t.equal(buckets[fanoutBucketsMs.indexOf(0.1)], 1);
  t.equal(buckets.at(-1), 1);
});

t.test("a link that is never empty keeps nothing of what has crossed", async (t) => {
  const bytes = 8_000;
  let read = 0;
  const { writer, reader } = linkPair(32_768, 20 * bytes, (_, record) => void (record.blob(), read++));
  const write = () => {
    if (!writer.begin(7, bytes + 4, false)) return false;
    writer.blob(new Uint8Array(bytes));
    writer.end();
    return true;
  };
  let written = 0;
  const turn = () => {
    while (write()) written++;
    reader.wake();
    writer.wake();
  };
  turn();
  collectGarbage();
  const { arrayBuffers: before } = process.memoryUsage();
  while (read < 5_000) {
    turn();
    if (!writer.full) return t.fail("it was empty for a moment: that would hide what is kept");
  }
  // What is collected is freed by another thread, a moment later.
  const grown = () => (collectGarbage(), process.memoryUsage().arrayBuffers - before);
  await until(() => grown() < 100 * bytes, `what has crossed to be freed: ${written} records of ${bytes} bytes`, 20_000);
  while (read < written) (reader.wake(), writer.wake());
  t.notOk(writer.full);
});

t.test("the end of an overflow is said however many records it had", (t) => {
  for (const waiting of [1, 1024, 1025, 1026, 2048, 2051, 4103]) {
    const [out, back] = [createRing(1024), createRing(1024)];
    let rooms = 0;
    const none = { readBudgetBytes: 1 << 20, overflowBytesMax: 1e6, ringDoorbell: () => {}, onBatchEnd: () => {} };
    const writer = new Link({ ...none, out, in: back, onRecord: () => {}, onRoom: () => rooms++ });
    const read: number[] = [];
    const reader = new Link({ ...none, out: back, in: out, onRecord: (_, record) => void read.push(record.u32()) });
    let written = 0;
    while (writer.overflowed < waiting) {
      writer.begin(7, 4, false);
      writer.u32(written++);
      writer.end();
    }
    while (read.length < written) (reader.wake(), writer.wake());
    t.strictSame([read, rooms], [Array.from({ length: written }, (_, i) => i), 1], `${waiting} records waited`);
  }
  t.end();
});

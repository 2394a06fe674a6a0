import fc from "fast-check";
import t from "tap";
import { readHistoryPage } from "../src/hub/recovery/history.ts";
import { Tail, TailBudget } from "../src/hub/recovery/tail.ts";

/** What a tail stands for: every publication there ever was. */
interface Entry {
  seq: number;
  body: Uint8Array;
}

/** Writes a body as the hub does. */
function push(tail: Tail, seq: number, body: Uint8Array): void {
  const at = tail.append(seq, body.length);
  if (at >= 0) tail.bytes.set(body, at);
}

const limits = fc.record({
  publicationsMax: fc.integer({ min: 1, max: 40 }),
  bytesMax: fc.integer({ min: 1500, max: 9000 }),
});
const steps = fc.array(
  fc.record({ by: fc.integer({ min: 1, max: 3 }), length: fc.oneof(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1, max: 3000 })) }),
  { maxLength: 120 },
);

t.test("whatever a tail says it covers it has, complete and in order, from any position", async (t) => {
  fc.assert(
    fc.property(limits, steps, fc.integer({ min: 1024, max: 20_000 }), (limits, steps, budgetBytes) => {
      const tail = new Tail(limits, new TailBudget(budgetBytes), 7);
      const all: Entry[] = [];
      let seq = 7;
      for (const { by, length } of steps) {
        seq += by;
        const entry = { seq, body: new Uint8Array(length).fill(seq & 255) };
        push(tail, seq, entry.body);
        all.push(entry);
        for (const from of [7, seq - 4, seq - 1, seq]) checkFrom(tail, all, from);
      }
    }),
  );
  t.pass("no counterexample");
});

t.test("a busy tail stays within its limits and gives its bytes back", async (t) => {
  const budget = new TailBudget(1e6);
  const tail = new Tail({ publicationsMax: 10, bytesMax: 4096 }, budget, 0);
  for (let seq = 1; seq <= 1000; seq++) push(tail, seq, new Uint8Array(100));
  t.ok(budget.used <= 4096, `${budget.used} bytes`);
  t.equal(tail.newest(100, 1e6).length, 10);
  t.ok(tail.covers(990));
  t.notOk(tail.covers(989));
  tail.release();
  t.equal(budget.used, 0);
});

t.test("a body larger than the tail empties it: nothing before it can be promised", async (t) => {
  const tail = new Tail({ publicationsMax: 10, bytesMax: 2048 }, new TailBudget(1e6), 0);
  push(tail, 1, new Uint8Array(10));
  push(tail, 2, new Uint8Array(5000));
  t.notOk(tail.covers(1));
  t.ok(tail.covers(2));
  push(tail, 3, new Uint8Array(10));
  t.equal(tail.after(2, 1e6).bodies.length, 1);
});

t.test("a page of a tail ends at its bytes, but not before its first publication", async (t) => {
  const tail = new Tail({ publicationsMax: 10, bytesMax: 4096 }, new TailBudget(1e6), 0);
  for (const seq of [1, 2, 3]) push(tail, seq, new Uint8Array(100));
  t.same(sizes(tail.after(0, 1)), { seq: 1, count: 1 });
  t.same(sizes(tail.after(0, 200)), { seq: 2, count: 2 });
  t.same(sizes(tail.after(1, 1e6)), { seq: 3, count: 2 });
  t.same(sizes(tail.after(3, 1e6)), { seq: 3, count: 0 });
});

t.test("a room that is new when the others have used up the budget keeps a little: it used to keep nothing", async (t) => {
  const budget = new TailBudget(64 * 1024);
  const limits = { publicationsMax: 128, bytesMax: 32 * 1024 };
  const busy = [1, 2, 3].map(() => new Tail(limits, budget, 0));
  for (let seq = 1; seq <= 60; seq++) for (const tail of busy) push(tail, seq, new Uint8Array(1000));
  t.notOk(budget.take(2048, false), `the budget is used up: ${budget.used} of ${budget.bytesMax}`);

  const fresh = new Tail(limits, budget, 0);
  for (let seq = 1; seq <= 5; seq++) push(fresh, seq, new Uint8Array(100));
  t.equal(fresh.newest(10, 1e6).length, 5, "all of a few small ones");
  t.ok(fresh.covers(0));
  for (let seq = 6; seq <= 50; seq++) push(fresh, seq, new Uint8Array(100));
  const kept = fresh.newest(100, 1e6).length;
  t.ok(kept >= 5 && kept <= 20, `about 1 KiB of many: ${kept} of 100 bytes`);
  t.ok(fresh.covers(45));
  push(fresh, 51, new Uint8Array(5000));
  t.notOk(fresh.covers(50), "one that is larger is not kept");
  t.ok(fresh.covers(51));

  for (const tail of [...busy, fresh]) tail.release();
  t.equal(budget.used, 0, "the budget gets back what was taken of it");
});

t.test("what is older than its history may be is not given, whoever asks how: it was, as long as somebody was in the room", async (t) => {
  let time = 0;
  const tail = new Tail({ publicationsMax: 100, bytesMax: 4096 }, new TailBudget(1e6), 0, 1_000, () => time);
  for (let seq = 1; seq <= 20; seq++, time += 100) push(tail, seq, new Uint8Array(10));
  // It is 2,000 now: those of 1,000 and later are kept, which are 11 and what follows.
  t.same(sizes(tail.after(10, 1e6)), { seq: 20, count: 10 });
  t.strictSame([tail.covers(9), tail.covers(10)], [false, true]);
  t.strictSame([tail.holds(10), tail.holds(11)], [true, false]);
  t.equal(tail.newest(100, 1e6).length, 10);
  time += 500;
  t.equal(tail.newest(100, 1e6).length, 5);
  time += 5_000;
  t.strictSame([tail.newest(100, 1e6).length, tail.covers(19), tail.covers(20), tail.holds(1)], [0, false, true, false]);
  push(tail, 21, new Uint8Array(10));
  t.same(sizes(tail.after(20, 1e6)), { seq: 21, count: 1 });
});

function checkFrom(tail: Tail, all: Entry[], from: number): void {
  if (!tail.covers(from)) return;
  const expected = all.filter(({ seq }) => seq > from);
  const got: Uint8Array[] = [];
  for (let at = from; ; ) {
    const page = tail.after(at, 500);
    if (page.bodies.length === 0) break;
    got.push(...page.bodies);
    at = page.seq;
  }
  if (got.length !== expected.length) throw new Error(`after ${from}: ${got.length} of ${expected.length}`);
  got.forEach((body, i) => {
    if (Buffer.compare(body, expected[i]!.body) !== 0) throw new Error(`after ${from}: body ${i} differs`);
  });
}

function sizes({ seq, bodies }: { seq: number; bodies: Uint8Array[] }) {
  return { seq, count: bodies.length };
}

t.test("a read behind which nothing is kept promises no further page", async (t) => {
  const tail = new Tail({ publicationsMax: 10, bytesMax: 1024 }, new TailBudget(1e6), 0);
  push(tail, 1, new Uint8Array(2000));
  const kind = { retention: { durable: false } };
  const room = { open: true, epoch: "e", seq: 1, tail, kind };
  const [reading, asked] = [{ pageBytesMax: 1e6 }, { key: "r", kind, room }] as unknown as [Parameters<typeof readHistoryPage>[0], Parameters<typeof readHistoryPage>[1]];
  const answers: unknown[] = [];
  readHistoryPage(reading, asked, { direction: "since", epoch: "e", seq: 0, limit: 10, orOldest: true }, (answer) => answers.push(answer));
  t.same(answers, [{ value: { publications: [], position: { epoch: "e", seq: 1 }, more: false } }]);
});

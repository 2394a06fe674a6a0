/** When a thread is woken, on a clock that the test holds. Between real threads: link-threads.test.ts. */
import t from "tap";
import { Doorbell } from "../src/link/doorbell.ts";
import { Link } from "../src/link/link.ts";
import { createRing } from "../src/link/ring.ts";

/** A doorbell with its clock. `rung` has the time of each ring. */
function held(restMs: number) {
  let now = 1_000;
  let waits: { at: number; call: () => void } | null = null;
  const rung: number[] = [];
  const doorbell = new Doorbell(() => rung.push(now), restMs, {
    now: () => now,
    after: (ms, call) => {
      waits = { at: now + ms, call };
      return waits as unknown as NodeJS.Timeout;
    },
    cancel: () => void (waits = null),
  });
  const pass = (ms: number) => {
    now += ms;
    if (waits === null || waits.at > now) return;
    const { call } = waits;
    waits = null;
    call();
  };
  return { doorbell, rung, pass, waits: () => waits !== null };
}

t.test("the first ring after a pause is at once, and what comes while it rests makes one more", async (t) => {
  const { doorbell, rung, pass } = held(1);
  doorbell.ring();
  t.same(rung, [1_000]);
  for (let i = 0; i < 5; i++) doorbell.ring();
  t.same(rung, [1_000], "put off");
  pass(1);
  t.same(rung, [1_000, 1_001], "once for all of them");
  pass(5);
  t.same(rung.length, 2, "nothing more is owed");
  doorbell.ring();
  t.same(rung.at(-1), 1_006, "at once again");
});

t.test("under load there is one ring in each rest, and none is lost", async (t) => {
  const { doorbell, rung, pass, waits } = held(1);
  for (let i = 0; i < 1_000; i++) {
    doorbell.ring();
    pass(0.1);
  }
  t.ok(rung.length <= 101 && rung.length >= 50, `${rung.length} rings in 100 ms`);
  if (waits()) pass(1);
  t.notOk(waits(), "the last one came");
});

t.test("what cannot wait rings at once, with everything that was put off", async (t) => {
  const { doorbell, rung, pass } = held(1);
  doorbell.hurry();
  t.same(rung, [], "nobody waits");
  doorbell.ring();
  doorbell.ring();
  doorbell.hurry();
  t.same(rung, [1_000, 1_000]);
  pass(5);
  t.equal(rung.length, 2, "the timer that it had is gone");
});

t.test("without a rest every ring is at once", async (t) => {
  const always = held(0);
  for (let i = 0; i < 3; i++) always.doorbell.ring();
  t.equal(always.rung.length, 3);
});

t.test("a record written with endAtOnce wakes a reader that sleeps, during the rest", async (t) => {
  const [out, back] = [createRing(1024), createRing(1024)];
  let rung = 0;
  const common = { overflowBytesMax: 1e6, readBudgetBytes: 1e6, onRecord: () => {}, onBatchEnd: () => {} };
  const writer = new Link({ ...common, out, in: back, wakeRestMs: 60_000, ringDoorbell: () => void rung++ });
  const reader = new Link({ ...common, out: back, in: out, ringDoorbell: () => {} });
  t.teardown(() => (writer.close(), reader.close()));
  const write = () => (writer.begin(1, 4, true), writer.u32(1));
  write();
  writer.end();
  t.equal(rung, 1, "at once after a pause");
  reader.wake();
  write();
  writer.end();
  t.equal(rung, 1, "put off");
  write();
  writer.endAtOnce();
  t.equal(rung, 2);
  reader.wake();
  write();
  writer.end();
  t.equal(rung, 2, "put off");
  writer.close();
  t.equal(rung, 3, "a link that closes owes nothing");
});

t.test("a record written with endInTurn wakes once, at the end of the turn, or with a record of the same turn that ends otherwise", async (t) => {
  const [out, back] = [createRing(1024), createRing(1024)];
  let rung = 0;
  const common = { overflowBytesMax: 1e6, readBudgetBytes: 1e6, onRecord: () => {}, onBatchEnd: () => {}, wakeRestMs: 0 };
  const writer = new Link({ ...common, out, in: back, ringDoorbell: () => void rung++ });
  const reader = new Link({ ...common, out: back, in: out, ringDoorbell: () => {} });
  t.teardown(() => (writer.close(), reader.close()));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const write = () => (writer.begin(1, 4, true), writer.u32(1));
  for (let i = 0; i < 3; i++) {
    write();
    writer.endInTurn();
  }
  t.equal(rung, 0);
  await turn();
  t.equal(rung, 1);
  reader.wake();
  write();
  writer.endInTurn();
  write();
  writer.endAtOnce();
  t.equal(rung, 2, "the first record's mark is the second's wake");
  await turn();
  t.equal(rung, 2, "once");
});

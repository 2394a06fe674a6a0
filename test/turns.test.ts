/** When sessions are sent away: evenly, whatever chance decides and however many there are. */
import fc from "fast-check";
import t from "tap";
import { stepMs, turns, turnsPerStep } from "../src/reactor/session/turns.ts";

/** Mulberry32: chance that can be repeated. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

/** When clients come back, per second, over all reactors: each is told in the step its turn falls into. */
function returns(counts: readonly number[], windowMs: number, seed: number): number[] {
  const random = seeded(seed);
  const perSecond: number[] = [];
  counts.forEach((count, reactor) => {
    for (const { atMs, delayMs } of turns(numbers(count), windowMs, (reactor + 0.5) / counts.length, random)) {
      const second = Math.floor((Math.ceil(atMs / stepMs) * stepMs + delayMs) / 1000);
      perSecond[second] = (perSecond[second] ?? 0) + 1;
    }
  });
  return Array.from(perSecond, (count) => count ?? 0);
}

t.test("everybody has one turn, within the window", async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 0, max: 100_000 }), fc.integer(), (count, windowMs, seed) => {
      const all = turns(numbers(count), windowMs, 0.5, seeded(seed));
      const isEverybody = new Set(all.map(({ of }) => of)).size === count && all.length === count;
      const isOrdered = all.every(({ atMs }, i) => i === 0 || all[i - 1]!.atMs <= atMs);
      return isEverybody && isOrdered && all.every(({ atMs, delayMs }) => atMs <= windowMs && delayMs >= 0 && delayMs < 1001);
    }),
  );
  t.pass("for any number of sessions and any window");
});

t.test("no second has more than twice its share of returns, over all reactors", async (t) => {
  for (const counts of [[3000], [1500, 1500], [1, 2999], [700, 800, 700, 800], numbers(16).map(() => 250)]) {
    const all = counts.reduce((sum, count) => sum + count, 0);
    for (const seed of numbers(20)) {
      const perSecond = returns(counts, 30_000, seed);
      t.equal(perSecond.reduce((sum, count) => sum + count, 0), all);
      const most = Math.max(...perSecond);
      t.ok(most <= (2 * all) / 30, `${counts.join("+")} sessions with seed ${seed}: ${most} in one second, ${all / 30} on average`);
      t.ok(perSecond.length <= 31, "and none after the window");
    }
  }
});

t.test("few sessions are spread over the whole window too", async (t) => {
  const at = [0, 1].flatMap((reactor) => turns(numbers(5), 30_000, (reactor + 0.5) / 2, seeded(1)).map(({ atMs }) => atMs));
  t.same(at.sort((a, b) => a - b), [1500, 4500, 7500, 10_500, 13_500, 16_500, 19_500, 22_500, 25_500, 28_500]);
});

t.test("chance decides who is first", async (t) => {
  const firsts = new Set(numbers(200).map((seed) => turns(numbers(10), 1000, 0.5, seeded(seed))[0]!.of));
  t.equal(firsts.size, 10);
});

t.test("without a window everybody's turn is now, and the returns are spread over a second", async (t) => {
  const all = turns(numbers(1000), 0, 0.5, seeded(7));
  t.ok(all.every(({ atMs }) => atMs === 0));
  const perTenth = numbers(10).map((tenth) => all.filter(({ delayMs }) => Math.floor(delayMs / 100) === tenth).length);
  t.ok(Math.max(...perTenth) <= 200 && Math.min(...perTenth) >= 50, perTenth.join());
  t.equal(turnsPerStep(1000, 0), Infinity);
  t.equal(turnsPerStep(1000, stepMs - 1), Infinity, "and in a window that is shorter than a step");
});

t.test("a loop that was held up makes up for it at twice the pace", async (t) => {
  t.equal(turnsPerStep(3000, 30_000), 20);
  t.equal(turnsPerStep(1, 30_000), 1, "at least one");
});

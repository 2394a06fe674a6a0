/** Work that is never under way twice. */
import t from "tap";
import { repeated } from "../src/platform/repeated.ts";

t.test("a call while it runs, or at any moment of its end, makes it run once more", async (t) => {
  for (let turns = 0; turns < 10; turns++) {
    const ends: (() => void)[] = [];
    const looks = repeated(() => new Promise<void>((resolve) => ends.push(resolve)));
    void looks.run();
    t.equal(ends.length, 1, "it begins in the call");
    ends[0]!();
    for (let i = 0; i < turns; i++) await null;
    void looks.run();
    await new Promise(setImmediate);
    t.equal(ends.length, 2, `after ${turns} turns`);
    ends[1]!();
    await new Promise(setImmediate);
    t.same([ends.length, looks.running], [2, null]);
  }
});

t.test("work that fails at once may be tried again", async (t) => {
  let fails = true;
  const looks = repeated(() => {
    if (fails) throw new Error("not now");
    return Promise.resolve();
  });
  await t.rejects(looks.run(), { message: "not now" });
  fails = false;
  await looks.run();
  t.equal(looks.running, null);
});

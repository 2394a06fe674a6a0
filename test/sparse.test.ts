/** Log lines that strangers can cause. */
import t from "tap";
import { Sparse } from "../src/platform/log/sparse.ts";

t.test("the first of a reason is due, then one a minute with the number of those left out; reasons are bounded", async (t) => {
  let now = 0;
  const sparse = new Sparse(() => now);
  t.equal(sparse.due("a"), 0);
  for (let i = 0; i < 9; i++) t.equal(sparse.due("a"), null);
  t.equal(sparse.due("b"), 0, "another reason is another line");
  now = 60_000;
  t.equal(sparse.due("a"), 9);
  t.equal(sparse.due("a", 5), null, "what came with one that is left out is left out too, and counted");
  now = 120_000;
  t.equal(sparse.due("a"), 6);
  const told = Array.from({ length: 1000 }, (_, i) => sparse.due(`reason ${i}`)).filter((due) => due !== null);
  t.equal(told.length, 62);
});

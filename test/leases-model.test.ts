/**
 * Leases in a simulated world (support/leases/): 3,000 schedules, in `npm run test:long` 10,000, in which nodes, threads,
 * network and store fail at every step, and what is promised is checked at every delivery. Then the same with mistakes
 * planted, each of which must be found.
 *
 * The schedules are the same in every run. A failure names its world: LEASES_SEED=123 runs that one and tells what happens
 * in it, with LEASES_MISTAKE="…" for one with a mistake. LEASES_FROM and LEASES_COUNT run others.
 */
import t from "tap";
import { mistakes } from "./support/leases/mistakes.ts";
import { schedules } from "./support/leases/schedules.ts";
import { schedulesOfWorld } from "./support/leases/world.ts";

const { LEASES_SEED: only = "", LEASES_MISTAKE: planted = "", LEASES_FROM: from = "1", LEASES_COUNT: count = "3000" } = process.env;
/** A change of the code changes what happens in a world, so a mistake may be found a few worlds later. */
const soon = 400;

if (only !== "") {
  t.test(`world ${only}${planted && `, where ${planted}`}`, async (t) => {
    const { story, broken } = await schedules({ from: Number(only), count: schedulesOfWorld, mistake: planted, isTold: true });
    for (const line of story) t.comment(line);
    t.equal(broken, "");
  });
} else {
  t.test(`in ${count} schedules never two nodes deliver for a partition, and everything is delivered`, { timeout: 600_000 }, async (t) => {
    const { seed, broken, deliveries, claims } = await schedules({ from: Number(from), count: Number(count), mistake: "", isTold: false });
    t.equal(broken, "", `LEASES_SEED=${seed}`);
    t.comment(`${deliveries} deliveries, ${claims} claims`);
    t.ok(claims > 2 * Number(count) && deliveries > 10 * Number(count), "much has happened");
  });

  t.test("every planted mistake is found", { timeout: 600_000 }, async (t) => {
    for (const [mistake, { seed: from }] of Object.entries(mistakes)) {
      const { seed, broken } = await schedules({ from, count: soon, mistake, isTold: false });
      t.ok(seed > 0, `${mistake}: found in world ${seed}: ${broken}`);
    }
  });
}

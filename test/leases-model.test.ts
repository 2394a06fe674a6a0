/**
 * Leases in a simulated world (support/leases/): 10,000 schedules in which nodes, threads, network and store fail at every
 * step, and what is promised is checked at every delivery. Then the same with mistakes planted, each of which must be found.
 *
 * The schedules are the same in every run. A failure names its seed: LEASES_SEED=123 runs that one and tells what happens
 * in it, with LEASES_MISTAKE="…" for one with a mistake. LEASES_FROM and LEASES_COUNT run others.
 */
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import t from "tap";
import { root } from "./support/root.ts";
import type { Order, Outcome } from "./support/leases/worker.ts";

const { LEASES_SEED: only = "", LEASES_MISTAKE: planted = "", LEASES_FROM: from = "1", LEASES_COUNT: count = "10000" } = process.env;

const built = await build({ entryPoints: [join(root, "test/support/leases/worker.ts")], bundle: true, platform: "node", format: "esm", write: false, logLevel: "error" });
const code = new URL(`data:text/javascript;base64,${Buffer.from(built.outputFiles[0]!.contents).toString("base64")}`);

async function schedules(order: Partial<Order>): Promise<Outcome> {
  const worker = new Worker(code, {
    // Promises and events die young: with room for them, collecting garbage costs little.
    resourceLimits: { maxYoungGenerationSizeMb: 64 },
    workerData: { from: Number(from), count: Number(count), mistake: "", isTold: false, ...order } satisfies Order,
  });
  const [outcome] = (await once(worker, "message")) as [Outcome];
  return outcome;
}

if (only !== "") {
  t.test(`schedule ${only}${planted && `, where ${planted}`}`, async (t) => {
    const { story, broken } = await schedules({ from: Number(only), count: 1, mistake: planted, isTold: true });
    for (const line of story) t.comment(line);
    t.equal(broken, "");
  });
} else {
  t.test(`in ${count} schedules never two nodes deliver for a partition, and everything is delivered`, { timeout: 600_000 }, async (t) => {
    const { seed, broken, deliveries, claims } = await schedules({});
    t.equal(broken, "", `LEASES_SEED=${seed}`);
    t.comment(`${deliveries} deliveries, ${claims} claims`);
    t.ok(claims > 2 * Number(count) && deliveries > 10 * Number(count), "much has happened");
  });

  t.test("every planted mistake is found", { timeout: 600_000 }, async (t) => {
    const { mistakes } = await schedules({ count: 0 });
    t.ok(mistakes.length >= 8);
    for (const mistake of mistakes) {
      const { seed, broken } = await schedules({ mistake });
      t.ok(seed > 0, `${mistake}: found by schedule ${seed}: ${broken}`);
    }
  });
}

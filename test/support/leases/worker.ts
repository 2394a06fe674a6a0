/**
 * Runs schedules in a thread of its own: tap follows every promise of the main thread, which takes longer than the
 * schedules.
 */
import { parentPort, workerData } from "node:worker_threads";
import { mistakes } from "./mistakes.ts";
import { randomOf } from "./clock.ts";
import { runWorld, schedulesOfWorld, type Report } from "./world.ts";

export interface Order {
  /** Seed of the first world. */
  readonly from: number;
  /** Schedules. */
  readonly count: number;
  /** Title of a mistake to plant; "" for none. */
  readonly mistake: string;
  readonly isTold: boolean;
}

export interface Outcome {
  /** The first world in which a promise was broken; -1 for none. */
  readonly seed: number;
  readonly broken: string;
  readonly story: readonly string[];
  readonly schedules: number;
  readonly deliveries: number;
  readonly claims: number;
}

// The wall clock of nodes jumps all the time, and nobody may notice.
const wallClock = randomOf(1);
Date.now = () => wallClock.between(0, 1e13);

parentPort!.postMessage(await run(workerData as Order));

async function run({ from, count, mistake, isTold }: Order): Promise<Outcome> {
  let [schedules, deliveries, claims] = [0, 0, 0];
  for (let seed = from; schedules < count; seed++) {
    const report: Report = await runWorld(seed, Math.min(schedulesOfWorld, count - schedules), mistakes[mistake]?.plant, isTold);
    schedules += report.schedules;
    deliveries += report.deliveries;
    claims += report.claims;
    // A mistake is found when a promise breaks, not when something takes long.
    const broken = report.broken || (mistake === "" ? report.stuck : "");
    if (broken !== "" || schedules >= count) return { seed: broken === "" ? -1 : seed, broken, story: report.story, schedules, deliveries, claims };
  }
  throw new RangeError("count must be at least 1");
}

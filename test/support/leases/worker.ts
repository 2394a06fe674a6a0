/**
 * Runs schedules in a thread of its own: tap follows every promise of the main thread, which takes longer than the
 * schedules.
 */
import { parentPort, workerData } from "node:worker_threads";
import { mistakes } from "./mistakes.ts";
import { randomOf } from "./clock.ts";
import { runSchedule, type Report } from "./world.ts";

export interface Order {
  readonly from: number;
  readonly count: number;
  /** Title of a mistake to plant; "" for none. */
  readonly mistake: string;
  readonly isTold: boolean;
}

export interface Outcome {
  /** The first schedule that broke a promise; -1 for none. */
  readonly seed: number;
  readonly broken: string;
  readonly story: readonly string[];
  readonly schedules: number;
  readonly deliveries: number;
  readonly claims: number;
  readonly mistakes: readonly string[];
}

// The wall clock of nodes jumps all the time, and nobody may notice.
const wallClock = randomOf(1);
Date.now = () => wallClock.between(0, 1e13);

parentPort!.postMessage(await run(workerData as Order));

async function run({ from, count, mistake, isTold }: Order): Promise<Outcome> {
  let [deliveries, claims] = [0, 0];
  let report: Report | null = null;
  let seed = from;
  for (; seed < from + count; seed++) {
    report = await runSchedule(seed, mistakes[mistake], isTold);
    deliveries += report.deliveries;
    claims += report.claims;
    // A mistake is found when a promise breaks, not when something takes long.
    if (report.broken !== "" || (report.stuck !== "" && mistake === "")) break;
  }
  const broken = report === null || seed === from + count ? "" : report.broken || report.stuck;
  return {
    seed: broken === "" ? -1 : seed, broken, story: report?.story ?? [], schedules: seed - from, deliveries, claims,
    mistakes: Object.keys(mistakes),
  };
}

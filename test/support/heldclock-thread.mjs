/** Loaded into a reactor before its own code: the clocks are what a test says (heldclock.ts). */
import { workerData } from "node:worker_threads";

const [steady, aheadMs] = [0, 1];
const times = new Float64Array(workerData.clocksOfTest);
const trueTime = Date.now;
performance.now = () => times[steady];
Date.now = () => trueTime() + times[aheadMs];
globalThis.Date = new Proxy(Date, { construct: (Real, args) => (args.length === 0 ? new Real(Real.now()) : new Real(...args)) });

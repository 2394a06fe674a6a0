/** Loaded into a reactor before its own code: performance.now() is what a test says (heldclock.ts). */
import { workerData } from "node:worker_threads";

const time = new Float64Array(workerData.clockOfTest);
performance.now = () => time[0];

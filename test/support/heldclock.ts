/**
 * The clocks of a node's reactors in the hands of a test. The steady one stands still until the test moves it, so what a
 * rate lets through is a number, however long the machine takes. The date is the system's, and as far ahead as the test
 * says: a token expires when the test wants it to. Timers go on as they are, and so do the hub's clocks.
 */
import { syncBuiltinESMExports } from "node:module";
import workers, { type WorkerOptions } from "node:worker_threads";
import type { Test } from "tap";
import type { Gateway } from "../../dist/index.js";
import { startNode, type NodeOptions } from "./node.ts";

export interface HeldClock {
  /** Moves the steady clock ahead by so many milliseconds. */
  pass(ms: number): void;
  /** Moves the date ahead by so many milliseconds. */
  passDate(ms: number): void;
}

const preload = new URL("./heldclock-thread.mjs", import.meta.url).href;
const [steady, aheadMs] = [0, 1];
const Worker = workers.Worker;

/** Starts a node whose reactors take their time from the clock that comes with it. */
export async function startNodeOnHeldClock(t: Pick<Test, "teardown">, options: NodeOptions = {}): Promise<{ node: Gateway; clock: HeldClock }> {
  const clocksOfTest = new SharedArrayBuffer(16);
  const times = new Float64Array(clocksOfTest);
  times[steady] = 1_000_000; // 0 means never in some places
  workers.Worker = class extends Worker {
    constructor(file: string | URL, { execArgv = [], workerData, ...rest }: WorkerOptions = {}) {
      super(file, { ...rest, execArgv: [...execArgv, `--import=${preload}`], workerData: { ...(workerData as object), clocksOfTest } });
    }
  };
  syncBuiltinESMExports();
  try {
    const node = await startNode(t, options);
    return { node, clock: { pass: (ms) => void (times[steady]! += ms), passDate: (ms) => void (times[aheadMs]! += ms) } };
  } finally {
    workers.Worker = Worker;
    syncBuiltinESMExports();
  }
}

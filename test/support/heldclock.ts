/**
 * The steady clock of a node's reactors, in the hands of a test: it stands still until the test moves it. So what a rate
 * lets through is a number, however long the machine takes. Timers go on as they are, and so does the hub's clock.
 */
import { syncBuiltinESMExports } from "node:module";
import workers, { type WorkerOptions } from "node:worker_threads";
import type { Test } from "tap";
import type { Gateway } from "../../dist/index.js";
import { startNode, type NodeOptions } from "./node.ts";

export interface HeldClock {
  /** Lets so many milliseconds go by. */
  pass(ms: number): void;
}

const preload = new URL("./heldclock-thread.mjs", import.meta.url).href;
const Worker = workers.Worker;

/** Starts a node whose reactors take their time from the clock that comes with it. */
export async function startNodeOnHeldClock(t: Pick<Test, "teardown">, options: NodeOptions = {}): Promise<{ node: Gateway; clock: HeldClock }> {
  const shared = new SharedArrayBuffer(8);
  const time = new Float64Array(shared);
  time[0] = 1_000_000; // 0 means never in some places
  workers.Worker = class extends Worker {
    constructor(file: string | URL, { execArgv = [], workerData, ...rest }: WorkerOptions = {}) {
      super(file, { ...rest, execArgv: [...execArgv, `--import=${preload}`], workerData: { ...(workerData as object), clockOfTest: shared } });
    }
  };
  syncBuiltinESMExports();
  try {
    const node = await startNode(t, options);
    return { node, clock: { pass: (ms) => void (time[0]! += ms) } };
  } finally {
    workers.Worker = Worker;
    syncBuiltinESMExports();
  }
}

/**
 * Loaded into every thread of a node that obeys a test (orders.ts): the file that ORDERS_OF_TEST names says how far off
 * the system's clock is, and whether to collect garbage. What has been done, and the heap after it, is told in another.
 */
import { appendFileSync, readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import workers, { threadId } from "node:worker_threads";

const lookMs = 50;
const file = process.env.ORDERS_OF_TEST;
const trueTime = Date.now;
let offMs = 0;
let obeyed = 0;

Date.now = () => trueTime() + offMs;
globalThis.Date = new Proxy(Date, { construct: (Real, args) => (args.length === 0 ? new Real(Real.now()) : new Real(...args)) });
// Reactors are started without what was preloaded.
workers.Worker = class extends workers.Worker {
  constructor(file, { execArgv = [], ...options }) {
    super(file, { ...options, execArgv: [...execArgv, `--import=${import.meta.url}`] });
  }
};
syncBuiltinESMExports();

function obey() {
  const order = JSON.parse(readFileSync(file, "utf8"));
  if (order.number === obeyed) return;
  obeyed = order.number;
  offMs = order.offMs;
  appendFileSync(`${file}.done`, `${JSON.stringify({ number: obeyed, thread: threadId, heapBytes: order.collect ? heapBytes() : 0 })}\n`);
}

function heapBytes() {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  collect();
  collect(); // what the first has only let go of
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

setInterval(obey, lookMs).unref();

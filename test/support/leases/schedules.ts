/** Runs schedules of leases in a simulated world, in a thread of their own. */
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import { root } from "../root.ts";
import type { Order, Outcome } from "./worker.ts";

let code: Promise<URL> | null = null;

async function compile(): Promise<URL> {
  const built = await build({ entryPoints: [join(root, "test/support/leases/worker.ts")], bundle: true, platform: "node", format: "esm", write: false, logLevel: "error" });
  return new URL(`data:text/javascript;base64,${Buffer.from(built.outputFiles[0]!.contents).toString("base64")}`);
}

export async function schedules(order: Order): Promise<Outcome> {
  // Promises and events die young: with room for them, collecting garbage costs little.
  const worker = new Worker(await (code ??= compile()), { resourceLimits: { maxYoungGenerationSizeMb: 64 }, workerData: order });
  const [outcome] = (await once(worker, "message")) as [Outcome];
  return outcome;
}

/**
 * `flux-gateway node-flags`: prints the Node flags that let the main thread use its share of the memory. V8 fixes the
 * limit of a heap when it creates the heap. So a running process cannot set its own limit, and Node 20 cannot replace
 * its process: the start script asks first. The limit also overrides the one a node gives its reactors. So the command
 * prints nothing where V8's own choice is about the same, as in containers of up to 8 GB.
 */
import { getHeapStatistics } from "node:v8";
import type { Command } from "commander";
import { youngFlag } from "../../platform/heap.ts";
import { planMemory } from "../../platform/memoryplan.ts";
import { configFlag } from "../flags.ts";
import { loadConfig } from "../load.ts";

export function addNodeFlagsCommand(program: Command): void {
  program
    .command("node-flags")
    .description("Print the flags that Node needs for this much memory: exec node $(flux-gateway node-flags) …")
    .option("--memory-limit-bytes <size>", "Memory to plan for. Without it: what the node would use.")
    .option(`${configFlag} <file>`, "Configuration file of the node, to read memoryLimitBytes from. Without it: the environment, else the container's limit.")
    .action(({ config: configFile, ...given }: { config?: string; memoryLimitBytes?: string }) => {
      const { config } = loadConfig({ given: { ...given }, configFile }, process.env);
      const wanted = planMemory(config).mainHeapMb;
      const own = getHeapStatistics().heap_size_limit / 2 ** 20;
      const old = Math.abs(own - wanted) <= wanted * tolerance ? [] : [`--max-old-space-size=${wanted}`];
      console.log([youngFlag, ...old].join(" "));
    });
}

/** V8's limit is that of the old generation plus a little. */
const tolerance = 0.1;

/** Processes under test. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const startTimeoutMs = 20_000;
const stopTimeoutMs = 10_000;

export type Child = { process: ChildProcess; output: string; complaints: string };

export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Child {
  const child: Child = {
    process: spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] }),
    output: "",
    complaints: "",
  };
  child.process.stdout?.on("data", (chunk: Buffer) => (child.output += chunk.toString()));
  child.process.stderr?.on("data", (chunk: Buffer) => (child.complaints = (child.complaints + chunk.toString()).slice(-4000)));
  child.process.on("error", (error) => (child.complaints += error.message));
  return child;
}

/** Cores of the servers, as taskset takes them; null for all. */
let serverCores: string | null = null;

/** The servers get the first half of the cores, and the load client, which is this process, the others. */
export function keepApart(): void {
  const cores = availableParallelism();
  const half = Math.floor(cores / 2);
  if (half === 0) throw new Error("this machine has one core: nothing can be kept apart");
  serverCores = `0-${half - 1}`;
  execFileSync("taskset", ["--all-tasks", "--cpu-list", "--pid", `${half}-${cores - 1}`, String(process.pid)]);
}

/** As `run`, for what is measured. */
export function runOnItsCores(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Child {
  return serverCores === null ? run(command, args, env) : run("taskset", ["--cpu-list", serverCores, command, ...args], env);
}

/** A condition that throws counts as not met yet. */
export async function until(child: Child, condition: () => Promise<boolean>): Promise<void> {
  const giveUpAt = Date.now() + startTimeoutMs;
  let last: unknown;
  while (Date.now() < giveUpAt && child.process.exitCode === null && child.process.pid !== undefined) {
    try {
      if (await condition()) return;
    } catch (error) {
      last = error;
    }
    await sleep(20);
  }
  await stop(child);
  throw new Error(`${child.process.spawnargs.join(" ")} did not start: ${child.complaints || child.output}`, { cause: last });
}

export async function stop({ process }: Child): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null || process.pid === undefined) return;
  const exited = once(process, "exit");
  process.kill("SIGTERM");
  // A server with a large backlog may not handle the signal for minutes.
  const kill = setTimeout(() => process.kill("SIGKILL"), stopTimeoutMs);
  await exited;
  clearTimeout(kill);
}

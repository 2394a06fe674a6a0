/**
 * Times that mean something on a busy machine, where what is measured mostly waits for its turn. Linux counts for every
 * thread how long it was ready to run and did not. Of each process that takes part, what its thread that waited longest has
 * waited is taken off: an answer goes through all of them, one after the other. On an idle machine that is next to nothing,
 * so a limit is close to what is promised there, and a node that is slow by itself, or sleeps for too long, never gets
 * anything taken off for it; where everybody waits all the time, as with ten others a processor, nothing is measured.
 */
import { readdirSync, readFileSync } from "node:fs";

export interface Stopwatch {
  /** Since it was started, without the waiting. */
  ms(): number;
  /** All of it, and the waiting: for messages. */
  told(): string;
}

/** @param pids of the processes that take part now; this one does anyway. */
export function startStopwatch(pids: () => readonly number[]): Stopwatch {
  const startedAt = performance.now();
  const before = delays(pids());
  const wholeMs = () => performance.now() - startedAt;
  const waitedMs = () => {
    const longest = new Map<number, number>();
    for (const [thread, { pid, ms }] of delays(pids())) longest.set(pid, Math.max(longest.get(pid) ?? 0, ms - (before.get(thread)?.ms ?? 0)));
    return [...longest.values()].reduce((sum, ms) => sum + ms, 0);
  };
  return {
    ms: () => wholeMs() - waitedMs(),
    told: () => `${Math.round(wholeMs())} ms, of which processes waited ${Math.round(waitedMs())} ms for a processor, one after the other`,
  };
}

/** Of each thread: how long it has waited for a processor, ever. */
function delays(pids: readonly number[]): Map<string, { readonly pid: number; readonly ms: number }> {
  const found = new Map<string, { pid: number; ms: number }>();
  for (const pid of [process.pid, ...pids]) {
    const folder = `/proc/${pid}/task`;
    for (const thread of attempt(() => readdirSync(folder)) ?? []) {
      const [, delayNs] = attempt(() => readFileSync(`${folder}/${thread}/schedstat`, "utf8"))?.split(" ") ?? [];
      if (delayNs !== undefined) found.set(thread, { pid, ms: Number(delayNs) / 1e6 });
    }
  }
  return found;
}

/** Threads and processes end while one looks. */
function attempt<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}

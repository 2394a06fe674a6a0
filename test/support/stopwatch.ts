/**
 * Times that mean something on a busy machine, where what is measured mostly waits for its turn. Linux counts for every
 * thread how long it was ready to run and did not; what the one that waited longest has waited is taken off. On an idle
 * machine that is next to nothing, so a limit is close to what is promised there, and a node that is slow by itself, or
 * sleeps for too long, never gets anything taken off for it.
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
  const waitedMs = () => [...delays(pids())].reduce((most, [thread, ms]) => Math.max(most, ms - (before.get(thread) ?? 0)), 0);
  return {
    ms: () => wholeMs() - waitedMs(),
    told: () => `${Math.round(wholeMs())} ms, of which some thread waited ${Math.round(waitedMs())} ms for a processor`,
  };
}

/** Of each thread: how long it has waited for a processor, ever. */
function delays(pids: readonly number[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const pid of [process.pid, ...pids]) {
    const folder = `/proc/${pid}/task`;
    for (const thread of attempt(() => readdirSync(folder)) ?? []) {
      const [, delayNs] = attempt(() => readFileSync(`${folder}/${thread}/schedstat`, "utf8"))?.split(" ") ?? [];
      if (delayNs !== undefined) found.set(thread, Number(delayNs) / 1e6);
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

/** Memory that this process may use, what it uses, and how the heaps of its threads share it. */
import { totalmem } from "node:os";
import { cgroups, readText, type Cgroup, type ReadText } from "./machine.ts";

/** V8 keeps the rest of a thread, and buffers, rings and sockets are outside of all heaps: they get the last quarter. */
const mainShare = 0.5;
const reactorsShare = 0.25;
/** Below this a reactor would not live long whatever the limit says. */
const reactorMbMin = 64;
const mib = 2 ** 20;

/**
 * V8 lets the young part of a heap grow to 48 MB while many clients shake hands, and keeps it long after. The data path
 * leaves next to no garbage, so a small one costs it little, and an idle session half as much memory. The main thread gets
 * its own by a flag: it stands in the first line of cli/main.ts too.
 */
export const youngMb = 6;
export const youngFlag = `--max-semi-space-size=${youngMb / 3}`;

/** The memory limit of the container around this process, else what the machine has. */
export function memoryLimit(read: ReadText = readText, machineBytes: number = totalmem()): number {
  return Math.min(machineBytes, limited(read)?.bytes ?? machineBytes);
}

/** What counts against that limit: of the container without the file cache, which gives way; else of the process. */
export function memoryUsed(read: ReadText = readText, machineBytes: number = totalmem()): number {
  const group = limited(read);
  const used = group !== null && group.bytes <= machineBytes ? usedOf(group, read) : undefined;
  return used ?? process.memoryUsage.rss();
}

/** Where V8 gives up, for the main thread and for each reactor: three quarters of the limit, of which the hub has the most to keep. */
export function heapLimitsMb(limitBytes: number, reactors: number): { main: number; reactor: number } {
  return {
    main: Math.max(reactorMbMin, Math.floor((limitBytes * mainShare) / mib)),
    reactor: Math.max(reactorMbMin, Math.floor((limitBytes * reactorsShare) / reactors / mib)),
  };
}

interface Limited extends Cgroup {
  readonly bytes: number;
}

/** The group with the tightest limit; null if none has one. */
function limited(read: ReadText): Limited | null {
  let least: Limited | null = null;
  for (const group of cgroups("memory", read)) {
    // "max" is none. Version 1 says a number near 2^63 for none, which is more than any machine has.
    const bytes = Number(read(`${group.folder}/${group.version === 2 ? "memory.max" : "memory.limit_in_bytes"}`) || NaN);
    if (bytes > 0 && (least === null || bytes < least.bytes)) least = { ...group, bytes };
  }
  return least;
}

function usedOf({ version, folder }: Cgroup, read: ReadText): number | undefined {
  const used = Number(read(`${folder}/${version === 2 ? "memory.current" : "memory.usage_in_bytes"}`) || NaN);
  const cached = /^(?:total_)?inactive_file (\d+)$/gm;
  const stat = read(`${folder}/memory.stat`) ?? "";
  // Version 1 has both, of the group alone and, below, with all inside it.
  const cache = Number([...stat.matchAll(cached)].at(-1)?.[1] ?? 0);
  return Number.isFinite(used) ? Math.max(0, used - cache) : undefined;
}

/** Memory that this process may use and uses. memoryplan.ts divides it. */
import { totalmem } from "node:os";
import { cgroups, readText, type Cgroup, type ReadText } from "./machine.ts";

const mib = 2 ** 20;
/** File cache that counts as used: running code must stay in memory; the kernel can drop the rest. */
const codeBytes = 16 * mib;

/**
 * V8 lets a heap's young generation grow to 48 MB while many clients shake hands, and keeps that size. The data path
 * creates almost no garbage. So a small young generation costs it little, and halves the memory of an idle session. The
 * main thread's limit is a flag in the first line of cli/main.ts.
 */
export const youngMb = 6;
export const youngFlag = `--max-semi-space-size=${youngMb / 3}`;

/** The memory limit of the container, else the memory of the machine. */
export function memoryLimit(read: ReadText = readText, machineBytes: number = totalmem()): number {
  return Math.min(machineBytes, limited(read)?.bytes ?? machineBytes);
}

/**
 * Memory that counts against this limit: of the container, else of the process, without file cache that can be dropped.
 */
export function memoryUsed(read: ReadText = readText, machineBytes: number = totalmem()): number {
  const group = limited(read);
  const used = group !== null && group.bytes <= machineBytes ? usedOf(group, read) : undefined;
  return used ?? processMemoryUsed();
}

/** The same for this process only. */
export function processMemoryUsed(read: ReadText = readText): number {
  const status = read("/proc/self/status") ?? "";
  const kb = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? NaN);
  const used = (kb("RssAnon") + kb("RssShmem")) * 1024 + Math.min(codeBytes, kb("RssFile") * 1024);
  return Number.isFinite(used) ? (lastUsed = used) : rss();
}

let lastUsed = 0;

/** Node throws where nothing can be read, for example at the limit of open files. Then the last value is used. */
function rss(): number {
  try {
    return (lastUsed = process.memoryUsage.rss());
  } catch {
    return lastUsed;
  }
}

interface Limited extends Cgroup {
  readonly bytes: number;
}

/** The cgroup with the lowest limit; null if none has one. */
function limited(read: ReadText): Limited | null {
  let least: Limited | null = null;
  for (const group of cgroups("memory", read)) {
    // "max" means no limit. Version 1 writes a number near 2^63, which no machine has.
    const bytes = Number(read(`${group.folder}/${group.version === 2 ? "memory.max" : "memory.limit_in_bytes"}`) || NaN);
    if (bytes > 0 && (least === null || bytes < least.bytes)) least = { ...group, bytes };
  }
  return least;
}

function usedOf({ version, folder }: Cgroup, read: ReadText): number | undefined {
  const used = Number(read(`${folder}/${version === 2 ? "memory.current" : "memory.usage_in_bytes"}`) || NaN);
  const stat = read(`${folder}/memory.stat`) ?? "";
  // Version 1 has both: for the group only, and (total_) with its subgroups.
  const filePages = (name: string) => Number([...stat.matchAll(new RegExp(`^(?:total_)?${name} (\\d+)$`, "gm"))].at(-1)?.[1] ?? 0);
  const givesWay = filePages("inactive_file") + Math.max(0, filePages("active_file") - codeBytes);
  return Number.isFinite(used) ? Math.max(0, used - givesWay) : undefined;
}

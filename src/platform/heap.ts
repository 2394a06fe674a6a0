/** Memory that this process may use, and what it uses. memoryplan.ts says what it is for. */
import { totalmem } from "node:os";
import { cgroups, readText, type Cgroup, type ReadText } from "./machine.ts";

const mib = 2 ** 20;
/** Pages of files that count as used: code that runs must stay, the rest the kernel can read again. */
const codeBytes = 16 * mib;

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

/** What counts against that limit: of the container, else of the process, without the pages of files that can give way. */
export function memoryUsed(read: ReadText = readText, machineBytes: number = totalmem()): number {
  const group = limited(read);
  const used = group !== null && group.bytes <= machineBytes ? usedOf(group, read) : undefined;
  return used ?? processMemoryUsed();
}

/** The same of this process alone. */
export function processMemoryUsed(read: ReadText = readText): number {
  const status = read("/proc/self/status") ?? "";
  const kb = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? NaN);
  const used = (kb("RssAnon") + kb("RssShmem")) * 1024 + Math.min(codeBytes, kb("RssFile") * 1024);
  return Number.isFinite(used) ? (lastUsed = used) : rss();
}

let lastUsed = 0;

/** Where nothing can be read, as when all files that may be open are, Node throws. Then it is what it was. */
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
  const stat = read(`${folder}/memory.stat`) ?? "";
  // Version 1 has both, of the group alone and, below, with all inside it.
  const filePages = (name: string) => Number([...stat.matchAll(new RegExp(`^(?:total_)?${name} (\\d+)$`, "gm"))].at(-1)?.[1] ?? 0);
  const givesWay = filePages("inactive_file") + Math.max(0, filePages("active_file") - codeBytes);
  return Number.isFinite(used) ? Math.max(0, used - givesWay) : undefined;
}

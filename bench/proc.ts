/** What the kernel knows about a process. Linux only, as the bench is. */
import { readFileSync } from "node:fs";

/** Fixed by Linux for everything it shows to programs. */
const ticksPerSecond = 100;
const pageBytes = 4096;

/** Seconds of CPU of all threads since the process started, also of those that ended. To 10 ms. */
export function cpuSeconds(pid: number): number {
  return secondsIn(`/proc/${pid}/stat`);
}

/** The same of a process's first thread alone: of a node, its hub. */
export function mainThreadSeconds(pid: number): number {
  return secondsIn(`/proc/${pid}/task/${pid}/stat`);
}

function secondsIn(path: string): number {
  const stat = readFileSync(path, "latin1");
  // The second field is the command in brackets and may hold anything; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

export function rssBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * pageBytes;
}

/** Seconds of CPU that the machine spent on anything, stolen time of a virtual machine included. */
export function machineBusySeconds(): number {
  // "cpu  user nice system idle iowait irq softirq steal …"
  const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "latin1").split("\n", 1)[0]!.split(/ +/).slice(1).map(Number);
  return (user! + nice! + system! + irq! + softirq! + steal!) / ticksPerSecond;
}

/** Reads the kernel's numbers of a process. Linux only, like the bench. */
import { readFileSync } from "node:fs";

/** Fixed by Linux for all programs. */
const ticksPerSecond = 100;
const pageBytes = 4096;

/** CPU seconds of all threads since the process started, including threads that have exited. To 10 ms. */
export function cpuSeconds(pid: number): number {
  return secondsIn(`/proc/${pid}/stat`);
}

/** The same for the first thread: a node's hub. */
export function mainThreadSeconds(pid: number): number {
  return threadSeconds(pid, pid);
}

export function threadSeconds(pid: number, thread: number): number {
  return secondsIn(`/proc/${pid}/task/${thread}/stat`);
}

function secondsIn(path: string): number {
  const stat = readFileSync(path, "latin1");
  // The second field is the command in brackets and may contain anything; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

export function rssBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * pageBytes;
}

/** CPU seconds of the whole machine, including stolen time of a virtual machine. */
export function machineBusySeconds(): number {
  // "cpu  user nice system idle iowait irq softirq steal …"
  const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "latin1").split("\n", 1)[0]!.split(/ +/).slice(1).map(Number);
  return (user! + nice! + system! + irq! + softirq! + steal!) / ticksPerSecond;
}

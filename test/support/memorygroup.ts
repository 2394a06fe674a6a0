/** A memory cgroup of our own, as a container's: of version 1 or 2, whichever this machine has. Root only. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";

export interface MemoryGroup {
  readonly version: 1 | 2;
  /** A process that writes its number into this file is in the group, and so is what it starts. */
  readonly procs: string;
  usedBytes(): number;
  /** The most it has used. */
  peakBytes(): number;
  /** What sockets hold in the kernel: version 2 counts it in what is used, version 1 apart. */
  socketBytes(): number;
  /** Processes that the kernel has killed for it. */
  killed(): number;
  /** Every process in it must be gone. */
  remove(): void;
}

const root = "/sys/fs/cgroup";

/** @throws Error in one line, where this process may not or this machine cannot. */
export function createMemoryGroup(name: string, limitBytes: number): MemoryGroup {
  const version = existsSync(`${root}/cgroup.controllers`) ? 2 : 1;
  if (version === 1 && !existsSync(`${root}/memory`)) throw new Error(`no memory cgroups here: neither ${root}/cgroup.controllers nor ${root}/memory exists`);
  const folder = version === 2 ? `${root}/${name}` : `${root}/memory/${name}`;
  try {
    // Version 2 gives a group's children a controller only where the group says so; the root may have processes of its own.
    if (version === 2) writeFileSync(`${root}/cgroup.subtree_control`, "+memory");
    mkdirSync(folder);
    writeFileSync(`${folder}/${version === 2 ? "memory.max" : "memory.limit_in_bytes"}`, String(limitBytes));
  } catch (error) {
    throw new Error(`cannot make a memory cgroup in ${folder}: ${String(error)}`);
  }
  const swap = `${folder}/memory.swap.max`;
  if (version === 2 && existsSync(swap)) writeFileSync(swap, "0");

  const text = (file: string) => readFileSync(`${folder}/${file}`, "utf8");
  const field = (file: string, key: string) => Number(new RegExp(`^${key} (\\d+)$`, "m").exec(text(file))?.[1] ?? 0);
  return {
    version,
    procs: `${folder}/cgroup.procs`,
    usedBytes: () => Number(text(version === 2 ? "memory.current" : "memory.usage_in_bytes")),
    peakBytes: () => {
      if (version === 1) return Number(text("memory.max_usage_in_bytes"));
      return existsSync(`${folder}/memory.peak`) ? Number(text("memory.peak")) : NaN;
    },
    socketBytes: () => (version === 2 ? field("memory.stat", "sock") : Number(text("memory.kmem.tcp.usage_in_bytes"))),
    killed: () => (version === 2 ? field("memory.events", "oom_kill") : field("memory.oom_control", "oom_kill")),
    remove: () => rmdirSync(folder),
  };
}

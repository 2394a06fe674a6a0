/** Resources of this machine or container. Linux only; elsewhere they are unknown. */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

/** The content of a file, or undefined where it cannot be read. */
export type ReadText = (path: string) => string | undefined;

export const readText: ReadText = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // no such file: this kernel or container has no such limit
  }
};

/** Cores this process may keep busy: those it may run on, limited by the CPU quota of its cgroups. */
export function usableCores(read: ReadText = readText, cores: number = availableParallelism()): number {
  return Math.max(1, Math.min(cores, Math.ceil(cpuQuota(read) ?? cores)));
}

/** The lowest CPU quota of this process's cgroups, in cores; undefined if none has one. */
export function cpuQuota(read: ReadText): number | undefined {
  let least: number | undefined;
  for (const { version, folder } of cgroups("cpu", read)) {
    const quota = version === 2 ? quotaV2(folder, read) : quotaV1(folder, read);
    if (quota !== undefined && (least === undefined || quota < least)) least = quota;
  }
  return least;
}

/** "150000 100000": microseconds of CPU per period; "max 100000": no quota. */
function quotaV2(folder: string, read: ReadText): number | undefined {
  const [quota, period] = (read(`${folder}/cpu.max`) ?? "").trim().split(" ");
  return ratio(quota, period);
}

/** A quota of -1 means none. */
function quotaV1(folder: string, read: ReadText): number | undefined {
  return ratio(read(`${folder}/cpu.cfs_quota_us`), read(`${folder}/cpu.cfs_period_us`));
}

function ratio(quota: string | undefined, period: string | undefined): number | undefined {
  const cores = Number.parseInt(quota ?? "", 10) / Number.parseInt(period ?? "", 10);
  return Number.isFinite(cores) && cores > 0 ? cores : undefined;
}

/** A cgroup that may limit this process. */
export interface Cgroup {
  readonly version: 1 | 2;
  readonly folder: string;
}

/** The cgroups of this process for a controller, with their parents. */
export function cgroups(controller: string, read: ReadText): Cgroup[] {
  return (read("/proc/self/cgroup") ?? "").split("\n").flatMap((line): Cgroup[] => {
    // "0::/path" is version 2; "4:cpu,cpuacct:/path" a controller of version 1.
    const [hierarchy, controllers, path] = line.split(":");
    if (controllers === undefined || path === undefined) return [];
    if (hierarchy === "0") return upwards(path).map((group) => ({ version: 2, folder: `/sys/fs/cgroup${group}` }));
    if (!controllers.split(",").includes(controller)) return [];
    // Mounted under all its names, or under one.
    const mounts = [...new Set([controllers, controller])];
    return upwards(path).flatMap((group) => mounts.map((mount) => ({ version: 1, folder: `/sys/fs/cgroup/${mount}${group}` })));
  });
}

/**
 * A cgroup and its parents, the root as "". A quota applies to everything below. In a container the path may be the
 * host's, while only the container's own group is mounted, as the root.
 */
function upwards(path: string): string[] {
  const groups: string[] = [];
  for (let group = path.replace(/\/+$/, ""); group !== ""; group = group.slice(0, group.lastIndexOf("/"))) groups.push(group);
  return [...groups, ""];
}

/** How many files (every socket is one) this process may open; undefined if unknown or unlimited. */
export function openFilesMax(read: ReadText = readText): number | undefined {
  const soft = /^Max open files\s+(\d+)/m.exec(read("/proc/self/limits") ?? "")?.[1];
  return soft === undefined ? undefined : Number(soft);
}

/** Files for Redis, ports of operators, logs, and connections that are being accepted. */
const filesReserved = 256;
const connectionsUnlimited = 50_000;

/** Connections that a process can forward with so many open files, two for each. */
export function connectionsWithin(filesMax: number | undefined): number {
  return filesMax === undefined ? connectionsUnlimited : Math.max(1, Math.floor((filesMax - filesReserved) / 2));
}

/**
 * Whether several threads can listen on one port with Node's net. Its option reusePort exists since 22.12 and 23.1, on
 * systems that spread connections over the listeners.
 */
export function canSharePorts(node: string = process.versions.node, platform: string = process.platform): boolean {
  const [major = 0, minor = 0] = node.split(".").map(Number);
  const knows = major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12);
  return knows && (platform === "linux" || platform === "freebsd");
}

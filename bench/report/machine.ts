/** Describes the measurement: machine, time and versions. */
import { execFileSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { arch, availableParallelism, cpus, release, totalmem, type } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { type PeerName, versionOf } from "../servers/peers.ts";

export type Machine = {
  cpu: string;
  cores: number;
  memoryGiB: number;
  kernel: string;
  node: string;
  date: string;
  versions: Readonly<Record<string, string>>;
};

/** Where the project lies, also for a test that runs from .test/ (test/build.mjs). */
const root = dirname(realpathSync(fileURLToPath(new URL("../../package.json", import.meta.url))));

/** @param peers whose versions belong to the run */
export function thisMachine(peers: readonly PeerName[] = []): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: `${type()} ${release()} ${arch()}`,
    node: process.version,
    date: new Date().toISOString(),
    versions: {
      "flux-gateway": version(`${root}/package.json`),
      "uWebSockets.js": version(`${root}/node_modules/uWebSockets.js/package.json`),
      ws: version(`${root}/node_modules/ws/package.json`),
      "socket.io": version(`${root}/node_modules/socket.io/package.json`),
      ...Object.fromEntries(peers.map((peer) => [peer === "nchan" ? "nginx" : peer, versionOf(peer)])),
    },
  };
}

/** `+`: the files differ from it. */
export function thisCommit(): string {
  const git = (...args: string[]) => execFileSync("git", args, { cwd: root, stdio: ["ignore", "pipe", "ignore"] }).toString().trim();
  try {
    return git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain", "--untracked-files=no", "--", "src", "bench/load", "bench/rows", "bench/servers") === "" ? "" : "+");
  } catch {
    return "unknown";
  }
}

export function machineLine({ cpu, cores, memoryGiB, kernel, node, versions }: Machine): string {
  const packages = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `${cores} cores of ${cpu}, ${memoryGiB} GiB, ${kernel}, Node ${node}, ${packages.join(", ")}`;
}

function version(packageJson: string): string {
  const parsed: unknown = JSON.parse(readFileSync(packageJson, "utf8"));
  return typeof parsed === "object" && parsed !== null && "version" in parsed ? String(parsed.version) : "unknown";
}

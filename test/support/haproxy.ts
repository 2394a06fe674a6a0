/** Debian's haproxy with a configuration that the load balancer has written. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Test } from "tap";
import { until } from "./until.ts";

// Debian keeps it where only root's PATH leads.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };

export interface Haproxy {
  readonly pid: number;
  stop(): Promise<void>;
}

/** What haproxy says against the configuration; "" for nothing. */
export function checkHaproxy(folder: string): string {
  const { status, stderr, error } = spawnSync("haproxy", ["-c", "-f", join(folder, "haproxy.cfg")], { encoding: "utf8", env });
  if (error) return `haproxy is missing: bash test/support/services.sh (${String(error)})`;
  return status === 0 ? "" : stderr;
}

export async function startHaproxy(t: Pick<Test, "teardown">, folder: string): Promise<Haproxy> {
  const child = spawn("haproxy", ["-f", join(folder, "haproxy.cfg"), "-db"], { stdio: ["ignore", "ignore", "pipe"], env });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.on("error", (error) => (said += `haproxy is missing: bash test/support/services.sh (${String(error)})`));
  const exit = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exit;
  };
  t.teardown(stop);
  await until(() => {
    if (child.exitCode !== null || said.includes("missing")) throw new Error(`haproxy ended: ${said}`);
    return existsSync(join(folder, "haproxy.sock"));
  }, "haproxy to start");
  return { pid: child.pid!, stop };
}

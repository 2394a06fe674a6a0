/** Debian's nginx with the configuration that deploy/ has, in front of nodes on this machine. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Test } from "tap";
import { freePort } from "../../src/node/ports.ts";
import { root } from "./root.ts";
import { until } from "./until.ts";

export interface Nginx {
  readonly port: number;
  readonly url: string;
  /** Its error log. */
  readonly said: () => string;
  readonly accessLog: () => string;
  /** Workers there are, those that only end their connections among them. */
  workers(): number;
  /** It reads its configuration again; workers of before close their WebSockets after a second. */
  reload(): void;
  /** It ends with all connections, and starts again. */
  restart(): Promise<void>;
}

export const configuration = (): string => readFileSync(join(root, "deploy/nginx.conf"), "utf8");

/** What of the file belongs to another machine: addresses, paths, and how long a reload takes. Everything else is as it is. */
export function localized(text: string, port: number, nodePorts: readonly number[], dir: string): string {
  const servers = nodePorts.map((nodePort, i): [string, string] => [`server gateway-${i + 1}:8080 `, `server 127.0.0.1:${nodePort} `]);
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/${name};`).join(" ");
  const changes: [string, string][] = [
    ...servers,
    ["listen 80;", `listen 127.0.0.1:${port};`],
    ["access_log /var/log/nginx/flux.log", `access_log ${dir}/access.log`],
    ["worker_processes auto;", `worker_processes 1; daemon off; pid ${dir}/pid;`],
    ["error_log /var/log/nginx/error.log ", "error_log stderr "],
    ["worker_shutdown_timeout 5m;", "worker_shutdown_timeout 1s;"],
    ["worker_rlimit_nofile 65536;", ""],
    ["worker_connections 32768;", "worker_connections 1024;"],
    ["http {", `http { ${temp}`],
  ];
  return changes.reduce((changed, [from, to]) => {
    if (changed.split(from).length !== 2) throw new Error(`deploy/nginx.conf must have this once: ${from}`);
    return changed.replace(from, () => to);
  }, text);
}

export async function startNginx(t: Pick<Test, "teardown" | "testdir">, nodePorts: readonly number[]): Promise<Nginx> {
  const dir = join(t.testdir(), "nginx");
  mkdirSync(dir, { recursive: true });
  const port = await freePort();
  const file = join(dir, "nginx.conf");
  writeFileSync(file, localized(configuration(), port, nodePorts, dir));
  // Debian keeps it where only root's PATH leads.
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };
  let child: ChildProcess | null = null;
  let said = "";

  const start = async (): Promise<void> => {
    const started = spawn("nginx", ["-e", "stderr", "-p", dir, "-c", file], { stdio: ["ignore", "ignore", "pipe"], env });
    child = started;
    let failure = "";
    started.on("error", (error) => (failure = `nginx is missing: bash test/support/services.sh (${String(error)})`));
    started.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    await until(async () => {
      if (failure !== "" || started.exitCode !== null) throw new Error(failure || `nginx ended: ${said}`);
      return fetch(`http://127.0.0.1:${port}/health`).then(({ ok }) => ok, () => false);
    }, "nginx to answer");
  };
  const stop = async (): Promise<void> => {
    if (child === null || child.exitCode !== null || child.pid === undefined) return;
    const exit = once(child, "exit");
    child.kill("SIGTERM");
    await exit;
  };
  await start();
  t.teardown(stop);
  return {
    port,
    url: `ws://127.0.0.1:${port}/ws`,
    said: () => said,
    accessLog: () => readFileSync(join(dir, "access.log"), "utf8"),
    workers: () => readFileSync(`/proc/${child!.pid}/task/${child!.pid}/children`, "utf8").trim().split(" ").filter(Boolean).length,
    reload: () => void child!.kill("SIGHUP"),
    restart: async () => {
      await stop();
      await start();
    },
  };
}

/** A node in a process of its own, started by the built command as an operator would. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { within } from "./rawsocket.ts";

export interface NodeProcess {
  readonly pid: number;
  /** Where clients connect to. */
  readonly url: string;
  readonly port: number;
  readonly adminUrl: string;
  /** 0 where it does not listen for raw TCP. */
  readonly tcpPort: number;
  /** What the node has logged at warn or above. */
  readonly complaints: string[];
  /** Exit code or signal, once it has ended; undefined while it runs. */
  readonly ended: number | string | undefined;
  /** Sum of all values of a metric, over its labels. */
  metric(name: string): Promise<number>;
  metrics(): Promise<string>;
  /** Resident memory from /proc, in bytes. */
  rssBytes(): number;
  /** Asks it to end, and waits until it has. */
  stop(): Promise<void>;
  /** Takes it away from one moment to the next, as kill -9 does. */
  kill(): Promise<void>;
}

const command = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** `flags` are added to those that make it find free ports, end at once and log for machines. `openFiles`: its limit of them. */
export async function startNodeProcess(flags: string[] = [], { openFiles }: { openFiles?: number } = {}): Promise<NodeProcess> {
  const node = [process.execPath, command, "start", "--port", "0", "--admin-port", "0", "--no-demo", "--drain-ms", "0", "--log-format", "json", ...flags];
  const limit = openFiles === undefined ? "" : `ulimit -n ${openFiles} && `;
  const child = spawn("bash", ["-c", `${limit}exec "$@"`, "bash", ...node], { stdio: ["ignore", "pipe", "inherit"] });
  const complaints: string[] = [];
  let ended: number | string | undefined;
  child.once("exit", (code, signal) => (ended = code ?? signal ?? "gone"));

  const running = new Promise<{ websocket: string; tcp: string; metrics: string }>((resolve, reject) => {
    child.once("exit", () => reject(new Error(`the node ended at once:\n${complaints.join("\n")}`)));
    createInterface(child.stdout).on("line", (line) => {
      const entry = JSON.parse(line) as { level: string; websocket?: string; tcp?: string; metrics?: string };
      if (entry.level !== "info") complaints.push(line);
      if (entry.websocket && entry.metrics) resolve({ websocket: entry.websocket, tcp: entry.tcp ?? "off", metrics: entry.metrics });
    });
  });
  const { websocket, tcp, metrics: metricsUrl } = await within(running, "the node to start", 60_000).catch((error: unknown) => {
    child.kill("SIGKILL");
    throw error;
  });
  const metrics = async (): Promise<string> => (await fetch(metricsUrl)).text();

  return {
    pid: child.pid ?? 0,
    url: websocket,
    port: Number(new URL(websocket).port),
    adminUrl: new URL(metricsUrl).origin,
    tcpPort: tcp === "off" ? 0 : Number(new URL(tcp).port),
    complaints,
    get ended() { return ended; },
    metrics,
    metric: async (name) => sumOf(await metrics(), name),
    rssBytes: () => Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]) * 1024,
    stop: async () => {
      if (ended !== undefined) return;
      const exit = once(child, "exit");
      child.kill("SIGTERM");
      await within(exit, "the node to end");
    },
    kill: async () => {
      if (ended !== undefined) return;
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await within(exit, "the node to be gone");
    },
  };
}

/** Sum of a metric in Prometheus's text format; it fails if there is none of that name. */
export function sumOf(text: string, name: string): number {
  const lines = text.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  if (lines.length === 0) throw new Error(`no metric ${name}`);
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

/** A node in a process of its own, started by the built command as an operator would. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createOrders, type Orders } from "./orders.ts";
import { within } from "./rawsocket.ts";
import { checkLine, secretsIn } from "./secrets.ts";

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
  /** The last it said, in its log or past it. */
  readonly lastWords: readonly string[];
  /** How it ended, if nobody asked it to: exit code or signal, and its last words. */
  readonly failure: string | undefined;
  /** Exit code or signal, once it has ended; undefined while it runs. */
  readonly ended: number | string | undefined;
  /** Sum of all values of a metric, over its labels. */
  metric(name: string): Promise<number>;
  metrics(): Promise<string>;
  /** Resident memory from /proc, in bytes. */
  rssBytes(): number;
  /** Asks it to end, and waits until it has. */
  stop(): Promise<void>;
  /** The same by way of its admin port, its sessions sent away over so long. */
  drain(windowMs: number): Promise<void>;
  /** Takes it away from one moment to the next, as kill -9 does. */
  kill(): Promise<void>;
  /** What else a test may tell a node that `obeys`. */
  readonly orders: Orders | null;
}

export interface NodeProcessOptions {
  /** Its limit of open files. */
  readonly openFiles?: number;
  /** It does what a test orders it to; the number of its threads. */
  readonly obeys?: number;
  /** It runs in this memory cgroup (a `cgroup.procs`), with the flags that it asks Node for there, as in a container. */
  readonly group?: string;
  /** The command of another build. Default: that of this one. */
  readonly program?: string | undefined;
}

const command = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

const wordsMax = 20;

/** `flags` are added to those that make it find free ports, end at once and log for machines. */
export async function startNodeProcess(flags: string[] = [], { openFiles, obeys, group, program = command }: NodeProcessOptions = {}): Promise<NodeProcess> {
  const orders = obeys === undefined ? null : createOrders(obeys);
  const node = [process.execPath, ...(group === undefined ? [] : nodeFlags(group, flags)), ...(orders?.flags ?? []), program, "start", "--port", "0", "--admin-port", "0", "--no-demo", "--drain-ms", "0", "--log-format", "json", ...flags];
  const limit = openFiles === undefined ? "" : `ulimit -n ${openFiles} && `;
  const join = group === undefined ? "" : joining(group);
  const env = { ...process.env, ...orders?.env };
  // tap has every process below it write down what it loads, which takes a node three times as long to start.
  const child = spawn("bash", ["-c", `unset NODE_OPTIONS; ${join}${limit}exec "$@"`, "bash", ...node], { stdio: ["ignore", "pipe", "pipe"], env });
  const complaints: string[] = [];
  const lastWords: string[] = [];
  let ended: number | string | undefined;
  let asked = false;
  child.once("exit", (code, signal) => {
    ended = code ?? signal ?? "gone";
    orders?.end();
  });
  const secrets = secretsIn(flags, process.env);
  const note = (line: string): void => {
    checkLine(line, secrets);
    lastWords.push(line);
    if (lastWords.length > wordsMax) lastWords.shift();
  };
  createInterface(child.stderr).on("line", (line) => {
    note(line);
    process.stderr.write(`${line}\n`);
  });

  const running = new Promise<{ websocket: string; tcp: string; metrics: string }>((resolve, reject) => {
    child.once("exit", () => reject(new Error(`the node ended at once:\n${lastWords.join("\n")}`)));
    createInterface(child.stdout).on("line", (line) => {
      note(line);
      // A process that dies says so as it likes.
      if (!line.startsWith("{")) return;
      const entry = JSON.parse(line) as { level: string; websocket?: string; tcp?: string; metrics?: string };
      if (entry.level !== "info") complaints.push(line);
      if (entry.websocket && entry.metrics) resolve({ websocket: entry.websocket, tcp: entry.tcp ?? "off", metrics: entry.metrics });
    });
  });
  const { websocket, tcp, metrics: metricsUrl } = await within(running, "the node to start", 180_000).catch((error: unknown) => {
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
    lastWords,
    get ended() { return ended; },
    get failure() { return ended === undefined || asked ? undefined : `ended by itself (${ended}), and said last:\n${lastWords.join("\n")}`; },
    orders,
    metrics,
    metric: async (name) => sumOf(await metrics(), name),
    rssBytes: () => Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]) * 1024,
    stop: async () => {
      if (ended !== undefined) return;
      asked = true;
      const exit = once(child, "exit");
      child.kill("SIGTERM");
      await within(exit, "the node to end", 180_000);
    },
    drain: async (windowMs) => {
      asked = true;
      const exit = once(child, "exit");
      const answer = await fetch(new URL("/drain", metricsUrl), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ windowMs }) });
      if (!answer.ok) throw new Error(`the node does not drain: ${answer.status} ${await answer.text()}`);
      // How far it is, until the node is gone and it with it.
      await Promise.all([answer.text().catch(() => ""), within(exit, "the node to end", windowMs + 180_000)]);
    },
    kill: async () => {
      if (ended !== undefined) return;
      asked = true;
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await within(exit, "the node to be gone");
    },
  };
}

/** What the entry point of the image does before it starts the node. */
function nodeFlags(group: string, flags: readonly string[]): string[] {
  const script = `unset NODE_OPTIONS; ${joining(group)}exec "$@"`;
  const asked = execFileSync("bash", ["-c", script, "bash", process.execPath, command, "node-flags", ...flags]);
  return asked.toString().trim().split(" ");
}

const joining = (group: string) => `echo $$ > ${group} && `;

/** Sum of a metric in Prometheus's text format; it fails if there is none of that name. */
export function sumOf(text: string, name: string): number {
  const lines = text.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  if (lines.length === 0) throw new Error(`no metric ${name}`);
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

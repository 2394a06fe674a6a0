/**
 * `flux-gateway lb` beside haproxy in TCP mode with one thread, in front of bare uWS, in turn: 3,000 sockets, each with ten
 * echoes a second. What a forwarded echo costs (a message there and one back), what it adds to the latency, and what a
 * connection costs to make and to hold.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectNet } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { youngFlag } from "../../src/platform/heap.ts";
import { freePort } from "../../src/node/ports.ts";
import { fluxCommand, workerScript } from "../build.ts";
import { micros } from "../load/clock.ts";
import { LoadThread } from "../load/thread.ts";
import { cpuSeconds, rssBytes } from "../proc.ts";
import { type ServerUnderTest, startServer } from "../servers/start.ts";
import { between, connect, percentileMs, read } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const host = "127.0.0.1";
const socketsMax = 3000;
const echoesPerSecond = 10;
const warmUpSeconds = 3;
const warmUpSockets = 1000;
/** What an echo is delayed by is measured at a fifth of the rate: at the whole of it two cores are busy, and queues decide. */
const calmShare = 0.2;
const calmSeconds = 4;
const settleMs = 1500;
const drainMs = 2000;
const ways = ["direct", "haproxy", "lb"] as const;
type Way = (typeof ways)[number];

export const lbRow: Row = {
  name: "lb",
  title: ({ sockets }) => `Load balancers: ${socketsOf(sockets).toLocaleString("en")} sockets, each ${echoesPerSecond} echoes a second, forwarded to bare uWS`,
  servers: ["flux"],
  metrics: [
    { key: "lbMicros", title: "flux-gateway lb: CPU / echo", unit: "µs", digits: 1 },
    { key: "haproxyMicros", title: "haproxy: CPU / echo", unit: "µs", digits: 1 },
    { key: "ratio", title: "flux-gateway lb to haproxy", unit: "×", digits: 2 },
    { key: "lbAdded", title: "flux-gateway lb: p50 added", unit: "ms", digits: 2 },
    { key: "haproxyAdded", title: "haproxy: p50 added", unit: "ms", digits: 2 },
    { key: "directP50", title: "p50 without either", unit: "ms", digits: 2 },
    { key: "lbP99", title: "flux-gateway lb: p99", unit: "ms", digits: 1 },
    { key: "haproxyP99", title: "haproxy: p99", unit: "ms", digits: 1 },
    { key: "lbBytes", title: "flux-gateway lb: RSS / connection", unit: "bytes", digits: 0 },
    { key: "haproxyBytes", title: "haproxy: RSS / connection", unit: "bytes", digits: 0 },
    { key: "lbConnectMicros", title: "flux-gateway lb: CPU / new connection", unit: "µs", digits: 0 },
    { key: "haproxyConnectMicros", title: "haproxy: CPU / new connection", unit: "µs", digits: 0 },
    { key: "missing", title: "missing", unit: "", digits: 0 },
    { key: "otherCores", title: "rest of the machine", unit: "cores", digits: 2 },
  ],
  compared: "lbMicros",
  bars: [
    { metric: "ratio", of: "value", atMost: 1.2 },
    { metric: "lbAdded", of: "value", below: 0.3 },
    { metric: "lbBytes", of: "value", atMost: 12_000 },
    { metric: "lbConnectMicros", of: "value", atMost: 350 },
    { metric: "missing", of: "value", never: true },
  ],
  secondsPlanned: ({ seconds }) => ways.length * (seconds + calmSeconds + 2 * warmUpSeconds + 6),
  run: async (_server, scale, say) => run(scale, say),
};

function socketsOf(sockets: number): number {
  return Math.min(socketsMax, sockets);
}

interface Measured {
  readonly cpuMicros: number;
  readonly p50: number;
  readonly p99: number;
  readonly bytes: number;
  readonly connectMicros: number;
  readonly missing: number;
  readonly otherCores: number;
}

async function run(scale: Scale, say: Say): Promise<Values> {
  const measured = {} as Record<Way, Measured>;
  for (const way of ways) measured[way] = await measure(way, scale, say);
  const { direct, haproxy, lb } = measured;
  return {
    lbMicros: lb.cpuMicros, haproxyMicros: haproxy.cpuMicros, ratio: lb.cpuMicros / haproxy.cpuMicros,
    lbAdded: lb.p50 - direct.p50, haproxyAdded: haproxy.p50 - direct.p50, directP50: direct.p50, lbP99: lb.p99, haproxyP99: haproxy.p99,
    lbBytes: lb.bytes, haproxyBytes: haproxy.bytes, lbConnectMicros: lb.connectMicros, haproxyConnectMicros: haproxy.connectMicros,
    missing: direct.missing + haproxy.missing + lb.missing, otherCores: Math.max(direct.otherCores, haproxy.otherCores, lb.otherCores),
  };
}

async function measure(way: Way, { seconds, sockets: asked, profileDir }: Scale, say: Say): Promise<Measured> {
  const sockets = socketsOf(asked);
  const server = await startServer("uws", { reactors: 1, profileDir: null });
  const proxy = way === "direct" ? null : await startProxy(way, server.port, profileDir);
  const thread = new LoadThread(workerScript);
  const target: ServerUnderTest = proxy === null ? server : { ...server, port: proxy.port };
  // Without a proxy the server stands in for it, so that the rest of the machine is what is left.
  const pid = proxy?.pid ?? server.pid;
  try {
    say(`${way}: connecting ${sockets} sockets`, 5);
    // Some first: code that V8 has compiled. The first thousand connections of a process cost half as much again.
    const warm = new LoadThread(workerScript);
    await connect(warm, target, "echo", warmUpSockets);
    await warm.stop();
    await sleep(settleMs);
    const [rssBefore, cpuBefore] = [rssBytes(pid), cpuSeconds(pid)];
    await connect(thread, target, "echo", sockets);
    const connectMicros = ((cpuSeconds(pid) - cpuBefore) * 1e6) / sockets;

    const calm = await echo({ thread, rate: sockets * echoesPerSecond * calmShare, seconds: calmSeconds, title: `${way}: latency`, server, pid }, say);
    const whole = await echo({ thread, rate: sockets * echoesPerSecond, seconds, title: `${way}: measuring`, server, pid }, say);
    await sleep(settleMs);
    return {
      cpuMicros: whole.cpuMicros,
      p50: calm.p50, p99: calm.p99,
      bytes: (rssBytes(pid) - rssBefore) / sockets,
      connectMicros,
      missing: calm.missing + whole.missing,
      otherCores: Math.max(0, whole.otherCores - (proxy === null ? 0 : whole.serverCores)),
    };
  } finally {
    await thread.stop();
    await proxy?.stop();
    await server.stop();
  }
}

interface Echoing {
  readonly thread: LoadThread;
  readonly rate: number;
  readonly seconds: number;
  readonly title: string;
  readonly server: ServerUnderTest;
  /** Whose CPU counts. */
  readonly pid: number;
}

async function echo({ thread, rate, seconds, title, server, pid }: Echoing, say: Say) {
  const count = rate * (warmUpSeconds + seconds);
  const before = thread.delivered;
  const startAt = micros() + 200_000;
  const measureFrom = startAt + warmUpSeconds * 1e6;
  await thread.ask<"measure">({ kind: "measure", from: measureFrom });
  const echoing = thread.ask<"echo">({ kind: "echo", schedule: { rate, count, startAt } });
  echoing.catch(() => {}); // awaited below; not unhandled meanwhile
  await sleep((measureFrom - micros()) / 1000);
  say(title, seconds);
  const crew = { server: { ...server, pid }, threads: [thread] };
  const [first, serverFirst] = [read(crew), cpuSeconds(server.pid)];
  await sleep(seconds * 1000 - 300);
  const stretch = between(first, read(crew));
  const serverCores = (cpuSeconds(server.pid) - serverFirst) / stretch.seconds;
  await echoing;
  const giveUpAt = performance.now() + drainMs;
  while (thread.delivered - before < count && performance.now() < giveUpAt) await sleep(20);
  const { latency } = await thread.ask<"tally">({ kind: "tally" });
  return {
    cpuMicros: (stretch.serverCores * stretch.seconds * 1e6) / stretch.delivered,
    p50: percentileMs(latency, 50), p99: percentileMs(latency, 99),
    missing: count - (thread.delivered - before), otherCores: stretch.otherCores, serverCores,
  };
}

interface Proxy {
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

async function startProxy(way: "haproxy" | "lb", target: number, profileDir: string | null): Promise<Proxy> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "flux-bench-lb-"));
  const [command, args] = way === "haproxy" ? haproxy(folder, port, target) : await lb(port, target, profileDir);
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
  child.once("error", (error) => console.error(`${command} cannot be run: ${error.message}; bash test/support/services.sh`));
  for (let tries = 0; tries < 500 && !(await listens(port)); tries++) await sleep(20);
  return {
    port,
    pid: child.pid!,
    stop: async () => {
      const exit = once(child, "exit");
      child.kill(way === "lb" && profileDir !== null ? "SIGINT" : "SIGKILL");
      await exit;
      rmSync(folder, { recursive: true });
    },
  };
}

/** In the foreground: one process, whose CPU counts. */
function haproxy(folder: string, port: number, target: number): [string, string[]] {
  const file = join(folder, "haproxy.cfg");
  writeFileSync(file, `global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 2s
  timeout client 75s
  timeout server 75s
listen bench
  bind ${host}:${port}
  server one ${host}:${target}
`);
  return ["haproxy", ["-db", "-f", file]];
}

async function lb(port: number, target: number, profileDir: string | null): Promise<[string, string[]]> {
  const profile = profileDir === null ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}/lb`];
  // The server answers /ready as everything else.
  return [process.execPath, [...profile, youngFlag, fluxCommand, "lb", "--policy", "round-robin", "--nodes", `one=${host}:${target}`, "--port", String(port), "--admin-port", "0", "--log-level", "warn"]];
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectNet(port, host, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

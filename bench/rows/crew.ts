/** A server and its load threads for one measurement. */
import type { RecordableHistogram } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { workerScript } from "../build.ts";
import { micros } from "../load/clock.ts";
import type { Format, Role } from "../load/conversation.ts";
import { LoadThread } from "../load/thread.ts";
import { cpuSeconds, machineBusySeconds, threadSeconds } from "../proc.ts";
import { type ServerName, type ServerUnderTest, type StartOptions, startServer } from "../servers/start.ts";
import type { Metric } from "./row.ts";

export type Crew = { server: ServerUnderTest; threads: LoadThread[] };

export async function withCrew<T>(
  name: ServerName,
  start: StartOptions,
  threadCount: number,
  use: (crew: Crew) => Promise<T>,
): Promise<T> {
  const server = await startServer(name, start);
  const threads = Array.from({ length: threadCount }, () => new LoadThread(workerScript));
  try {
    return await use({ server, threads });
  } finally {
    await Promise.all(threads.map((thread) => thread.stop()));
    await server.stop();
  }
}

export async function connect(
  thread: LoadThread,
  { dialect, host, port }: ServerUnderTest,
  role: Role,
  sockets: number,
  format: Format = "binary",
): Promise<void> {
  await thread.ask<"connect">({ kind: "connect", target: { dialect, format, host, port }, role, sockets });
}

/** Sockets that are refused for now (3014) come again. Resolves with how often. */
export async function connectPatiently(thread: LoadThread, { dialect, host, port }: ServerUnderTest, role: Role, sockets: number): Promise<number> {
  return (await thread.ask<"connect">({ kind: "connect", target: { dialect, format: "binary", host, port }, role, sockets, patient: true })).refused;
}

/** Messages for the warm-up, with one member: enough for the compiler to optimize the whole path. */
const warmUpMessages = 8_000;
const warmUpRate = 2_000;
export const warmUpSecondsPlanned = warmUpMessages / warmUpRate + 0.5;

/** The work of the measurement for one socket, which is closed afterwards. The same for every server. */
export async function warmUp({ server }: Crew, format: Format = "binary"): Promise<void> {
  const thread = new LoadThread(workerScript);
  try {
    await connect(thread, server, "member", 1, format);
    const schedule = { rate: warmUpRate, count: warmUpMessages, startAt: micros() + 50_000 };
    await thread.ask<"publish">({ kind: "publish", schedule });
    const giveUpAt = performance.now() + 10_000;
    while (thread.delivered < warmUpMessages && performance.now() < giveUpAt) await sleep(20);
  } finally {
    await thread.stop();
  }
}

/** All counters at one moment of the load. */
export type Reading = { atMs: number; serverSeconds: number; loadSeconds: number; threadSeconds: number[]; busySeconds: number; delivered: number };

export function read({ server, threads }: Crew): Reading {
  const { user, system } = process.cpuUsage();
  return {
    atMs: performance.now(),
    serverSeconds: cpuSeconds(server.pid),
    loadSeconds: (user + system) / 1e6,
    threadSeconds: threads.map((thread) => threadSeconds(process.pid, thread.threadId)),
    busySeconds: machineBusySeconds(),
    delivered: threads.reduce((sum, thread) => sum + thread.delivered, 0),
  };
}

/** Cores: CPU seconds per second. */
export type Stretch = { seconds: number; delivered: number; serverCores: number; loadCores: number; busiestCores: number; otherCores: number };

export function between(from: Reading, to: Reading): Stretch {
  const seconds = (to.atMs - from.atMs) / 1000;
  const serverCores = (to.serverSeconds - from.serverSeconds) / seconds;
  const loadCores = (to.loadSeconds - from.loadSeconds) / seconds;
  const busyCores = (to.busySeconds - from.busySeconds) / seconds;
  const busiestCores = Math.max(0, ...to.threadSeconds.map((cpu, i) => (cpu - from.threadSeconds[i]!) / seconds));
  const otherCores = Math.max(0, busyCores - serverCores - loadCores);
  return { seconds, delivered: to.delivered - from.delivered, serverCores, loadCores, busiestCores, otherCores };
}

/** Metrics of every row but idle: use of the cores. */
export const coreMetrics: readonly Metric[] = [
  { key: "serverCores", title: "server", unit: "cores", digits: 2 },
  { key: "loadCores", title: "load client", unit: "cores", digits: 2 },
  { key: "otherCores", title: "rest of the machine", unit: "cores", digits: 2 },
];

/** From microseconds. An empty histogram has no percentile. */
export function percentileMs(latency: RecordableHistogram, percentile: number): number {
  return latency.count === 0 ? Number.NaN : latency.percentile(percentile) / 1000;
}

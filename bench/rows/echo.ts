/**
 * Every socket sends one message a second and receives it back, spread over the second. After the warm-up, a minute of
 * this must not grow the server's memory.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { micros } from "../load/clock.ts";
import { rssBytes } from "../proc.ts";
import { gauge, scrape } from "../scrape.ts";
import type { ServerName, ServerUnderTest } from "../servers/start.ts";
import { between, connect, coreMetrics, percentileMs, read, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const warmUpSeconds = 10;
const drainMs = 2000;
const MiB = 1024 * 1024;

export const echoRow: Row = {
  name: "echo",
  title: ({ sockets }) => `Echo: ${sockets.toLocaleString("en")} sockets, each one message of 128 bytes a second`,
  metrics: [
    { key: "p50", title: "p50", unit: "ms", digits: 2 },
    { key: "p99", title: "p99", unit: "ms", digits: 2 },
    { key: "max", title: "max", unit: "ms", digits: 1 },
    { key: "cpuMicros", title: "server CPU / echo", unit: "µs", digits: 1 },
    ...coreMetrics,
    { key: "missing", title: "missing", unit: "", digits: 0 },
    { key: "rssGrowth", title: "RSS growth", unit: "%", digits: 1 },
    { key: "heapGrowth", title: "heap growth", unit: "%", digits: 1 },
    { key: "buffersAllocated", title: "buffers allocated", unit: "", digits: 0 },
    { key: "latenessP99", title: "load late by p99", unit: "ms", digits: 2 },
  ],
  compared: "cpuMicros",
  bars: [
    { metric: "p99", of: "value", below: 5 },
    { metric: "serverCores", of: "value", below: 0.4 },
    { metric: "missing", of: "value", never: true },
    // A heap with occasional collections is stable if its lowest points are.
    { metric: "heapGrowth", of: "value", atMost: 5 },
    { metric: "buffersAllocated", of: "value", never: true },
  ],
  secondsPlanned: ({ seconds }) => 5 + warmUpSeconds + echoSeconds(seconds),
  run,
};

/** A trend of memory needs more time than a percentile. */
function echoSeconds(seconds: number): number {
  return seconds * 6;
}

function run(name: ServerName, scale: Scale, say: Say): Promise<Values> {
  return withCrew(name, { reactors: 1, profileDir: scale.profileDir }, 1, async (crew) => {
    const { server, threads } = crew;
    const [thread] = threads;
    if (!thread) throw new Error("a load thread was asked for");
    const seconds = echoSeconds(scale.seconds);
    say(`connecting ${scale.sockets} sockets`, 5);
    await connect(thread, server, "echo", scale.sockets);

    const count = scale.sockets * (warmUpSeconds + seconds);
    const startAt = micros() + 200_000;
    const measureFrom = startAt + warmUpSeconds * 1e6;
    await thread.ask<"measure">({ kind: "measure", from: measureFrom });
    say("warming up", warmUpSeconds);
    const echoing = thread.ask<"echo">({ kind: "echo", schedule: { rate: scale.sockets, count, startAt } });
    echoing.catch(() => {}); // awaited below, after the readings; not unhandled meanwhile
    await sleep((measureFrom - micros()) / 1000);

    say("measuring", seconds);
    const first = read(crew);
    const memory = await watchMemory(server, seconds);
    const { seconds: measured, delivered, ...cores } = between(first, read(crew));
    const { lateness } = await echoing;
    const giveUpAt = performance.now() + drainMs;
    while (thread.delivered < count && performance.now() < giveUpAt) await sleep(20);
    const { latency, delivered: all } = await thread.ask<"tally">({ kind: "tally" });
    return {
      p50: percentileMs(latency, 50),
      p99: percentileMs(latency, 99),
      max: latency.max / 1000,
      cpuMicros: (cores.serverCores * measured * 1e6) / delivered,
      ...cores,
      missing: count - all,
      latenessP99: percentileMs(lateness, 99),
      ...memory,
    };
  });
}

type Sample = { rss: number; heap: number; buffers: number };

/** Samples once a second and reports the growth. Heap and buffers only with /metrics. */
async function watchMemory(server: ServerUnderTest, seconds: number): Promise<Values> {
  const endAt = performance.now() + seconds * 1000;
  const samples: Sample[] = [];
  while (performance.now() < endAt - 500) {
    samples.push(await sample(server));
    await sleep(Math.max(0, Math.min(1000, endAt - performance.now())));
  }
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last) throw new Error("too short to watch memory");
  const rssGrowth = growth(samples.map(({ rss }) => rss));
  if (server.adminPort === null) return { rssGrowth };
  const heapGrowth = growth(samples.map(({ heap }) => heap));
  return { rssGrowth, heapGrowth, buffersAllocated: last.buffers - first.buffers, rss: last.rss / MiB, heap: last.heap / MiB };
}

async function sample({ pid, adminPort }: ServerUnderTest): Promise<Sample> {
  const rss = rssBytes(pid);
  if (adminPort === null) return { rss, heap: 0, buffers: 0 };
  const metrics = await scrape(adminPort);
  return {
    rss,
    heap: gauge(metrics, "flux_reactor_heap_bytes") + gauge(metrics, "nodejs_heap_size_used_bytes"),
    buffers: gauge(metrics, "flux_buffers_allocated_total"),
  };
}

/** Per cent, from the lowest of the first third to the lowest of the last third. */
function growth(samples: readonly number[]): number {
  const third = Math.ceil(samples.length / 3);
  const before = Math.min(...samples.slice(0, third));
  return (Math.min(...samples.slice(-third)) / before - 1) * 100;
}

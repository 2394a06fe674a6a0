/**
 * Small memory: `npm run test:memory -- 96 128` (MiB; without any: 96, 128, 160 and 256).
 *
 * A node in a memory cgroup of its own, as in a container of that size, is given more than it can hold: connects faster
 * than it looks at its memory, readers that do not read, and large publications. The kernel must never have to kill it:
 * it refuses, and serves those it has. A node that lets almost nobody in survives too: so each limit names how many of the
 * crowd have to join, and whoever does not has to be told why. Root only, Linux only; no container engine is needed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createMemoryGroup, type MemoryGroup } from "./support/memorygroup.ts";
import { startNodeProcess, sumOf, type NodeProcess } from "./support/nodeprocess.ts";
import { plainClient, type Fate, type PlainClient } from "./support/plainclient.ts";
import { until } from "./support/until.ts";

const mib = 2 ** 20;
/** What one process may have open here is 20,000. */
const crowd = 18_000;
const connectsPerSecond = 3_000;
/** Addresses they come from: on one with many sockets of the trial before, the kernel takes long to find a free port. */
const sources = 64;
const slowReaders = 400;
const readers = 100;
const publishers = 10;
const floodMs = 10_000;
const limitMs = 120_000;
/**
 * Of the crowd, how many join at the least, by limit in MiB: well below what a busy machine with two cores let in, which were
 * 5,245, 3,062, 6,169 and 18,000. Between two limits the lower one's holds, below them all `joinedMin`.
 */
const joinedMins: readonly (readonly [limitMiB: number, joined: number])[] = [[256, 12_000], [160, 3_000], [128, 1_500], [96, 2_000]];
const joinedMin = 500;
/** Of those who do not join, the share that may be dropped without a code, as the kernel's queues may have been full; so may a few. */
const droppedShareMax = 0.5;
const droppedMin = 20;

interface Trial {
  readonly limitMiB: number;
  readonly node: NodeProcess;
  readonly group: MemoryGroup;
  readonly clients: PlainClient[];
}

interface Fates extends Record<Fate, number> {
  /** Connects a second that this process came to. */
  readonly rate: number;
}

const trials: Record<string, (trial: Trial) => Promise<string>> = {
  connects: async (trial) => {
    const fates = await connectMany(trial, crowd, "live:crowd");
    const said = `${fates.joined} of ${crowd} joined, ${fates.refused} refused, ${fates.dropped} dropped, at ${fates.rate} connects/s`;
    expectJoined(fates, leastOf(trial.limitMiB), said);
    return said;
  },
  "slow readers": (trial) => slow(trial, 2_000),
  "slow readers, 64 KiB": (trial) => slow(trial, 60_000),
  "publications of 64 KiB": async (trial) => {
    expectJoined(await connectMany(trial, readers, "chat:large"), readers / 2, "readers");
    return flood(trial, "chat:large", 60_000);
  },
};

async function slow(trial: Trial, bytes: number): Promise<string> {
  const fates = await connectMany(trial, slowReaders, "chat:slow");
  expectJoined(fates, slowReaders / 2, "slow readers");
  const stalled = trial.clients.splice(0);
  for (const { tcp } of stalled) tcp.pause();
  const flooded = await flood(trial, "chat:slow", bytes);
  const closed = sumOf(await trial.node.metrics(), "flux_slow_consumers_total");
  for (const { tcp } of stalled) tcp.destroy();
  return `${fates.joined} slow readers, ${closed} closed; ${flooded}`;
}

function leastOf(limitMiB: number): number {
  return joinedMins.find(([from]) => limitMiB >= from)?.[1] ?? joinedMin;
}

/** @throws Error where too few came in, or too many were left without an answer. */
function expectJoined({ joined, refused, dropped }: Fates, least: number, said: string): void {
  if (joined < least) throw new Error(`${said}: at least ${least} should have joined, and ${joined} did`);
  if (dropped > droppedMin && dropped > droppedShareMax * (refused + dropped)) throw new Error(`${said}: of ${refused + dropped} that did not join, ${dropped} were dropped without a code`);
}

/** At `connectsPerSecond`, whatever becomes of them. */
async function connectMany({ node, clients }: Trial, count: number, room: string): Promise<Fates> {
  const fates = { joined: 0, refused: 0, dropped: 0 };
  const errors = new Map<string, number>();
  const all: Promise<void>[] = [];
  const stepMs = 20;
  const began = performance.now();
  while (all.length < count) {
    const due = Math.min(count, Math.ceil(((performance.now() - began + stepMs) * connectsPerSecond) / 1000));
    while (all.length < due) {
      const client = plainClient(node.port, room, `127.0.0.${2 + (all.length % sources)}`);
      clients.push(client);
      all.push(client.fate.then((fate) => {
        fates[fate]++;
        if (fate === "dropped") errors.set(client.error, (errors.get(client.error) ?? 0) + 1);
        if (fate !== "joined") client.tcp.destroy();
      }));
    }
    await sleep(stepMs);
  }
  const rate = Math.round(count / ((performance.now() - began) / 1000));
  await Promise.all(all);
  if (process.env.VERBOSE) console.log(Object.fromEntries(errors));
  return { ...fates, rate };
}

/** Everybody publishes as fast as it is answered, for a while. */
async function flood(trial: Trial, room: string, bytes: number): Promise<string> {
  const before = trial.clients.length;
  await until(async () => {
    if (trial.clients.length - before < publishers) await connectMany(trial, 1, room);
    return trial.clients.length - before >= publishers || trial.node.ended !== undefined;
  }, "publishers to be let in", limitMs).catch(() => undefined);
  const counts = { kept: 0, refused: 0 };
  const refusals = new Map<string, number>();
  const end = performance.now() + floodMs;
  const data = "x".repeat(bytes);
  await Promise.all(trial.clients.slice(before).map((client) => new Promise<void>((resolve) => {
    let id = 10;
    const next = () => (performance.now() < end ? client.send({ id: id++, publish: { room, data } }) : resolve());
    client.tcp.once("close", () => resolve());
    client.onMessage = (message) => {
      if (message.includes('"published"')) counts.kept++;
      else if (message.includes('"error"')) {
        counts.refused++;
        const code = /"code":"(\w+)"/.exec(message)?.[1] ?? message;
        refusals.set(code, (refusals.get(code) ?? 0) + 1);
      }
      else return;
      // A rate that is refused is tried again at leisure.
      setTimeout(next, message.includes("rate_limited") ? 100 : 0);
    };
    next();
  })));
  if (counts.kept === 0) throw new Error(`not one publication of ${bytes} B was accepted by a node that ${trial.clients.length - before} publishers got into`);
  return `${counts.kept} publications of ${bytes} B accepted, ${counts.refused} refused (${[...refusals].map(([code, n]) => `${code} ${n}`).join(", ")})`;
}

/** Those that are in get an answer. */
async function stillServes({ node, clients }: Trial): Promise<void> {
  const open = clients.filter(({ tcp, messages }) => !tcp.destroyed && messages >= 0);
  await Promise.all(open.slice(0, 200).map((client) => new Promise<void>((resolve, reject) => {
    const ask = () => client.send({ id: 9, ping: {} });
    client.onMessage = (message) => {
      if (message.includes('"pong"')) resolve();
      // Its publications have used up its rate.
      else if (message.includes("rate_limited")) setTimeout(ask, 100);
    };
    client.tcp.once("close", () => reject(new Error("a socket that was in was lost")));
    ask();
  })));
  const health = await fetch(`http://127.0.0.1:${node.port}/health`);
  if (!health.ok) throw new Error(`/health answers ${health.status}`);
}

async function run(limitMiB: number, name: string): Promise<boolean> {
  const group = createMemoryGroup(`flux-memory-${process.pid}`, limitMiB * mib);
  const label = `${String(limitMiB).padStart(4)} MiB, ${name}`;
  const clients: PlainClient[] = [];
  let node: NodeProcess | undefined;
  const peaks = { used: 0, sockets: 0 };
  const watch = setInterval(() => {
    peaks.used = Math.max(peaks.used, group.usedBytes());
    peaks.sockets = Math.max(peaks.sockets, group.socketBytes());
  }, 50);
  const figures = () => `peak ${mb(Number.isFinite(group.peakBytes()) ? group.peakBytes() : peaks.used)}, in the kernel's queues ${mb(peaks.sockets)}`;
  try {
    node = await startNodeProcess([...flagsGiven], { group: group.procs });
    const idle = group.usedBytes();
    const trial = { limitMiB, node, group, clients };
    const said = await trials[name]!(trial);
    if (process.env.VERBOSE) console.log((await node.metrics()).split("\n").filter((line) => /^(flux_reactor_heap|nodejs_(heap_size|external)|flux_memory|flux_queues_cut|flux_sockets)/.test(line)).join("\n"));
    await stillServes(trial);
    const ok = node.ended === undefined && group.killed() === 0;
    console.log(`${ok ? "ok    " : "FAILED"} ${label}: ${said}; ${mb(idle)} when idle, ${figures()}${ok ? "" : `; ${node.failure}`}`);
    return ok;
  } catch (error) {
    console.log(`FAILED ${label}: ${node?.failure ?? String(error)}; ${figures()}, killed by the kernel: ${group.killed()}`);
    return false;
  } finally {
    clearInterval(watch);
    for (const { tcp } of clients) tcp.destroy();
    await node?.kill();
    await until(() => removed(group), "the cgroup to be empty");
  }
}

function removed(group: MemoryGroup): boolean {
  try {
    group.remove();
    return true;
  } catch {
    return false; // its last process is on its way out
  }
}

const mb = (bytes: number) => `${Math.round(bytes / mib)} MiB`;

const args = process.argv.slice(2);
const limits = args.filter((arg) => /^\d+$/.test(arg)).map(Number);
const only = args.filter((arg) => !/^\d+$/.test(arg) && !arg.startsWith("--"));
const flagsGiven = args.filter((arg) => arg.startsWith("--"));
let failed = 0;
try {
  for (const limit of limits.length > 0 ? limits : [96, 128, 160, 256]) {
    for (const name of Object.keys(trials).filter((name) => only.length === 0 || only.includes(name))) if (!(await run(limit, name))) failed++;
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
process.exit(failed > 0 ? 1 : 0);

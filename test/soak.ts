/**
 * Faults without end: `npm run soak -- --minutes 10 --seed 42`, with `--routes` for a NATS server of each node and cut routes
 * between them, and `--only TEXT` for the faults with this in their names.
 *
 * Three nodes, NATS and Redis as processes of their own. In every episode members who use the SDK talk while a few faults
 * happen to what they talk through, one after the other or two at once; then all that was acknowledged must be with every
 * member, once and in order, or the member was told of a gap (which it may only be where NATS lost its store), and every
 * node must know who is there. When they have gone nothing may be left of them: no session, no room, nothing that waits, and
 * in the end no memory. The same seed makes the same faults.
 */
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inTime, startCluster, type Cluster } from "./support/cluster.ts";
import { cutRoutes, drained, faults as allFaults, faultsIn, limits, type Fault } from "./support/faults.ts";
import { untilQuiet } from "./support/gauges.ts";
import { startPopulation } from "./support/population.ts";
import { until } from "./support/until.ts";

export interface SoakOptions {
  seconds: number;
  seed: number;
  /** Each node has a NATS server of its own, with two others, and their routes are cut. Default: one NATS for all. */
  routes?: boolean;
  /** Only the faults with this in their names. */
  only?: string;
  progress?: (line: string) => void;
}

export interface SoakReport {
  episodes: number;
  acknowledged: number;
  delivered: number;
  /** What is wrong, in words; empty if nothing is. */
  faults: string[];
}

interface Planned {
  readonly fault: Fault;
  readonly which: number;
  readonly ms: number;
  /** The next one happens meanwhile. */
  readonly overlaps: boolean;
}

/** One NATS of several that is killed is nats-cluster.test.ts's. */
function faultsOf({ routes = false, only = "" }: SoakOptions): readonly Fault[] {
  const all = routes ? [...allFaults.filter(({ hits }) => hits !== "NATS"), cutRoutes, drained] : [...allFaults, ...limits, drained];
  return all.filter(({ name }) => name.includes(only));
}

const size = 3;
const members = 24;
/** Of NATS: more than an hour of publications. */
const diskBytes = 256 * 1024 * 1024;
/** In an ephemeral room, of which faults may lose anything, but after which it has to work, and leave nothing. */
const passing = { members: 6, publishers: 2, everyMs: 20 };
/** Growth of a node's heaps, after their garbage was collected, since its first episode: code that was compiled, and no more. */
const heapGrowthBytesMax = 6 * 1024 * 1024;
/** Growth of its resident memory that is not called flat: half, and 48 MB for the allocator's own moods. */
const growthMax = 1.5;
const growthBytesMax = 48 * 1024 * 1024;
/** A room keeps its place for a minute after its last member; empty ones are looked for every 5 s. The rest is for a busy machine. */
const emptyRoomMs = 95_000;

const planOf = (faults: readonly Fault[]) => fc.array(
  fc.record({
    fault: fc.constantFrom(...faults),
    which: fc.nat({ max: size - 1 }),
    ms: fc.integer({ min: 50, max: 6000 }),
    overlaps: fc.boolean(),
  }),
  { minLength: 1, maxLength: 4 },
);

export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { seconds, seed, routes = false, progress = () => undefined } = options;
  const plan = planOf(faultsOf(options));
  const report: SoakReport = { episodes: 0, acknowledged: 0, delivered: 0, faults: [] };
  const ends: (() => unknown)[] = [];
  const folder = mkdtempSync(join(tmpdir(), "flux-soak-"));
  const t = { teardown: (end: () => unknown) => void ends.push(end), testdir: () => folder };
  try {
    const cluster = await startCluster(t, { size, obeys: true, replicated: routes, diskBytes });
    const memory = new Map<number, Growth>();
    const endAt = performance.now() + seconds * 1000;
    while (performance.now() < endAt && report.faults.length === 0) {
      const [planned] = fc.sample(plan, { seed: seedOf(seed, report.episodes), numRuns: 1 });
      await episode(cluster, planned!, `seed ${seed}, episode ${report.episodes}`, report, progress);
      report.episodes++;
      for (const failure of cluster.failures) report.faults.push(`a node ended: ${failure}`);
      if (report.faults.length > 0) break;
      await measure(cluster, memory);
      progress(`heaps: ${cluster.nodes.map(({ pid }) => shown(memory.get(pid)!)).join("; ")}`);
    }
    if (report.faults.length === 0) await judgeMemory(cluster, memory, report, progress);
  } finally {
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  }
  return report;
}

/** Neighbouring seeds share no episodes. */
function seedOf(seed: number, episode: number): number {
  return createHash("sha256").update(`${seed} ${episode}`).digest().readInt32LE(0);
}

interface Memory {
  readonly heapBytes: number;
  readonly rssBytes: number;
}

/** Of a process: after its first episode, and now. */
interface Growth {
  readonly first: Memory;
  readonly last: Memory;
}

function shown({ first, last }: Growth): string {
  const mb = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  return `${mb(first.heapBytes)} to ${mb(last.heapBytes)} MiB, resident ${mb(first.rssBytes)} to ${mb(last.rssBytes)}`;
}

/** By process: one that was killed is another when it is back. */
async function measure({ nodes }: Cluster, memory: Map<number, Growth>): Promise<void> {
  for (const { pid, orders, rssBytes } of nodes) {
    const now = { heapBytes: await orders!.heapBytes(), rssBytes: rssBytes() };
    memory.set(pid, { first: memory.get(pid)?.first ?? now, last: now });
  }
}

async function judgeMemory(cluster: Cluster, memory: Map<number, Growth>, report: SoakReport, progress: (line: string) => void): Promise<void> {
  try {
    await untilQuiet(cluster, { rooms: true, limitMs: emptyRoomMs });
    await measure(cluster, memory);
  } catch (error) {
    report.faults.push(error instanceof Error ? error.message : String(error));
  }
  for (const { pid } of cluster.nodes) {
    const { first, last } = memory.get(pid)!;
    progress(`in the end: ${shown({ first, last })}`);
    if (last.heapBytes > first.heapBytes + heapGrowthBytesMax) report.faults.push(`a node's heaps went from ${first.heapBytes} to ${last.heapBytes} bytes`);
    if (last.rssBytes > first.rssBytes * growthMax + growthBytesMax) report.faults.push(`a node's memory went from ${first.rssBytes} to ${last.rssBytes} bytes`);
  }
}

async function episode(cluster: Cluster, planned: readonly Planned[], name: string, report: SoakReport, progress: (line: string) => void): Promise<void> {
  const said = planned.map(({ fault, which, ms, overlaps }) => `${fault.name} (${which}, ${ms} ms)${overlaps ? " +" : ""}`).join("; ");
  const ends: (() => unknown)[] = [];
  try {
    const population = await startPopulation({ teardown: (end) => void ends.push(end) }, cluster.front.url, { room: `log:${name}`, members, seed: name, patienceMs: 1500 });
    const ephemeral = await startPopulation({ teardown: (end) => void ends.push(end) }, cluster.front.url, { ...passing, room: `live:${name}`, seed: name, patienceMs: 1500 });
    await population.progress(50);
    await happen(cluster, planned);
    await cluster.ready();
    await until(() => [...population.clients, ...ephemeral.clients].every(({ state }) => state === "ready"), "every client to be back", 90_000);
    await inTime(cluster, "presence", (limitMs) => population.present(cluster.nodes, limitMs), true);
    await population.progress(50);
    const verdict = await population.stop();
    report.acknowledged += verdict.acknowledged;
    report.delivered += verdict.delivered;
    const mayLose = planned.some(({ fault }) => fault.loses === true);
    if (faultsIn(verdict, mayLose) > 0) report.faults.push(`${name}: ${said}\n${verdict.report}`);
    else if (population.gaps > 0 && !mayLose) report.faults.push(`${name}: ${said}: members were told of ${population.gaps} gaps`);
    await ephemeral.progress(10);
    const { unattempted, uninvited, report: lived } = await ephemeral.stop();
    if (unattempted + uninvited > 0) report.faults.push(`${name}: ${said}\n${lived}`);
    await Promise.all([population.close(), ephemeral.close()]);
    await inTime(cluster, "nothing left of them", (limitMs) => untilQuiet(cluster, { limitMs }), true);
    progress(`${name}: ${verdict.acknowledged} acknowledged, ${faultsIn(verdict, mayLose)} faults: ${said}`);
  } catch (error) {
    report.faults.push(`${name}: ${said}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

async function happen(cluster: Cluster, planned: readonly Planned[]): Promise<void> {
  let running: { hits: string; over: Promise<void> } | null = null;
  for (const { fault, which, ms, overlaps } of planned) {
    const { hits } = fault;
    if (running !== null && running.hits === hits) {
      await running.over;
      running = null;
    }
    const over = fault.happen(cluster, which, ms);
    over.catch(() => undefined); // awaited below
    if (running !== null) await running.over;
    running = { hits, over };
    if (overlaps) await sleep(ms / 2);
    else await over;
  }
  await running?.over;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" }, seed: { type: "string" }, routes: { type: "boolean", default: false }, only: { type: "string", default: "" } } });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9));
  const say = (line: string) => void process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);
  say(`soaking for ${values.minutes} minutes with seed ${seed}`);
  const report = await soak({ seconds: Number(values.minutes) * 60, seed, routes: values.routes, only: values.only, progress: say });
  say(`${report.episodes} episodes, ${report.acknowledged} acknowledged, ${report.delivered} delivered, ${report.faults.length} faults`);
  for (const fault of report.faults) say(fault);
  process.exit(report.faults.length === 0 ? 0 : 1);
}

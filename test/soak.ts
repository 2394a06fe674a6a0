/**
 * Faults without end: `npm run soak -- --minutes 10 --seed 42`.
 *
 * Three nodes, NATS and Redis as processes of their own. In every episode members who use the SDK talk while a few faults
 * happen to what they talk through, one after the other or two at once; then all that was acknowledged must be with every
 * member, once and in order, or the member was told of a gap (which it may only be where NATS lost its store). In the end
 * the nodes' memory must be where it was. The same seed makes the same faults.
 */
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { faults, faultsIn, startCluster, type Cluster } from "./support/cluster.ts";
import { startPopulation } from "./support/population.ts";
import { until } from "./support/until.ts";

export interface SoakOptions {
  seconds: number;
  seed: number;
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
  readonly fault: number;
  readonly which: number;
  readonly ms: number;
  /** The next one happens meanwhile. */
  readonly overlaps: boolean;
}

const size = 3;
const members = 24;
/** Growth of a node from the second episode to the last that is not called flat: half, and 48 MB for the heaps' own moods. */
const growthMax = 1.5;
const growthBytesMax = 48 * 1024 * 1024;

const plan = fc.array(
  fc.record({
    fault: fc.nat({ max: faults.length - 1 }),
    which: fc.nat({ max: size - 1 }),
    ms: fc.integer({ min: 50, max: 6000 }),
    overlaps: fc.boolean(),
  }),
  { minLength: 1, maxLength: 4 },
);

export async function soak({ seconds, seed, progress = () => undefined }: SoakOptions): Promise<SoakReport> {
  const report: SoakReport = { episodes: 0, acknowledged: 0, delivered: 0, faults: [] };
  const ends: (() => unknown)[] = [];
  const folder = mkdtempSync(join(tmpdir(), "flux-soak-"));
  const t = { teardown: (end: () => unknown) => void ends.push(end), testdir: () => folder };
  try {
    const cluster = await startCluster(t, [], size);
    const memory = new Map<number, { first: number; last: number }>();
    const endAt = performance.now() + seconds * 1000;
    while (performance.now() < endAt && report.faults.length === 0) {
      const [planned] = fc.sample(plan, { seed: seed + report.episodes, numRuns: 1 });
      await episode(cluster, planned!, `seed ${seed}, episode ${report.episodes}`, report, progress);
      report.episodes++;
      for (const node of cluster.nodes) {
        if (node.ended !== undefined) {
          report.faults.push(`a node ended by itself (${node.ended}):\n${node.complaints.slice(-5).join("\n")}`);
          continue;
        }
        const known = memory.get(node.pid);
        memory.set(node.pid, { first: known?.first ?? node.rssBytes(), last: node.rssBytes() });
      }
    }
    for (const { first, last } of memory.values()) {
      if (last > first * growthMax + growthBytesMax) report.faults.push(`a node's memory went from ${first} to ${last} bytes`);
    }
  } finally {
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  }
  return report;
}

async function episode(cluster: Cluster, planned: readonly Planned[], name: string, report: SoakReport, progress: (line: string) => void): Promise<void> {
  const said = planned.map(({ fault, which, ms, overlaps }) => `${faults[fault]!.name} (${which}, ${ms} ms)${overlaps ? " +" : ""}`).join("; ");
  const ends: (() => unknown)[] = [];
  try {
    const population = await startPopulation({ teardown: (end) => void ends.push(end) }, cluster.front.url, { room: `log:${name}`, members, seed: name });
    await population.progress(50);
    await happen(cluster, planned);
    await cluster.ready();
    await until(() => population.clients.every(({ state }) => state === "ready"), "every client to be back", 90_000);
    await population.progress(50);
    const verdict = await population.stop();
    report.acknowledged += verdict.acknowledged;
    report.delivered += verdict.delivered;
    const mayLose = planned.some(({ fault }) => faults[fault]!.loses === true);
    if (faultsIn(verdict, mayLose) > 0) report.faults.push(`${name}: ${said}\n${verdict.report}`);
    else if (population.gaps > 0 && !mayLose) report.faults.push(`${name}: ${said}: members were told of ${population.gaps} gaps`);
    progress(`${name}: ${verdict.acknowledged} acknowledged, ${faultsIn(verdict, mayLose)} faults: ${said}`);
  } catch (error) {
    report.faults.push(`${name}: ${said}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

/** Two faults never share what they happen to: a node that is killed while it stands still could not be started again. */
async function happen(cluster: Cluster, planned: readonly Planned[]): Promise<void> {
  let running: { fault: number; over: Promise<void> } | null = null;
  for (const { fault, which, ms, overlaps } of planned) {
    if (running !== null && kindOf(running.fault) === kindOf(fault)) {
      await running.over;
      running = null;
    }
    const over = faults[fault]!.happen(cluster, which, ms);
    over.catch(() => undefined); // awaited below
    if (running !== null) await running.over;
    running = { fault, over };
    if (overlaps) await sleep(ms / 2);
    else await over;
  }
  await running?.over;
}

function kindOf(fault: number): string {
  return faults[fault]!.name.split(" ").slice(0, 2).join(" ").replace("NATS is", "NATS").replace("NATS stands", "NATS");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" }, seed: { type: "string" } } });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9));
  const say = (line: string) => void process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);
  say(`soaking for ${values.minutes} minutes with seed ${seed}`);
  const report = await soak({ seconds: Number(values.minutes) * 60, seed, progress: say });
  say(`${report.episodes} episodes, ${report.acknowledged} acknowledged, ${report.delivered} delivered, ${report.faults.length} faults`);
  for (const fault of report.faults) say(fault);
  process.exit(report.faults.length === 0 ? 0 : 1);
}

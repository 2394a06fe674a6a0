/**
 * `--placement partition` beside `hash`, on three nodes: direct messages acknowledged in a second by the same load; what
 * an idle node costs for its lease and its queues; and how long deliveries pause when a node drains and when it is killed.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { patientHeartbeat, startCluster, type Cluster } from "../../test/support/cluster.ts";
import { startMail, type Mail } from "../../test/support/mail.ts";
import { secret } from "../../test/support/tokens.ts";
import { until } from "../../test/support/until.ts";
import { scratchFolder, workerScript } from "../build.ts";
import { micros } from "../load/clock.ts";
import { LoadThread } from "../load/thread.ts";
import { cpuSeconds } from "../proc.ts";
import { type Teardown, verdictBars, verdictMetrics, verdictValues, withTeardown } from "./cluster.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const size = 3;
const partitions = 64;
const mailersPerNode = 40;
const warmUpSeconds = 2;
const turns = 3;
const idleSeconds = 10;
const users = 30;
const devices = 2;
const everyMs = 25;
type Mode = "hash" | "partition";
const modes: readonly Mode[] = ["hash", "partition"];
const loadFlags = ["--allow-anonymous", "--commands-per-second", "0", "--sends-per-minute", "0", "--placement-stable-ms", "0", "--placement-calm-ms", "0"];

export const partitionRow: Row = {
  name: "partition",
  title: () => `Leases of partitions: ${partitions} partitions over 4 streams, three nodes`,
  servers: ["flux"],
  metrics: [
    { key: "acknowledged", title: "direct messages acknowledged", unit: "/s", digits: 0 },
    { key: "hash", title: "the same load under hash", unit: "/s", digits: 0 },
    { key: "share", title: "  share reached", unit: "", digits: 2 },
    { key: "cost", title: "CPU of nodes and NATS for one of them", unit: "µs", digits: 0 },
    { key: "hashCost", title: "the same under hash", unit: "µs", digits: 0 },
    { key: "idle", title: "CPU of an idle node", unit: "ms/s", digits: 1 },
    { key: "hashIdle", title: "the same under hash", unit: "ms/s", digits: 1 },
    { key: "upkeep", title: "  for renewing, watching, pulling", unit: "ms/s", digits: 1 },
    { key: "drainPause", title: "SIGTERM: longest pause of a device", unit: "ms", digits: 0 },
    { key: "killPause", title: "kill -9: until every device is given messages again", unit: "s", digits: 1 },
    ...verdictMetrics,
  ],
  compared: "acknowledged",
  bars: [
    { metric: "share", of: "value", atLeast: 0.75 },
    { metric: "upkeep", of: "value", atMost: 10 },
    { metric: "drainPause", of: "value", below: 1_000 },
    { metric: "killPause", of: "value", below: 20 },
    ...verdictBars,
  ],
  secondsPlanned: ({ seconds }) => 50 + idleSeconds + 2 * (turns * warmUpSeconds + seconds) + 90,
  run: (_, scale, say) => run(scale, say),
};

async function run(scale: Scale, say: Say): Promise<Values> {
  const { hash, partition } = await loads(scale, say);
  const moved = await moves(say);
  return {
    // First: it counts what it acknowledged, too.
    ...moved,
    acknowledged: partition.acknowledged, hash: hash.acknowledged, share: partition.acknowledged / hash.acknowledged,
    idle: partition.idle, hashIdle: hash.idle, upkeep: partition.idle - hash.idle, cost: partition.cost, hashCost: hash.cost,
  };
}

function start(teardown: Teardown, placement: Mode, flags: readonly string[]): Promise<Cluster> {
  mkdirSync(scratchFolder, { recursive: true });
  return startCluster({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/partition-`) }, { size, flags: [...patientHeartbeat, "--placement", placement, "--placement-partitions", String(partitions), ...flags] });
}

/** Every node owns, or holds, its part. A new NATS takes half a minute for that. */
async function settled({ nodes }: Cluster, metric: string): Promise<void> {
  const owned = () => Promise.all(nodes.map((node) => node.metric(metric)));
  await until(async () => {
    const counts = await owned();
    return counts.every((count) => count > 0) && counts.reduce((sum, count) => sum + count, 0) === partitions;
  }, "every node to have its partitions", 120_000);
}

interface Load {
  readonly acknowledged: number;
  readonly idle: number;
  /** CPU of nodes and NATS, in microseconds a message. */
  readonly cost: number;
}

/** Both modes run at once, and get their load in turns: what else the machine does then costs both the same. */
function loads({ seconds }: Scale, say: Say): Promise<Record<Mode, Load>> {
  return withTeardown(async (teardown) => {
    say("hash and partition: idle", 40 + idleSeconds);
    const clusters = {
      hash: await start(teardown, "hash", loadFlags),
      partition: await start(teardown, "partition", loadFlags),
    };
    await settled(clusters.hash, "flux_placement_owned_partitions");
    await settled(clusters.partition, "flux_partitions_held");
    const cpu = (mode: Mode) => clusters[mode].nodes.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
    const idleBefore = [cpu("hash"), cpu("partition")] as const;
    await sleep(idleSeconds * 1000);
    const idle = (mode: Mode, before: number) => (1000 * (cpu(mode) - before)) / idleSeconds / size;
    const idles = { hash: idle("hash", idleBefore[0]), partition: idle("partition", idleBefore[1]) };
    const counts = { hash: { messages: 0, seconds: 0, cpu: 0 }, partition: { messages: 0, seconds: 0, cpu: 0 } };
    for (let turn = 0; turn < turns; turn++) {
      for (const mode of modes) {
        say(`${mode}: direct messages, ${turn + 1} of ${turns}`, warmUpSeconds + seconds / turns);
        const thread = new LoadThread(workerScript);
        for (const { port } of clusters[mode].nodes) {
          await thread.ask<"connect">({ kind: "connect", target: { dialect: "flux", format: "binary", host: "127.0.0.1", port }, role: "mailer", sockets: mailersPerNode });
        }
        await thread.ask<"circle">({ kind: "circle" });
        await sleep(warmUpSeconds * 1000);
        await thread.ask<"measure">({ kind: "measure", from: micros() });
        const spent = () => cpu(mode) + cpuSeconds(clusters[mode].nats.pid);
        const [delivered, at, before] = [thread.delivered, performance.now(), spent()];
        await sleep((seconds * 1000) / turns);
        const count = counts[mode];
        count.messages += thread.delivered - delivered;
        count.seconds += (performance.now() - at) / 1000;
        count.cpu += spent() - before;
        await thread.stop();
      }
    }
    const of = (mode: Mode): Load => ({ acknowledged: counts[mode].messages / counts[mode].seconds, idle: idles[mode], cost: (1e6 * counts[mode].cpu) / counts[mode].messages });
    return { hash: of("hash"), partition: of("partition") };
  });
}

function moves(say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    say("a node drains, another is killed", 90);
    const flags = ["--auth-secret", secret, "--sends-per-minute", "0", "--placement-stable-ms", "0", "--placement-calm-ms", "0", "--drain-ms", "2s"];
    const cluster = await start(teardown, "partition", flags);
    await settled(cluster, "flux_partitions_held");
    const pauses = new Map<string, { at: number; longest: number }>();
    const mail: Mail = await startMail({ teardown }, cluster.front.url, {
      secret, users, devices, everyMs,
      onDelivered: (device) => {
        const now = performance.now();
        const known = pauses.get(device) ?? { at: now, longest: 0 };
        pauses.set(device, { at: now, longest: Math.max(known.longest, now - known.at) });
      },
    });
    await mail.round();
    for (const one of pauses.values()) one.longest = 0;
    await cluster.nodes[1]!.stop();
    await mail.round();
    const drainPause = Math.max(...[...pauses.values()].map(({ longest }) => longest));
    await cluster.restart(1);
    await settled(cluster, "flux_partitions_held");
    await mail.round();
    const killedAt = performance.now();
    await cluster.nodes[2]!.kill();
    await mail.round();
    const killPause = (performance.now() - killedAt) / 1000;
    return { drainPause, killPause, ...verdictValues(await mail.stop(), mail.gaps) };
  });
}

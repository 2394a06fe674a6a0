/**
 * Three nodes are restarted one after the other by SIGTERM with the default drain, while members publish. Measures how
 * evenly the clients return, and the fate of their messages. Members use the SDK with its default backoff.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { patientHeartbeat, startCluster } from "../../test/support/cluster.ts";
import { startPopulation } from "../../test/support/population.ts";
import { scratchFolder } from "../build.ts";
import { verdictBars, verdictMetrics, verdictValues, withTeardown } from "./cluster.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const sessionsMax = 1500;
const size = 3;
const everyMs = 100;
const drainSeconds = 30;

export const rollingRow: Row = {
  name: "rolling",
  title: (scale) => `Rolling restart of three nodes: ${sessions(scale).toLocaleString("en")} sessions in a durable room, drained over ${drainSeconds} s each`,
  servers: ["flux"],
  metrics: [
    { key: "seconds", title: "it took", unit: "s", digits: 0 },
    { key: "moves", title: "moves of sessions", unit: "", digits: 0 },
    { key: "peak", title: "most that came back in a second", unit: "", digits: 0 },
    { key: "peakShare", title: "  of all sessions", unit: "%", digits: 1 },
    ...verdictMetrics,
  ],
  compared: "peakShare",
  bars: [
    { metric: "peakShare", of: "value", atMost: 10 },
    ...verdictBars,
  ],
  secondsPlanned: () => 20 + size * (drainSeconds + 5),
  run: (_, scale, say) => run(scale, say),
};

function sessions({ sockets }: Scale): number {
  return Math.min(sessionsMax, sockets);
}

function run(scale: Scale, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const flags = [...patientHeartbeat, "--drain-ms", `${drainSeconds}s`];
    const cluster = await startCluster({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/rolling-`) }, { flags, size });
    say("connecting", 15);
    const population = await startPopulation({ teardown }, cluster.front.url, {
      room: "log:rolling", members: sessions(scale), publishers: 4, everyMs, backoff: { baseMs: 500, capMs: 20_000 },
    });
    await population.progress(20);
    const moves: number[] = [];
    for (const client of population.clients) client.on("ready", () => void moves.push(Math.floor(performance.now() / 1000)));

    const startedAt = performance.now();
    for (let index = 0; index < size; index++) {
      say(`node ${index + 1} of ${size} is restarted`, drainSeconds + 5);
      await cluster.restart(index);
      await cluster.ready();
    }
    const seconds = (performance.now() - startedAt) / 1000;
    await population.progress(20);
    const verdict = await population.stop();
    if (cluster.failures.length > 0) throw new Error(cluster.failures.join("\n"));
    const perSecond = new Map<number, number>();
    for (const second of moves) perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
    const peak = Math.max(...perSecond.values());
    return {
      seconds,
      moves: moves.length,
      peak,
      peakShare: (100 * peak) / sessions(scale),
      ...verdictValues(verdict, population.gaps),
    };
  });
}

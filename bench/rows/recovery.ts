/**
 * One of three nodes is killed (kill -9) while members talk: how long it is until its sessions are back on the others,
 * whether they come bunched, and what became of their messages. Members use the SDK with its default backoff, behind a
 * front that passes connections on in turn; they, the front and the nodes share the machine.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { startCluster } from "../../test/support/cluster.ts";
import { startPopulation } from "../../test/support/population.ts";
import { scratchFolder } from "../build.ts";
import type { Row, Scale, Say, Values } from "./row.ts";
import { verdictBars, verdictMetrics, verdictValues, withTeardown } from "./cluster.ts";

const sessionsMax = 3000;
const everyMs = 250;
const sliceMs = 100;
const secondsMax = 60;

export const recoveryRow: Row = {
  name: "recovery",
  title: (scale) => `One of three nodes is killed: ${sessions(scale).toLocaleString("en")} sessions in a durable room, default backoff`,
  servers: ["flux"],
  metrics: [
    { key: "seconds", title: "until every session was back", unit: "s", digits: 2 },
    { key: "moved", title: "sessions that had to move", unit: "", digits: 0 },
    { key: "peak", title: `most that came in ${sliceMs} ms`, unit: "", digits: 0 },
    { key: "peakRatio", title: "  ÷ the mean", unit: "", digits: 2 },
    ...verdictMetrics,
  ],
  compared: "seconds",
  bars: [
    { metric: "seconds", of: "value", atMost: 20 },
    { metric: "peakRatio", of: "value", atMost: 2 },
    ...verdictBars,
  ],
  secondsPlanned: () => 40,
  run: (_, scale, say) => run(scale, say),
};

function sessions({ sockets }: Scale): number {
  return Math.min(sessionsMax, sockets);
}

function run(scale: Scale, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const cluster = await startCluster({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/recovery-`) }, { flags: ["--heartbeat-ms", "25s"] });
    const { front, nodes } = cluster;
    say("connecting", 15);
    const population = await startPopulation({ teardown }, front.url, {
      room: "log:recovery", members: sessions(scale), publishers: 2, everyMs, backoff: { baseMs: 500, capMs: 20_000 },
    });
    await population.progress(20);
    const victim = nodes[0]!;
    const moved = front.passed.get(victim.port) ?? 0;
    const passed = (): number => [...front.passed.values()].reduce((sum, count) => sum + count, 0);

    say("a node is killed", 10);
    const slices: number[] = [];
    let before = passed();
    await victim.kill();
    const killedAt = performance.now();
    const elapsed = (): number => (performance.now() - killedAt) / 1000;
    const isBack = (): boolean => before - passedAtKill >= moved && population.clients.every(({ state }) => state === "ready");
    const passedAtKill = before;
    for (let slice = 1; !isBack() && elapsed() < secondsMax; slice++) {
      await sleep(Math.max(0, slice * sliceMs - elapsed() * 1000));
      slices.push(passed() - before);
      before = passed();
    }
    const seconds = elapsed();
    // From the first that came to the last: what lies before and behind it is nobody's rate.
    const busy = slices.slice(slices.findIndex((count) => count > 0), slices.findLastIndex((count) => count > 0) + 1);
    const peak = Math.max(...busy);

    say("waiting for the rest", 5);
    await population.progress(10);
    const verdict = await population.stop();
    return {
      seconds,
      moved,
      peak,
      peakRatio: peak / (busy.reduce((sum, count) => sum + count, 0) / busy.length),
      ...verdictValues(verdict, population.gaps),
    };
  });
}

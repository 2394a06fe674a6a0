/**
 * A reader of a catch-up room stalls for 30 s while 10,000 messages are published, then reads again. It must get all of
 * them in order, and the others must not notice: their latency is compared with that of the 30 s before.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { micros } from "../load/clock.ts";
import { largePayloadBytes } from "../load/payload.ts";
import { gauge, scrape } from "../scrape.ts";
import type { ServerName } from "../servers/start.ts";
import { between, connect, coreMetrics, percentileMs, read, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const readers = 200;
const rate = 1_000 / 3;
const stallSeconds = 30;
const messages = rate * stallSeconds;
const warmUpSeconds = 5;
/** Publishing continues while the reader catches up. */
const afterSeconds = 10;

export const catchUpRow: Row = {
  name: "catchup",
  title: () => `Catch-up: one of ${readers} readers stalls ${stallSeconds} s while ${messages.toLocaleString("en")} messages of ${largePayloadBytes} bytes pass`,
  servers: ["flux"],
  metrics: [
    { key: "missing", title: "missing at the reader", unit: "", digits: 0 },
    { key: "disordered", title: "out of order or twice", unit: "", digits: 0 },
    { key: "behind", title: "fell behind", unit: "times", digits: 0 },
    { key: "caughtUp", title: "given later", unit: "", digits: 0 },
    { key: "seconds", title: "until live", unit: "s", digits: 1 },
    { key: "p50Before", title: "others' p50 before", unit: "ms", digits: 1 },
    { key: "p50", title: "meanwhile", unit: "ms", digits: 1 },
    { key: "p99Before", title: "others' p99 before", unit: "ms", digits: 1 },
    { key: "p99", title: "meanwhile", unit: "ms", digits: 1 },
    { key: "p99Ratio", title: "ratio of p99", unit: "", digits: 2 },
    ...coreMetrics,
  ],
  compared: "p99Ratio",
  bars: [
    { metric: "missing", of: "value", never: true },
    { metric: "disordered", of: "value", never: true },
    { metric: "behind", of: "value", atLeast: 1 },
    { metric: "p99Ratio", of: "value", below: 2 },
  ],
  secondsPlanned: () => 3 + warmUpSeconds + 2 * stallSeconds + 2 * afterSeconds,
  run,
};

/** The stalled reader answers no pings. Heartbeats are not part of this measurement. */
const namespaces = { chat: { historySize: 100_000, historyBytesMax: 1_000_000_000, slowReaders: "catch-up" } };
const flags = ["--namespaces", JSON.stringify(namespaces), "--heartbeat-ms", "120000"];

function run(name: ServerName, { profileDir }: Scale, say: Say): Promise<Values> {
  return withCrew(name, { reactors: 1, profileDir, flags }, 3, async (crew) => {
    const [audience, stage, slow] = crew.threads;
    if (!audience || !stage || !slow) throw new Error("three load threads were asked for");
    say("connecting", 1);
    await connect(audience, crew.server, "reader", readers - 1);
    await connect(stage, crew.server, "reader", 1);
    await connect(slow, crew.server, "reader", 1);

    const phase = stallSeconds + afterSeconds;
    const count = Math.round(rate * (warmUpSeconds + 2 * phase));
    const startAt = micros() + 200_000;
    const publishing = stage.ask<"publish">({ kind: "publish", schedule: { rate, count, startAt } });
    publishing.catch(() => {}); // awaited below
    const at = async (seconds: number): Promise<void> => void (await sleep(startAt / 1000 + seconds * 1000 - micros() / 1000));

    await at(warmUpSeconds);
    const first = read(crew);
    say("everybody reads", phase);
    await audience.ask<"measure">({ kind: "measure", from: micros() });
    await at(warmUpSeconds + phase);
    const before = await audience.ask<"tally">({ kind: "tally" });
    const [p50Before, p99Before] = [percentileMs(before.latency, 50), percentileMs(before.latency, 99)];

    say("one stalls", phase);
    await audience.ask<"measure">({ kind: "measure", from: micros() });
    await slow.ask<"stall">({ kind: "stall", stalled: true });
    await sleep(stallSeconds * 1000);
    await slow.ask<"stall">({ kind: "stall", stalled: false });
    const resumedAt = performance.now();
    let seconds = Number.NaN;
    const { adminPort } = crew.server;
    while (Number.isNaN(seconds) && performance.now() < resumedAt + afterSeconds * 1000) {
      if (gauge(await scrape(adminPort!), "flux_members_behind") === 0) seconds = (performance.now() - resumedAt) / 1000;
      else await sleep(100);
    }
    await publishing;
    const { serverCores, loadCores, otherCores } = between(first, read(crew));
    const giveUpAt = performance.now() + afterSeconds * 1000;
    while (slow.delivered < count && performance.now() < giveUpAt) await sleep(50);
    const [others, its] = [await audience.ask<"tally">({ kind: "tally" }), await slow.ask<"tally">({ kind: "tally" })];
    const metrics = await scrape(adminPort!);
    const [p50, p99] = [percentileMs(others.latency, 50), percentileMs(others.latency, 99)];
    return {
      missing: count - its.delivered,
      disordered: its.disordered + its.unchained + others.disordered + others.unchained,
      behind: gauge(metrics, "flux_slow_rooms_total"),
      caughtUp: gauge(metrics, "flux_publications_caught_up_total"),
      seconds,
      p50Before, p50, p99Before, p99,
      p99Ratio: p99 / p99Before,
      serverCores, loadCores, otherCores,
    };
  });
}

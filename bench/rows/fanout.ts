/**
 * One publisher, a room of 1,000, payloads of 128 bytes. The publisher is a member too and sends by the clock from a
 * thread of its own. Latency counts from the intended sending time, at the other members. Bare uWS sends as many bytes
 * per message as flux-gateway, not only the payload: the length of the messages must not count.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { micros } from "../load/clock.ts";
import type { Format } from "../load/conversation.ts";
import type { Tally } from "../load/orders.ts";
import type { ServerName } from "../servers/start.ts";
import { between, connect, coreMetrics, type Crew, percentileMs, read, warmUp, warmUpSecondsPlanned, withCrew } from "./crew.ts";
import type { Bar, Metric, Row, Scale, Say, Values } from "./row.ts";

/** Of the load, before the measurement. */
const warmUpSeconds = 2;
/** Time for a slow server to deliver the rest. Later messages count as late. */
const drainSeconds = 5;

export const fanOutMetrics: readonly Metric[] = [
  { key: "cpuMicros", title: "server CPU / delivery", unit: "µs", digits: 2 },
  { key: "deliveries", title: "deliveries", unit: "k/s", digits: 0 },
  { key: "p50", title: "p50", unit: "ms", digits: 1 },
  { key: "p99", title: "p99", unit: "ms", digits: 1 },
  { key: "offered", title: "offered", unit: "k/s", digits: 0 },
  { key: "lost", title: "lost", unit: "", digits: 0 },
  { key: "late", title: "late", unit: "", digits: 0 },
  { key: "disordered", title: "out of order", unit: "", digits: 0 },
  ...coreMetrics,
];

export const nothingLost: readonly Bar[] = ["lost", "late", "disordered"].map((metric) => ({ metric, of: "value", never: true }) as const);

export const titles: Record<Format, string> = { binary: "binary", json: "JSON", "json-arrays": "JSON arrays" };

export function fanoutRow(format: Format, rate: number): Row {
  const saturating = rate === 2000;
  return {
    name: format === "binary" ? `fanout-${rate}` : `fanout-${format}-${rate}`,
    ...(format !== "binary" && { servers: ["flux", "uws"] as const }),
    title: ({ members }) => `Fan-out${format === "binary" ? "" : ` in ${titles[format]}`}: room of ${members.toLocaleString("en")}, 128 bytes, ${rate.toLocaleString("en")} messages/s`,
    metrics: fanOutMetrics,
    compared: saturating ? "deliveries" : "cpuMicros",
    bars: [
      saturating ? { metric: "deliveries", of: "ratio", atLeast: 0.9 } : { metric: "cpuMicros", of: "ratio", atMost: 1.15 },
      ...nothingLost,
    ],
    secondsPlanned: ({ seconds }) => 2 + warmUpSecondsPlanned + warmUpSeconds + seconds,
    run: (server, scale, say) => fanOut(server, { format, rate }, scale, say),
  };
}

/** Another load, from the warm-up to the end of the measurement. */
export type Beside = (seconds: number) => Promise<unknown>;

export type FanOutLoad = {
  format: Format;
  /** Messages per second of all publishers together. */
  rate: number;
  /** Sessions that publish in turn. They are members of the room. Default: 1. */
  publishers?: number;
  /** flux-gateway's publishers do not get what they publish. Losses are looked for at the other members. */
  excludeSelf?: boolean;
  /** Default: 1. flux-gateway only. */
  reactors?: number;
  /** More flags, flux-gateway only. */
  flags?: readonly string[];
  beside?: Beside;
};

export function fanOut(
  name: ServerName,
  { format, rate, publishers = 1, excludeSelf = false, reactors = 1, flags = [], beside = () => Promise.resolve() }: FanOutLoad,
  { seconds, members, profileDir }: Scale,
  say: Say,
): Promise<Values> {
  return withCrew(name, { reactors, profileDir, flags }, 2, async (crew) => {
    const [audience, stage] = crew.threads;
    if (!audience || !stage) throw new Error("two load threads were asked for");
    say("warming up", warmUpSecondsPlanned);
    await warmUp(crew, format);
    say(`connecting ${members} members`, 1);
    await connect(audience, crew.server, "member", members - publishers, format);
    await connect(stage, crew.server, excludeSelf ? "excluder" : "member", publishers, format);
    const judged = { ...crew, threads: excludeSelf ? [audience] : crew.threads };

    const count = rate * (warmUpSeconds + seconds);
    const startAt = micros() + 200_000;
    const measureFrom = startAt + warmUpSeconds * 1e6;
    for (const thread of crew.threads) await thread.ask<"measure">({ kind: "measure", from: measureFrom, publishers });

    say("beginning", warmUpSeconds);
    const publishing = stage.ask<"publish">({ kind: "publish", schedule: { rate, count, startAt, publishers } });
    const other = beside(warmUpSeconds + seconds);
    for (const begun of [publishing, other]) begun.catch(() => {}); // awaited below, after the readings; not unhandled meanwhile
    await sleep((measureFrom - micros()) / 1000);
    say("measuring", seconds);
    const first = read(crew);
    await sleep(seconds * 1000);
    const { seconds: measured, delivered, ...cores } = between(first, read(crew));
    await Promise.all([publishing, other]);

    say("waiting for the rest", 0);
    const expected = count * (excludeSelf ? members - publishers : members);
    await drained(judged, expected);
    const tally = await total(judged);
    // The publishers' thread naps between two messages: its members hear up to a millisecond late.
    const { latency } = await audience.ask<"tally">({ kind: "tally" });
    const cpuMicros = (cores.serverCores * measured * 1e6) / delivered;
    return {
      cpuMicros,
      cpuPublication: cpuMicros * members,
      deliveries: delivered / measured / 1000,
      share: (100 * delivered) / (rate * members * measured),
      p50: percentileMs(latency, 50),
      p99: percentileMs(latency, 99),
      offered: (rate * members) / 1000,
      lost: Math.max(0, tally.lost - tally.disordered),
      late: expected - tally.delivered - tally.lost + tally.disordered,
      disordered: tally.disordered + tally.unchained,
      ...cores,
    };
  });
}

async function drained({ threads }: Crew, expected: number): Promise<void> {
  const giveUpAt = performance.now() + drainSeconds * 1000;
  const delivered = (): number => threads.reduce((sum, thread) => sum + thread.delivered, 0);
  while (delivered() < expected && performance.now() < giveUpAt) await sleep(20);
}

async function total({ threads }: Crew): Promise<Omit<Tally, "latency">> {
  const sum = { delivered: 0, lost: 0, disordered: 0, unchained: 0 };
  for (const thread of threads) {
    const tally = await thread.ask<"tally">({ kind: "tally" });
    sum.delivered += tally.delivered;
    sum.lost += tally.lost;
    sum.disordered += tally.disordered;
    sum.unchained += tally.unchained;
  }
  return sum;
}

/**
 * Savings and cost of a flush window: fan-out of 100 messages a second to 1,000 members, at once (control) and with
 * windows of 10 and 50 ms, one after the other, each on its own server.
 */
import type { ServerName } from "../servers/start.ts";
import { warmUpSecondsPlanned } from "./crew.ts";
import { fanOut } from "./fanout.ts";
import type { Metric, Row, Scale, Say, Values } from "./row.ts";

const rate = 100;
const windowsMs = [0, 10, 50] as const;

const metricsOf = (ms: number): Metric[] => [
  { key: `cpuMicros${ms}`, title: `CPU / delivery, ${ms} ms`, unit: "µs", digits: 2 },
  { key: `p50of${ms}`, title: `p50, ${ms} ms`, unit: "ms", digits: 1 },
  { key: `p99of${ms}`, title: `p99, ${ms} ms`, unit: "ms", digits: 1 },
  { key: `lost${ms}`, title: `lost, late or out of order, ${ms} ms`, unit: "", digits: 0 },
];

export const flushRow: Row = {
  name: "flush",
  title: ({ members }) => `Flush window: room of ${members.toLocaleString("en")}, 128 bytes, ${rate} messages/s, flushMs 0, 10, 50`,
  servers: ["flux"],
  metrics: [...windowsMs.flatMap(metricsOf), { key: "otherCores", title: "rest of the machine", unit: "cores", digits: 2 }],
  compared: "cpuMicros50",
  bars: windowsMs.map((ms) => ({ metric: `lost${ms}`, of: "value", never: true }) as const),
  secondsPlanned: ({ seconds }) => windowsMs.length * (4 + warmUpSecondsPlanned + seconds),
  run,
};

async function run(name: ServerName, scale: Scale, say: Say): Promise<Values> {
  const values: Record<string, number> = { otherCores: 0 };
  for (const flushMs of windowsMs) {
    const flags = ["--namespaces", JSON.stringify({ live: { flushMs } })];
    const one = await fanOut(name, { format: "binary", rate, flags }, scale, (phase, seconds) => say(`${flushMs} ms: ${phase}`, seconds));
    values[`cpuMicros${flushMs}`] = one.cpuMicros!;
    values[`p50of${flushMs}`] = one.p50!;
    values[`p99of${flushMs}`] = one.p99!;
    values[`lost${flushMs}`] = one.lost! + one.late! + one.disordered!;
    values.otherCores = Math.max(values.otherCores!, one.otherCores!);
  }
  return values;
}

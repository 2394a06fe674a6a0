/**
 * What the gateway costs beside bare uWebSockets.js, from rooms in which little happens at a time to 500,000 deliveries
 * a second, in all formats. Ten sessions publish in turn, so that no session's own limit is measured. Both servers send
 * messages of the same size on the wire.
 */
import { spawn } from "node:child_process";
import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Format } from "../load/conversation.ts";
import { warmUpSecondsPlanned } from "./crew.ts";
import { fanOut, fanOutMetrics, nothingLost, titles } from "./fanout.ts";
import type { Bar, Metric, Row } from "./row.ts";

const publishersUsual = 10;
const formats = ["binary", "json"] as const;

/** Bars: CPU of a delivery and 99th percentile of the latency, each beside bare uWS. */
type Room = { members: number; rate: number; cpu?: number; p99?: number; publishers?: number };

const rooms: readonly Room[] = [
  { members: 1000, rate: 100, cpu: 1.05, p99: 1.3 },
  { members: 100, rate: 1000, cpu: 1 },
  { members: 1000, rate: 1000, cpu: 1 },
  { members: 100, rate: 4000, cpu: 0.75 },
  { members: 10_000, rate: 50, p99: 1.2 },
];
/**
 * The same with a tenth of the members. A write over loopback costs 6 to 9 µs, so 100,000 deliveries a second fill a core
 * of a server that gives each a write of its own. It then sends several at once without meaning to, and its latency is
 * that of its queue. Here neither server is full.
 */
const calmRooms: readonly Room[] = [
  { members: 100, rate: 100, cpu: 1.05, p99: 1.3 },
  { members: 10, rate: 1000, publishers: 2 },
  { members: 10, rate: 4000, cpu: 0.75, publishers: 2 },
];
/** What the cost model needs besides: a publication for more members. */
const calmModelRoom: Room = { members: 40, rate: 1000 };
/** Of the deliveries, many share a write: what the cost model needs. */
const crowded: Room = { members: 1000, rate: 2000 };

/** The measured window may cut the last messages off: 3 % of ten seconds are 300 ms. */
export const equalRate = { metric: "share", within: 3 };
const keptUp: Bar = { metric: equalRate.metric, of: "value", atLeast: 100 - equalRate.within };

const share: Metric = { key: "share", title: "delivered of offered", unit: "%", digits: 1 };
const busiest: Metric = { key: "busiestCores", title: "busiest thread of the load client", unit: "cores", digits: 2 };
export const speedMetrics: readonly Metric[] = [
  { key: "cpuMicros", title: "server CPU / delivery", unit: "µs", digits: 2 },
  { key: "cpuPublication", title: "server CPU / publication", unit: "µs", digits: 0 },
  { key: "p50", title: "p50", unit: "ms", digits: 2 },
  { key: "p99", title: "p99", unit: "ms", digits: 2 },
  { key: "deliveries", title: "deliveries", unit: "k/s", digits: 0 },
  share,
  ...fanOutMetrics.slice(fanOutMetrics.findIndex(({ key }) => key === "lost")),
  busiest,
];

/** Rooms in which waking a thread costs more than what it is woken for, or little less. */
export const wakeUpRows: readonly Row[] = rowsOf([...formats, "json-arrays"], rooms.filter(({ rate }) => rate >= 1000));
const idleSeconds = 20;

export const speedRows: readonly Row[] = [
  ...rowsOf(formats, rooms),
  ...rowsOf(formats, calmRooms),
  ...formats.map((format) => idleLatencyRow(format, false)),
  ...formats.map((format) => idleLatencyRow(format, true)),
  speedRow("binary", crowded),
  speedRow("binary", calmModelRoom),
  excludeSelfRow("binary", { members: 100, rate: 1000 }),
  reactorsRow("binary", { members: 1000, rate: 100 }, 2),
  reactorsRow("binary", { members: 100, rate: 1000 }, 2),
];

/**
 * Bare uWS alone, at 500,000 deliveries a second. A load client that keeps up there, with a part of its thread left, is
 * not what the other rows measure.
 */
export const loadClientRows: readonly Row[] = formats.flatMap((format) => [loadClientRow(format, { members: 10_000, rate: 50 }), loadClientRow(format, { members: 1000, rate: 500 })]);

function rowsOf(formats: readonly Format[], rooms: readonly Room[]): Row[] {
  return formats.flatMap((format) => rooms.map((room) => speedRow(format, room)));
}

function speedRow(format: Format, { members, rate, cpu, p99, publishers = publishersUsual }: Room, reactors = 1): Row {
  const bars: Bar[] = [];
  if (cpu !== undefined) bars.push({ metric: "cpuMicros", of: "ratio", atMost: cpu });
  if (p99 !== undefined) bars.push({ metric: "p99", of: "ratio", atMost: p99 });
  return {
    name: `speed-${format}-${members}-${rate}`,
    servers: ["flux", "uws"],
    title: () => title(format, { members, rate, publishers }),
    metrics: speedMetrics,
    compared: "cpuMicros",
    equalRate,
    bars: [...bars, keptUp, ...nothingLost],
    secondsPlanned: ({ seconds }) => 4 + warmUpSecondsPlanned + members / 1000 + seconds,
    run: (server, scale, say) => fanOut(server, { format, rate, publishers, reactors }, { ...scale, members }, say),
  };
}

function title(format: Format, { members, rate, publishers = publishersUsual }: Room): string {
  return `${members.toLocaleString("en")} members × ${rate.toLocaleString("en")}/s, ${titles[format]}, 128 bytes, ${publishers} publishers`;
}

/** So that what helps one reactor does not cost several. Bare uWS has one thread. */
function reactorsRow(format: Format, room: Room, reactors: number): Row {
  const row = speedRow(format, room, reactors);
  return { ...row, name: `speed-${format}-reactors-${reactors}-${room.members}-${room.rate}`, title: () => `${title(format, room)}; flux-gateway with ${reactors} reactors` };
}

/** Bare uWS sends to all of them: the ratio is to be compared with that of the same room without excludeSelf. */
function excludeSelfRow(format: Format, room: Room): Row {
  const { members, rate } = room;
  return {
    ...speedRow(format, room),
    name: `speed-${format}-exclude-self-${members}-${rate}`,
    title: () => `${title(format, room)}; flux-gateway with excludeSelf`,
    run: (server, scale, say) => fanOut(server, { format, rate, publishers: publishersUsual, excludeSelf: true }, { ...scale, members }, say),
  };
}

/**
 * One publication a second: what a message takes that meets a sleeping server.
 *
 * @param awake nor does the machine sleep: a virtual core that halts takes long to come back, at every thread that a
 * message wakes. So this is what the servers themselves take.
 */
function idleLatencyRow(format: Format, awake: boolean): Row {
  const [members, rate] = [10, 1];
  return {
    name: `speed-${format}-idle${awake ? "-awake" : ""}`,
    servers: ["flux", "uws"],
    title: () => `Idle: ${members} members × ${rate}/s, ${titles[format]}${awake ? ", on cores that never halt" : ""}, 128 bytes`,
    metrics: speedMetrics.filter(({ key }) => ["p50", "p99", "lost", "late", "disordered"].includes(key)),
    compared: "p50",
    bars: [{ metric: "p50", of: "value", atMost: 0.4 }, ...nothingLost],
    secondsPlanned: () => 4 + warmUpSecondsPlanned + idleSeconds,
    async run(server, scale, say) {
      const { otherCores, ...values } = await fanOut(server, { format, rate, ...(awake && { beside: stayAwake }) }, { ...scale, members, seconds: Math.max(idleSeconds, scale.seconds) }, say);
      return awake ? values : { ...values, otherCores: otherCores! };
    },
  };
}

/** Each core has something to do, which gives way to whatever else wakes (SCHED_IDLE). */
async function stayAwake(seconds: number): Promise<void> {
  const spinning = cpus().map((_, core) => spawn("taskset", ["--cpu-list", String(core), "chrt", "--idle", "0", process.execPath, "--eval", "for (;;);"], { stdio: "ignore" }));
  const failed = new Promise<never>((_, reject) => spinning.forEach((child) => child.once("error", reject)));
  try {
    await Promise.race([sleep(seconds * 1000), failed]);
  } finally {
    for (const child of spinning) child.kill("SIGKILL");
  }
}

function loadClientRow(format: Format, room: Room): Row {
  const row = speedRow(format, room);
  return {
    ...row,
    name: `load-client-${format}-${room.members}-${room.rate}`,
    servers: ["uws"],
    judged: "uws",
    title: () => `Load client: ${title(format, room)}`,
    bars: [keptUp, { metric: busiest.key, of: "value", atMost: 0.9 }, ...nothingLost],
  };
}

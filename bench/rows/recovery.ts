/**
 * One of three nodes is killed (kill -9) while members publish. Measures the time until its sessions are on other
 * nodes, how bunched they return, and the fate of their messages. First with a third of the sessions on that node, then
 * with all of them. Members use the SDK with its default backoff, and share the machine with the nodes.
 *
 * Members are spread over threads and connect to the nodes directly, in turn. With one thread and a load balancer in
 * it, that thread was measured instead: it stalled for up to 280 ms while a publication went to all members. Evenly
 * spread waits (1.4 to 1.5 times the mean in the worst tenth of a second, as expected by chance) became bunches of
 * several times the mean. The nodes report the time at which they accept each session, because the threads of the
 * members still receive bunches.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { patientHeartbeat, startCluster } from "../../test/support/cluster.ts";
import { judge } from "../../test/support/verdict.ts";
import { membersScript, scratchFolder } from "../build.ts";
import { micros } from "../load/clock.ts";
import type { MembersAnswers, MembersOrder } from "../load/members.ts";
import { LoadThread } from "../load/thread.ts";
import { cpuSeconds, machineBusySeconds } from "../proc.ts";
import type { Row, Scale, Say, Values } from "./row.ts";
import { verdictBars, verdictMetrics, verdictValues, withTeardown } from "./cluster.ts";

const threadCount = 6;
const publishers = 2;
const sliceMs = 100;
const secondsMax = 60;
/** The defaults; tests use shorter times. */
const flags = [
  ...patientHeartbeat, "--node-heartbeat-ms", "5s", "--node-dead-ms", "15s", "--presence-grace-ms", "10s", "--presence-interval-ms", "1s",
];
/** A node announces another window to its sessions within a second. */
const settleMs = 2000;

type Population = {
  sessionsMax: number;
  /** Interval of each publisher. Every session receives every publication, and two cores do it all. */
  everyMs: number;
  /** Nodes with members at first, of three. */
  nodes: number;
};

export const recoveryRow = returnRow("recovery", { sessionsMax: 3000, everyMs: 250, nodes: 3 }, "One of three nodes is killed");
export const stormRecoveryRow = returnRow(
  "recovery-storm", { sessionsMax: 5000, everyMs: 500, nodes: 1 }, "The node that has them all is killed, two are left",
);

function returnRow(name: Row["name"], population: Population, what: string): Row {
  return {
    name,
    title: (scale) => `${what}: ${sessions(scale, population).toLocaleString("en")} sessions in a durable room, default backoff`,
    servers: ["flux"],
    metrics: [
      { key: "seconds", title: "until every session was back", unit: "s", digits: 2 },
      { key: "moved", title: "sessions that had to move", unit: "", digits: 0 },
      { key: "begunAnew", title: "sessions that were not resumed", unit: "", digits: 0 },
      { key: "peak", title: `most that came in ${sliceMs} ms`, unit: "", digits: 0 },
      { key: "peakRatio", title: "  ÷ the mean", unit: "", digits: 2 },
      { key: "peakSecondRatio", title: "most that came in a second ÷ the mean", unit: "", digits: 2 },
      ...verdictMetrics,
      { key: "otherCores", title: "rest of the machine", unit: "cores", digits: 2 },
    ],
    compared: "seconds",
    bars: [
      { metric: "seconds", of: "value", atMost: 20 },
      { metric: "peakRatio", of: "value", atMost: 2 },
      { metric: "peakSecondRatio", of: "value", atMost: 2 },
      { metric: "begunAnew", of: "value", never: true },
      ...verdictBars,
    ],
    secondsPlanned: () => 40,
    run: (_, scale, say) => run(scale, population, say),
  };
}

function sessions({ sockets }: Scale, { sessionsMax }: Population): number {
  return Math.floor(Math.min(sessionsMax, sockets) / threadCount) * threadCount;
}

function run(scale: Scale, population: Population, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const cluster = await startCluster({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/recovery-`) }, { flags });
    const ports = cluster.nodes.map(({ port }) => port);
    /** Processes measured while the sessions return. */
    const pids = [process.pid, cluster.nats.pid, cluster.redis.pid, ...cluster.nodes.slice(1).map(({ pid }) => pid)];
    const threads = Array.from({ length: threadCount }, () => new LoadThread<MembersOrder, MembersAnswers>(membersScript));
    teardown(() => Promise.all(threads.map((thread) => thread.stop())));
    const all = <K extends MembersOrder["kind"]>(order: Extract<MembersOrder, { kind: K }>) => Promise.all(threads.map((thread) => thread.ask<K>(order)));
    /** The thread with the publishers. */
    const talking = threads[0]!;

    say("connecting", 15);
    const members = sessions(scale, population) / threadCount;
    const { everyMs, nodes } = population;
    await Promise.all(threads.map((thread, i) => {
      const options = {
        room: "log:recovery", members, first: i * members, publishers: thread === talking ? publishers : 0, everyMs,
        backoff: { baseMs: 500, capMs: 20_000 },
      };
      return thread.ask<"connect">({ kind: "connect", ports: ports.slice(0, nodes), options });
    }));
    await talking.ask<"progress">({ kind: "progress", publications: 20 });
    await sleep(settleMs);

    say("a node is killed", 10);
    const moving = await all<"lose">({ kind: "lose", node: "node-0", ports: ports.slice(1) });
    const killedAt = micros();
    await cluster.nodes[0]!.kill();
    const busyBefore = othersSeconds(pids);
    const returns = await all<"return">({ kind: "return", withinSeconds: secondsMax });
    const seconds = (Math.max(...returns.map(({ at }) => at)) - killedAt) / 1e6;
    const otherCores = Math.max(0, othersSeconds(pids) - busyBefore) / seconds;
    const moments = returns.flatMap(({ accepted }) => accepted);
    const { peak, ratio: peakRatio } = ratesOf(moments, sliceMs);

    say("waiting for the rest", 5);
    await talking.ask<"progress">({ kind: "progress", publications: 10 });
    await all<"halt">({ kind: "halt" });
    await all<"reached">({ kind: "reached", last: await talking.ask<"publishLast">({ kind: "publishLast" }) });
    const histories = await all<"history">({ kind: "history" });
    return {
      seconds,
      moved: sum(moving.map((one) => one.moving)),
      begunAnew: sum(returns.map((one) => one.begunAnew)),
      peak,
      peakRatio,
      peakSecondRatio: ratesOf(moments, 1000).ratio,
      otherCores,
      // The first has the attempted publishes.
      ...verdictValues(judge(histories.flatMap(({ events }) => events), "none"), sum(histories.map(({ gaps }) => gaps))),
    };
  });
}

/** Between the first and the last, excluding the time before and after. @param moments milliseconds */
function ratesOf(moments: readonly number[], sliceMs: number): { peak: number; ratio: number } {
  const first = Math.min(...moments);
  const spanMs = Math.max(...moments) - first;
  const slices = new Map<number, number>();
  for (const at of moments) {
    const slice = Math.floor((at - first) / sliceMs);
    slices.set(slice, (slices.get(slice) ?? 0) + 1);
  }
  const peak = Math.max(...slices.values());
  return { peak, ratio: peak / ((moments.length * sliceMs) / Math.max(spanMs, sliceMs)) };
}

/** CPU seconds of other processes, to see whether the machine was otherwise idle. */
function othersSeconds(pids: readonly number[]): number {
  return machineBusySeconds() - sum(pids.map(cpuSeconds));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

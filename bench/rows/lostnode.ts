/**
 * One of three nodes is killed (kill -9) while members publish. How fast do its sessions come back, and how evenly?
 *
 * Clients of four kinds: as the SDK is, or coming back at once without jitter, as a naive client does; and sent by
 * `locate` (/api/connection-url of a node that lives), or by a balancer that knows at once which nodes live. The balancer
 * is a function: it costs nothing and makes no mistake.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { connect, type Client } from "../../src/client/index.ts";
import { patientHeartbeat, startCluster } from "../../test/support/cluster.ts";
import { startPopulation } from "../../test/support/population.ts";
import { scratchFolder } from "../build.ts";
import { asker, connectAll } from "../load/sdk.ts";
import { cpuSeconds } from "../proc.ts";
import { verdictValues, withTeardown } from "./cluster.ts";
import type { Metric, Row, Scale, Say, Values } from "./row.ts";

const size = 3;
/** A process may open 20,000 files where this was written. */
const sessionsMax = 15_000;
/** They publish to each other, and are judged: nobody may lose a message. */
const members = 60;
const everyMs = 500;
/** Of the curve. */
export const curveSeconds = 30;
const giveUpSeconds = 90;
const deadMs = 15_000;

export const variants = [
  { key: "locate", title: "locate", jitter: true, locates: true },
  { key: "balancer", title: "balancer", jitter: true, locates: false },
  { key: "onceLocate", title: "at once, locate", jitter: false, locates: true },
  { key: "once", title: "at once, balancer", jitter: false, locates: false },
] as const;

type Variant = (typeof variants)[number];

export function lostNodeRow(placement: "any" | "hash"): Row {
  const metrics = variants.flatMap(({ key, title }): Metric[] => [
    { key: `${key}.seconds`, title: `${title}: until all are back`, unit: "s", digits: 1 },
    { key: `${key}.evenness`, title: "  most in a second ÷ mean", unit: "", digits: 2 },
    { key: `${key}.peak`, title: "  most in a second", unit: "", digits: 0 },
    { key: `${key}.retries`, title: "  attempts that failed, or were sent on", unit: "", digits: 0 },
    { key: `${key}.fresh`, title: "  came back without their session", unit: "", digits: 0 },
    { key: `${key}.missing`, title: "  not back", unit: "", digits: 0 },
    { key: `${key}.nodeCpu`, title: "  CPU of both nodes until then", unit: "s", digits: 1 },
    { key: `${key}.harmed`, title: "  messages lost or twice", unit: "", digits: 0 },
  ]);
  return {
    name: `lost-node-${placement}`,
    title: (scale) => `kill -9 of one of three nodes under ${placement}: ${sessionsOf(scale).toLocaleString("en")} sessions, a third of them lose it`,
    servers: ["flux"],
    metrics,
    compared: "locate.seconds",
    bars: [
      { metric: "locate.seconds", of: "value", below: 15 },
      { metric: "locate.evenness", of: "value", atMost: 1.5 },
      { metric: "locate.missing", of: "value", never: true },
      { metric: "locate.harmed", of: "value", never: true },
      { metric: "balancer.harmed", of: "value", never: true },
    ],
    secondsPlanned: () => variants.length * 75,
    async run(_, scale, say) {
      const all: Record<string, number> = {};
      for (const variant of variants) {
        const values = await measure(variant, placement, scale, say);
        for (const [key, value] of Object.entries(values)) all[`${variant.key}.${key}`] = value;
      }
      return all;
    },
  };
}

function sessionsOf({ sockets }: Scale): number {
  return sockets >= 10_000 ? sessionsMax : Math.max(300, Math.floor(0.75 * sockets));
}

function measure(variant: Variant, placement: string, scale: Scale, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const flags = [...patientHeartbeat, "--placement", placement, "--node-heartbeat-ms", "5s", "--node-dead-ms", `${deadMs}ms`, "--placement-stable-ms", "0s"];
    const cluster = await startCluster({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/lost-`) }, { flags, size });
    const nodes = cluster.nodes.map(({ pid, port }) => ({ pid, port }));
    const [victim, ...living] = nodes;
    let alive = nodes;
    let turn = 0;
    const balancer = () => `ws://127.0.0.1:${alive[turn++ % alive.length]!.port}/ws`;
    const options = {
      WebSocket, storage: null, connectTimeoutMs: 30_000,
      locate: variant.locates ? asker(living[0]!.port, teardown) : balancer,
      backoff: variant.jitter ? { baseMs: 500, capMs: 20_000 } : { baseMs: 0, capMs: 0 },
    };
    say(`${variant.title}: connecting`, 30);
    const population = await startPopulation({ teardown }, balancer(), { room: "log:lost", members, publishers: 4, everyMs, ...options });
    const clients = [...population.clients];
    teardown(() => Promise.all(clients.slice(members).map((client) => client.suspend())));
    await connectAll(clients, sessionsOf(scale), () => connect(options));
    await population.progress(20);

    say(`${variant.title}: a node is killed`, 30);
    const lost = clients.filter((client) => client.session?.node === "node-0");
    const watched = watch(lost);
    const before = cpuOf(living);
    alive = living;
    process.kill(victim!.pid, "SIGKILL");
    const seconds = await watched.back();
    const nodeCpu = cpuOf(living) - before;
    say(`${variant.title}: judging`, 10);
    await population.progress(20);
    const verdict = verdictValues(await population.stop(), population.gaps);
    const { perSecond, retries, fresh, missing } = watched;
    const peak = Math.max(0, ...perSecond);
    const curve = Object.fromEntries(perSecond.slice(0, curveSeconds).map((count, second) => [`s${second}`, count]));
    const harmed = verdict.lost! + verdict.doubled! + verdict.gaps!;
    return { seconds, evenness: (peak * seconds) / Math.max(1, lost.length - missing()), peak, retries: retries(), fresh: fresh(), missing: missing(), nodeCpu, harmed, lostSessions: lost.length, ...curve };
  });
}

function cpuOf(nodes: readonly { pid: number }[]): number {
  return nodes.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
}

/** Counts what becomes of clients whose node is about to be killed. */
function watch(lost: readonly Client[]) {
  const startedAt = performance.now();
  const perSecond: number[] = Array<number>(curveSeconds).fill(0);
  const missing = new Set(lost);
  let [attempts, fresh, lastMs] = [0, 0, 0];
  let onAll = () => {};
  for (const client of lost) {
    client.on("state", ({ state, cause }) => {
      if (state === "waiting" && cause !== null && missing.has(client)) attempts++;
    });
    client.on("ready", ({ resumed }) => {
      if (!missing.delete(client)) return;
      lastMs = performance.now() - startedAt;
      const second = Math.floor(lastMs / 1000);
      perSecond[second] = (perSecond[second] ?? 0) + 1;
      if (!resumed) fresh++;
      if (missing.size === 0) onAll();
    });
  }
  return {
    perSecond,
    /** Beyond the loss of the node itself. */
    retries: () => Math.max(0, attempts - lost.length),
    fresh: () => fresh,
    missing: () => missing.size,
    /** Seconds until the last is back, or until it gives up. */
    back: async () => {
      const all = new Promise<void>((resolve) => (onAll = resolve));
      await Promise.race([all, sleep(giveUpSeconds * 1000, undefined, { ref: false })]);
      return missing.size === 0 ? lastMs / 1000 : giveUpSeconds;
    },
  };
}

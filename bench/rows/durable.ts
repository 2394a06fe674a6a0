/**
 * Publishers with one outstanding publish each, to a durable room of a node with a data directory. Compared with a node
 * without one, and with the limit of the disk: the same number of records written and synced together, repeatedly.
 */
import { closeSync, fdatasyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { scratchFolder } from "../build.ts";
import { micros } from "../load/clock.ts";
import { payloadBytes } from "../load/payload.ts";
import { gauge, scrape } from "../scrape.ts";
import type { ServerName } from "../servers/start.ts";
import { between, connect, coreMetrics, percentileMs, read, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const publishers = 64;
const warmUpSeconds = 3;
const controlSeconds = 2;
/** Approximate size of a record besides its payload. */
const recordBytes = payloadBytes + 72;
/** The goal: this rate, or this share of the disk's limit if that is less. */
const wanted = 20_000;
const wantedShare = 0.7;
const namespaces = JSON.stringify({ logged: { durable: true, publish: "anyone" } });

export const durableRow: Row = {
  name: "durable",
  title: () => `Durable publish: ${publishers} publishers, each with one outstanding, acknowledged after the commit to disk`,
  servers: ["flux"],
  metrics: [
    { key: "acknowledged", title: "acknowledged", unit: "/s", digits: 0 },
    { key: "reached", title: `of ${wanted.toLocaleString("en")}/s, or of ${wantedShare} × what fsync allows`, unit: "", digits: 2 },
    { key: "fsyncAllows", title: `write and fdatasync of ${publishers} at a time allow`, unit: "/s", digits: 0 },
    { key: "share", title: "  share reached", unit: "", digits: 2 },
    { key: "inMemory", title: "acknowledged, without a disk", unit: "/s", digits: 0 },
    { key: "perCommit", title: "publications a commit", unit: "", digits: 1 },
    { key: "p50", title: "p50", unit: "ms", digits: 2 },
    { key: "p99", title: "p99", unit: "ms", digits: 2 },
    ...coreMetrics,
  ],
  compared: "acknowledged",
  bars: [{ metric: "reached", of: "value", atLeast: 1 }],
  secondsPlanned: ({ seconds }) => controlSeconds + 2 * (1 + warmUpSeconds + seconds),
  run,
};

async function run(name: ServerName, scale: Scale, say: Say): Promise<Values> {
  mkdirSync(scratchFolder, { recursive: true });
  const folder = mkdtempSync(`${scratchFolder}/durable-`);
  try {
    say("what the disk allows", controlSeconds);
    const fsyncAllows = control(`${folder}/control`);
    say("on disk", 1 + warmUpSeconds + scale.seconds);
    const onDisk = await circle(name, scale, ["--data-dir", `${folder}/data`]);
    say("in memory", 1 + warmUpSeconds + scale.seconds);
    const { acknowledged: inMemory = Number.NaN } = await circle(name, scale, []);
    const { acknowledged = Number.NaN } = onDisk;
    const reached = acknowledged / Math.min(wanted, wantedShare * fsyncAllows);
    return { ...onDisk, reached, fsyncAllows, share: acknowledged / fsyncAllows, inMemory };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Records per second that a loop of writes and syncs alone achieves, batch by batch. */
function control(path: string): number {
  const batch = Buffer.alloc(publishers * recordBytes, 1);
  const file = openSync(path, "w");
  const startedAt = performance.now();
  const endAt = startedAt + controlSeconds * 1000;
  let records = 0;
  while (performance.now() < endAt) {
    writeSync(file, batch);
    fdatasyncSync(file);
    records += publishers;
  }
  const seconds = (performance.now() - startedAt) / 1000;
  closeSync(file);
  return records / seconds;
}

function circle(name: ServerName, { seconds, profileDir }: Scale, flags: string[]): Promise<Values> {
  const start = { reactors: 1, profileDir, flags: [...flags, "--namespaces", namespaces, "--commands-per-second", "0"] };
  return withCrew(name, start, 1, async (crew) => {
    const [thread] = crew.threads;
    if (!thread) throw new Error("a load thread was asked for");
    await connect(thread, crew.server, "publisher", publishers);
    await thread.ask<"circle">({ kind: "circle" });
    await sleep(warmUpSeconds * 1000);
    await thread.ask<"measure">({ kind: "measure", from: micros() });
    const commitsBefore = await commits(crew.server.adminPort);
    const first = read(crew);
    await sleep(seconds * 1000);
    const { seconds: measured, delivered, ...cores } = between(first, read(crew));
    const commitsNow = await commits(crew.server.adminPort);
    const { latency } = await thread.ask<"tally">({ kind: "tally" });
    return {
      acknowledged: delivered / measured,
      perCommit: delivered / (commitsNow - commitsBefore),
      p50: percentileMs(latency, 50),
      p99: percentileMs(latency, 99),
      ...cores,
    };
  });
}

async function commits(adminPort: number | null): Promise<number> {
  const metrics = adminPort === null ? [] : await scrape(adminPort);
  return metrics.some(({ name }) => name === "flux_disk_commits_total") ? gauge(metrics, "flux_disk_commits_total") : Number.NaN;
}

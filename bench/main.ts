/**
 * Measures flux-gateway and controls without our code on this machine: bare uWebSockets.js, ws, socket.io. Every server
 * is its own process. They take turns within each round, so that drift affects all of them alike.
 */
import { Command } from "commander";
import { buildBench, buildFlux } from "./build.ts";
import { listOption, positive } from "./flags.ts";
import { Progress } from "./progress.ts";
import { machineLine, thisCommit, thisMachine } from "./report/machine.ts";
import { added, keepResults, readResults } from "./report/results.ts";
import { type Measurement, type RowSummary, summarize } from "./report/summary.ts";
import { rowTable } from "./report/table.ts";
import { allRows, groups } from "./rows/all.ts";
import type { Row, Scale, Values } from "./rows/row.ts";
import { absence, type PeerName, peerNames } from "./servers/peers.ts";
import { keepApart } from "./servers/child.ts";
import { packageNames, type ServerName, serverNames, serverTitles } from "./servers/start.ts";

const rowNames = allRows.map(({ name }) => name);

type Flags = {
  only: string[];
  servers: ServerName[];
  rounds: number;
  seconds?: number;
  quick: boolean;
  apart: boolean;
  build: boolean;
  profile?: string;
  out: boolean;
  add: boolean;
  name: string;
};

const flags = new Command("bench")
  .description("Measures flux-gateway and its controls. A full run takes more than two hours; run nothing else meanwhile.")
  .addOption(listOption("--only <rows>", "groups of rows to measure, or rows by name", Object.keys(groups), rowNames))
  .addOption(listOption("--servers <names>", "servers to measure", serverNames))
  .option("--rounds <n>", "measurements of every server in every row", positive, 3)
  .option("--seconds <n>", "seconds per measurement of fan-out; echo takes six times as long (default: 10, quick: 3)", positive)
  .option("--quick", "one short round with fewer sockets: for trials, not for publication; stores no results", false)
  .option("--profile <directory>", "directory for V8 CPU profiles of the servers")
  .option("--apart", "the servers on one half of the cores, the load client on the other (taskset): shows what comes of sharing them; stores no results", false)
  .option("--no-build", "measure dist/ as it is")
  .option("--name <name>", "name of the files in bench/results", "latest")
  .option("--add", "keep the other rows of that file, and write it after every row", false)
  .option("--no-out", "do not write bench/results")
  .parse()
  .opts<Flags>();

const scale: Scale = {
  seconds: flags.seconds ?? (flags.quick ? 3 : 10),
  members: 1000,
  sockets: flags.quick ? 2000 : 10_000,
  relaySamples: flags.quick ? 500 : 2000,
  profileDir: flags.profile ?? null,
};
const rounds = flags.quick ? 1 : flags.rounds;
/** Above this, other processes affect a figure more than the server does. */
const otherCoresMax = 0.15;
const attemptsMax = flags.quick ? 1 : 3;
const rows = flags.only.flatMap((name) => groups[name] ?? allRows.filter((row) => row.name === name)).filter(({ name }, i, all) => all.findIndex((row) => row.name === name) === i);

const absent = peerNames.filter((peer) => rows.some((row) => row.servers?.includes(peer)) && flags.servers.includes(peer)).filter((peer) => absence(peer) !== null);

buildBench();
if (flags.build && flags.servers.includes("flux")) buildFlux();
const machine = thisMachine(peerNames.filter((peer) => measuredServers().has(peer)));
const commit = thisCommit();
console.log(`${machineLine(machine)}, commit ${commit}`);
sayAbsent();

if (flags.apart) keepApart();
const measurements = await measureAll();
const summaries = rows.map((row) => summaryOf(row, measurements));
rows.forEach((row, i) => console.log(rowTable(row, summaries[i]!)));
sayAbsent();
if (flags.out && !flags.quick && !flags.apart) console.log(`\nWritten: ${keep(rows, measurements).join(", ")}`);

function summaryOf(row: Row, measurements: readonly Measurement[]): RowSummary {
  return summarize(row, scale, measurements, { date: machine.date, commit, rounds });
}

function keep(rows: readonly Row[], measurements: readonly Measurement[]): string[] {
  const run = { machine, scale, rounds, rows: rows.map((row) => summaryOf(row, measurements)), measurements };
  return keepResults(flags.name, flags.add ? added(readResults(flags.name), run) : run);
}

async function measureAll(): Promise<Measurement[]> {
  const seconds = rows.reduce((sum, row) => sum + row.secondsPlanned(scale) * serversOf(row).length, 0) * rounds;
  const progress = new Progress(seconds);
  const measured: Measurement[] = [];
  for (const row of rows) {
    for (let round = 0; round < rounds; round++) {
      for (const server of rotated(serversOf(row), round)) measured.push(await measure(row, server, round, progress));
    }
    if (flags.add && flags.out && !flags.quick && !flags.apart) keep([row], measured.filter((one) => one.row === row.name));
  }
  progress.end();
  return measured;
}

function serversOf(row: Row): ServerName[] {
  const servers: readonly ServerName[] = row.servers ?? packageNames;
  return flags.servers.filter((server) => servers.includes(server) && !absent.includes(server as PeerName));
}

function measuredServers(): Set<ServerName> {
  return new Set(rows.flatMap(serversOf));
}

function sayAbsent(): void {
  for (const peer of absent) console.log(`${serverTitles[peer]} is not measured: ${absence(peer)}.`);
}

/** A measurement disturbed by other processes is repeated; the quietest attempt counts. */
async function measure(row: Row, server: ServerName, round: number, progress: Progress): Promise<Measurement> {
  const label = `${row.name} · ${serverTitles[server]} · round ${round + 1} of ${rounds}`;
  progress.step(label, row.secondsPlanned(scale));
  const which = { row: row.name, server, round };
  try {
    let quietest: Values | null = null;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const values = await row.run(server, scale, (phase, seconds) => progress.phase(phase, seconds));
      const { otherCores = 0 } = values;
      if (quietest === null || otherCores < (quietest.otherCores ?? 0)) quietest = values;
      if (otherCores <= otherCoresMax) break;
      progress.note(`${label}: other processes used ${otherCores.toFixed(2)} cores`);
    }
    return { ...which, values: quietest ?? {} };
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error);
    progress.note(`${label}: ${failed}`);
    return { ...which, failed };
  }
}

/** Changes the order, so that no server always follows the same one. */
function rotated<T>(all: readonly T[], by: number): T[] {
  const first = by % Math.max(1, all.length);
  return [...all.slice(first), ...all.slice(0, first)];
}

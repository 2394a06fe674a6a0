/**
 * Random bytes on a node under load: `npm run fuzz -- --minutes 10 --seed 42`.
 *
 * Attackers throw frames, sound, changed and wild, at a node in a process of its own, while well-behaved members
 * exchange publications in a room the attackers do not know and in one they may join and publish to. In the end the
 * members must have lost nothing, the node must be healthy with all its reactors, its sockets must be gone
 * with the attackers, and its memory must have stayed flat. The same seed throws the same bytes.
 */
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { attacks, type SocketAttack, type TcpAttack } from "./support/attacks.ts";
import { startLoad } from "./support/load.ts";
import { startNodeProcess, sumOf, type NodeProcess } from "./support/nodeprocess.ts";
import { exchange, openRawSocket, opcodes } from "./support/rawsocket.ts";
import { open } from "./support/session.ts";
import { binaryReader, encodeBinary, encodeText } from "./support/wire.ts";
import type { ClientFrame } from "../src/protocol/messages.ts";

export interface FuzzOptions {
  /** How long it lasts. Default: until it is `enough`. */
  seconds?: number;
  enough?: (report: Pick<FuzzReport, "attacks" | "endings">) => boolean;
  seed: number;
  progress?: (line: string) => void;
}

export interface FuzzReport {
  attacks: number;
  /** How sockets of attackers ended: by the attacker, by which close code, or dropped. */
  endings: Map<string, number>;
  /** What is wrong, in words; empty if nothing is. */
  faults: string[];
  text: string;
}

const attackers = 12;
const batch = 50;
const sharedRoom = "default-shared";
const rooms = [sharedRoom, sharedRoom, sharedRoom, "r", "r2", "chat:a", "chat:b", "live:c", "nope:d", "", "x".repeat(300), "комната", "a\nb", "__proto__"];

/**
 * Small histories and short windows, so that what the node keeps on purpose is full after seconds and what grows
 * afterwards is a leak.
 */
const nodeFlags = [
  "--reactors", "2", "--log-level", "info", "--handshake-timeout-ms", "2000", "--key-window-ms", "2000",
  "--namespaces", JSON.stringify({ chat: { historySize: 50, historyBytesMax: 100_000 } }),
];

/** Growth from the second quarter of a run to the last that is not called flat: a quarter more, and 32 MB for the heaps' own moods. */
const growthMax = 1.25;
const growthBytesMax = 32 * 1024 * 1024;

export async function fuzz({ seconds = Infinity, enough = () => false, seed, progress = () => undefined }: FuzzOptions): Promise<FuzzReport> {
  const node = await startNodeProcess(nodeFlags);
  try {
    const until = performance.now() + seconds * 1000;
    const memory = new Map<string, number[]>();
    const endings = new Map<string, number>();
    const malformed: string[] = [];
    const loads = await Promise.all([
      startLoad(node, { room: `hidden ${seed}`, members: 4, everyMs: 20, seed }),
      startLoad(node, { room: sharedRoom, members: 2, everyMs: 40, seed, strangers: true }),
    ]);
    let thrown = 0;
    const isOver = () => enough({ attacks: thrown, endings }) || performance.now() >= until || node.ended !== undefined;
    const attacking = Array.from({ length: attackers }, async (_, attacker) => {
      for (let round = 0; !isOver(); round++) {
        for (const attack of fc.sample(attacks(rooms), { seed: seed + 7919 * round + attacker, numRuns: batch })) {
          if (isOver()) return;
          const ending = await (attack.kind === "tcp" ? throwBytes(node, attack) : throwFrames(node, attack, malformed));
          endings.set(ending, (endings.get(ending) ?? 0) + 1);
          thrown++;
        }
      }
    });
    const sampling = (async () => {
      for (let second = 0; !isOver(); second++) {
        await new Promise((resolve) => setTimeout(resolve, 1_000));
        await sampleMemory(node, memory);
        const acknowledged = loads.reduce((sum, load) => sum + load.acknowledged, 0);
        if (second % 10 === 0) progress(`${Math.max(0, Math.round((until - performance.now()) / 1000))} s left, ${thrown} attacks, ${acknowledged} publications, ${megabytes(node.rssBytes())} resident`);
      }
    })();
    await Promise.all([...attacking, sampling]);

    const faults: string[] = malformed.slice(0, 5);
    const verdicts = await Promise.all(loads.map((load) => load.stop().catch((error: unknown) => String(error))));
    for (const verdict of verdicts) {
      if (typeof verdict === "string") faults.push(`a well-behaved member was hurt: ${verdict}`);
      else if (verdict.faults > 0) faults.push(verdict.report);
    }
    faults.push(...await ailments(node), ...growths(memory));
    const reports = verdicts.map((verdict) => (typeof verdict === "string" ? verdict : verdict.report));
    return { attacks: thrown, endings, faults, text: describe(seed, thrown, endings, memory, reports, faults) };
  } finally {
    await node.stop();
  }
}

async function throwBytes(node: NodeProcess, { bytes, waitMs }: TcpAttack): Promise<string> {
  const late = new Promise<Buffer>((resolve) => setTimeout(() => resolve(Buffer.alloc(0)), waitMs));
  const answer = await Promise.race([exchange(node.port, bytes, (received) => received.length > 0, waitMs + 100).catch(() => Buffer.alloc(0)), late]);
  return answer.length === 0 ? "http: nothing" : `http: ${answer.toString("latin1", 9, 12)}`;
}

async function throwFrames(node: NodeProcess, attack: SocketAttack, malformed: string[]): Promise<string> {
  const { json, arrays, hello, joins, deaf, writes, parting, waitMs } = attack;
  const raw = await openRawSocket({ port: node.port, subprotocol: arrays ? "flux.v1.json-arrays" : json ? "flux.v1.json" : "flux.v1.proto" });
  const read = binaryReader();
  raw.onFrame(({ opcode, payload }) => {
    try {
      if (opcode === opcodes.binary) read(payload);
      if (opcode === opcodes.text && Array.isArray(JSON.parse(payload.toString("utf8"))) !== arrays) throw new Error(`arrays: ${arrays}`);
    } catch (error) {
      malformed.push(`the node sent ${payload.toString("base64")}: ${String(error)}`);
    }
  });
  const say = (frame: ClientFrame): Promise<void> =>
    raw.send(json ? { opcode: opcodes.text, payload: encodeText(frame) } : { opcode: opcodes.binary, payload: encodeBinary(frame) });
  if (hello) await say({ id: 1, hello: { version: 1 } });
  if (hello) for (const room of joins) await say({ id: 2, join: { room } });
  if (deaf) raw.pause();
  const ended = raw.ended.then((ending) => (ending === "dropped" ? "dropped" : `${ending.code} ${ending.reason}`));
  const patience = new Promise<string>((resolve) => setTimeout(() => resolve("by the attacker"), waitMs + 500));
  const writing = (async () => {
    for (const { bytes, chop } of writes) await raw.write(bytes, Math.max(chop, Math.ceil(bytes.length / 100)));
    if (parting === "bye") await say({ bye: {} });
    if (parting === "half-close") raw.half();
    await new Promise((resolve) => setTimeout(resolve, parting === "drop" ? 0 : waitMs));
    return "by the attacker";
  })();
  const ending = await Promise.race([ended, writing, patience]);
  raw.destroy();
  return ending;
}

/** What is wrong with the node now that all attackers are gone. */
async function ailments(node: NodeProcess): Promise<string[]> {
  if (node.ended !== undefined) return [`the node ended: ${node.ended}`, ...node.complaints.slice(-5)];
  const found: string[] = [];
  const restarts = await node.metric("flux_reactor_restarts_total");
  if (restarts > 0) found.push(`${restarts} reactors crashed`);
  const failures = await node.metric("flux_hub_failures_total");
  if (failures > 0) found.push(`${failures} records failed in the hub`);
  found.push(...node.complaints.filter((line) => !line.includes("this process may open")).slice(0, 5));
  for (const path of ["/health", "/ready"]) {
    const { status } = await fetch(`http://127.0.0.1:${node.port}${path}`);
    if (status !== 200) found.push(`${path} is answered ${status}`);
  }
  const session = await open(node, { json: true });
  await session.join("afterwards");
  await session.publish("afterwards", '"well"');
  await session.bye();
  const deadline = performance.now() + 20_000;
  let [sockets, members] = [1, 1];
  while ((sockets > 0 || members > 0) && performance.now() < deadline) {
    const text = await node.metrics();
    [sockets, members] = [sumOf(text, "flux_sockets"), sumOf(text, "flux_members")];
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  if (sockets > 0 || members > 0) found.push(`${sockets} sockets and ${members} members are left of clients that have gone`);
  return found;
}

async function sampleMemory(node: NodeProcess, memory: Map<string, number[]>): Promise<void> {
  const text = await node.metrics();
  const now = { resident: node.rssBytes(), "hub heap": sumOf(text, "nodejs_heap_size_used_bytes"), "reactor heaps": sumOf(text, "flux_reactor_heap_bytes") };
  for (const [name, bytes] of Object.entries(now)) memory.set(name, [...(memory.get(name) ?? []), bytes]);
}

function growths(memory: Map<string, number[]>): string[] {
  return [...memory].flatMap(([name, samples]) => {
    const { before, after } = quarters(samples);
    return after <= before * growthMax + growthBytesMax ? [] : [`${name} grew from ${megabytes(before)} to ${megabytes(after)}`];
  });
}

/** Medians of the second and of the last quarter. */
function quarters(samples: number[]): { before: number; after: number } {
  const median = (some: number[]): number => some.sort((a, b) => a - b)[Math.floor(some.length / 2)] ?? 0;
  const quarter = Math.floor(samples.length / 4);
  return { before: median(samples.slice(quarter, 2 * quarter + 1)), after: median(samples.slice(-quarter - 1)) };
}

function describe(
  seed: number, thrown: number, endings: Map<string, number>, memory: Map<string, number[]>, reports: string[], faults: string[],
): string {
  return [
    `${thrown} attacks, seed ${seed}`,
    ...[...endings].sort(([, a], [, b]) => b - a).map(([ending, count]) => `  ${String(count).padStart(8)} ended ${ending}`),
    ...[...memory].map(([name, samples]) => `${name}: ${megabytes(quarters(samples).before)} in the second quarter, ${megabytes(quarters(samples).after)} in the last`),
    ...reports,
    ...(faults.length === 0 ? ["no faults"] : ["FAULTS", ...faults]),
  ].join("\n");
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" }, seed: { type: "string" } } });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9));
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  say(`fuzzing for ${values.minutes} minutes with seed ${seed}`);
  const report = await fuzz({ seconds: Number(values.minutes) * 60, seed, progress: say });
  say(report.text);
  process.exitCode = report.faults.length === 0 ? 0 : 1;
}

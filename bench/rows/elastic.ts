/**
 * The nodes change under load: one joins, one gets another weight, one drains. What moves, how fast, and what do those
 * notice who stay where they are? The first measurement is the control: the same load without a change.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { connect, type Client } from "../../src/client/index.ts";
import { xxh32 } from "../../src/placement/hash.ts";
import { ownersOf, type Member } from "../../src/placement/ring.ts";
import { patientHeartbeat, startCluster, type Cluster } from "../../test/support/cluster.ts";
import { startPopulation } from "../../test/support/population.ts";
import { until } from "../../test/support/until.ts";
import { scratchFolder } from "../build.ts";
import { asker, connectAll } from "../load/sdk.ts";
import { verdictValues, withTeardown } from "./cluster.ts";
import type { Metric, Row, Scale, Say, Values } from "./row.ts";

/** Three serve from the start. The last one joins. */
const size = 4;
const joining = size - 1;
const draining = size - 2;
const sessionsMax = 1_500;
/** Members of a durable room who publish, and are judged. */
const members = 40;
const everyMs = 200;
/** Members of an ephemeral room whose latency is measured, those of them that publish, and how often each. */
const probes = 60;
const probing = 6;
const probeEveryMs = 100;
const controlMs = 8_000;
/** Where nobody moves the same load is measured for this long. */
const quietMs = 5_000;
const drainMs = 10_000;
const asks = 300;
const partitions = 1_024;

const phases = [
  { key: "control", title: "no change" },
  { key: "join", title: "a node joins" },
  { key: "weight", title: "a node gets twice the weight" },
  { key: "drain", title: `a node drains over ${drainMs / 1000} s` },
] as const;
type Phase = (typeof phases)[number]["key"];

export function elasticRow(placement: "any" | "hash"): Row {
  const metrics = phases.flatMap(({ key, title }): Metric[] => [
    ...(key === "control" ? [] : [
      { key: `${key}.sessions`, title: `${title}: sessions that move`, unit: "", digits: 0 },
      ...(placement === "hash" ? [{ key: `${key}.partitions`, title: `  partitions that move, of ${partitions.toLocaleString("en")}`, unit: "", digits: 0 }] : []),
      { key: `${key}.seconds`, title: "  until the last has moved", unit: "s", digits: 1 },
      ...(key === "drain" ? [] : [{ key: `${key}.share`, title: "  of clients that ask then, sent to this node", unit: "%", digits: 0 }]),
    ]),
    { key: `${key}.p50`, title: `${key === "control" ? `${title}: ` : "  "}p50 of those that stay`, unit: "ms", digits: 2 },
    { key: `${key}.p99`, title: "  p99", unit: "ms", digits: 2 },
  ]);
  return {
    name: `elastic-${placement}`,
    title: (scale) => `Nodes join, get another weight and drain under ${placement}: ${sessionsOf(scale).toLocaleString("en")} sessions`,
    servers: ["flux"],
    metrics: [...metrics, { key: "fresh", title: "came back without their session", unit: "", digits: 0 }, { key: "harmed", title: "messages lost or twice", unit: "", digits: 0 }],
    compared: "join.p99",
    bars: [
      { metric: "fresh", of: "value", never: true },
      { metric: "harmed", of: "value", never: true },
      ...(placement === "any" ? [{ metric: "join.sessions", of: "value", never: true } as const, { metric: "weight.sessions", of: "value", never: true } as const] : []),
    ],
    secondsPlanned: () => 90,
    run: (_, scale, say) => measure(placement, scale, say),
  };
}

function sessionsOf({ sockets }: Scale): number {
  return sockets >= 10_000 ? sessionsMax : 300;
}

function measure(placement: "any" | "hash", scale: Scale, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const flags = [
      ...patientHeartbeat, "--placement", placement, "--placement-partitions", String(partitions), "--placement-stable-ms", "0s", "--placement-calm-ms", "2s",
      "--node-heartbeat-ms", "1s", "--node-dead-ms", "15s", "--drain-ms", "0s",
    ];
    const cluster = await startCluster({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/elastic-`) }, { flags, size });
    await cluster.nodes[joining]!.stop();
    say("connecting", 15);
    const options = { WebSocket, storage: null, connectTimeoutMs: 30_000, locate: asker(cluster.nodes[0]!.port, teardown) };
    const population = await startPopulation({ teardown }, cluster.nodes[0]!.url, { room: "log:elastic", members, publishers: 4, everyMs, ...options });
    const clients = [...population.clients];
    teardown(() => Promise.all(clients.slice(members).map((client) => client.suspend())));
    await connectAll(clients, sessionsOf(scale), () => connect(options));
    const fleet = new Fleet(placement, cluster, clients);
    await fleet.settled();
    const probe = await startProbe(teardown, clients.slice(members, members + probes));

    const values: Record<string, number> = {};
    const during = async (phase: Phase, change: (() => Promise<unknown>) | null, node = -1): Promise<void> => {
      say(phases.find(({ key }) => key === phase)!.title, 15);
      const before = fleet.nodes();
      const measured = await fleet.measure(change);
      // What those got whose session did not move, from those who did not.
      const { p50, p99 } = probe.take((client) => before.get(client) === client.session?.node);
      Object.assign(values, { [`${phase}.p50`]: p50, [`${phase}.p99`]: p99 });
      if (change === null) return;
      for (const [key, value] of Object.entries(measured)) values[`${phase}.${key}`] = value;
      if (node >= 0) values[`${phase}.share`] = await fleet.share(node, options.locate);
    };
    await during("control", null);
    await during("join", () => cluster.restart(joining), joining);
    await during("weight", () => weigh(cluster, 1, 2), 1);
    await during("drain", () => cluster.nodes[draining]!.drain(drainMs));
    probe.stop();
    say("judging", 10);
    await population.progress(20);
    values.fresh = fleet.fresh;
    values.harmed = harmed(verdictValues(await population.stop(), population.gaps));
    if (cluster.failures.length > 0) throw new Error(cluster.failures.join("\n"));
    return values;
  });
}

async function weigh({ nodes }: Cluster, node: number, weight: number): Promise<void> {
  const answer = await fetch(`${nodes[0]!.adminUrl}/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ node: `node-${node}`, weight }) });
  if (!answer.ok) throw new Error(`the weight is not changed: ${answer.status} ${await answer.text()}`);
}

function harmed({ lost = 0, doubled = 0, gaps = 0 }: Values): number {
  return lost + doubled + gaps;
}

/** Where the clients are, and whether that is where they belong. */
class Fleet {
  readonly #placement: "any" | "hash";
  readonly #cluster: Cluster;
  readonly #clients: readonly Client[];
  fresh = 0;
  #lastMoveAt = 0;

  constructor(placement: "any" | "hash", cluster: Cluster, clients: readonly Client[]) {
    this.#placement = placement;
    this.#cluster = cluster;
    this.#clients = clients;
    for (const client of clients) {
      client.on("ready", ({ resumed }) => {
        this.#lastMoveAt = performance.now();
        if (!resumed) this.fresh++;
      });
    }
  }

  nodes(): Map<Client, string | undefined> {
    return new Map(this.#clients.map((client) => [client, client.session?.node]));
  }

  async measure(change: (() => Promise<unknown>) | null): Promise<{ sessions: number; partitions: number; seconds: number }> {
    const before = this.nodes();
    const ownersBefore = await this.#owners();
    const startedAt = performance.now();
    if (change === null) await sleep(controlMs);
    else await Promise.all([change(), sleep(quietMs)]);
    await this.settled();
    const owners = await this.#owners();
    const sessions = this.#clients.filter((client) => client.session?.node !== before.get(client)).length;
    return { sessions, partitions: owners.filter((id, i) => id !== ownersBefore[i]).length, seconds: sessions === 0 ? 0 : (this.#lastMoveAt - startedAt) / 1000 };
  }

  /** Everybody has a session, and where users belong on one node, there. */
  async settled(): Promise<void> {
    const isSettled = async () => {
      const owners = await this.#owners();
      const belongs = (client: Client) => owners.length === 0 || owners[xxh32(client.session!.user) % partitions] === client.session!.node;
      return this.#clients.every((client) => client.state === "ready" && belongs(client)) || sleep(200, false);
    };
    await until(isSettled, "everybody to be where they belong", 120_000);
  }

  /** Of clients that ask now, the percentage that a node gets. Under hash, of the users. */
  async share(node: number, ask: ReturnType<typeof asker>): Promise<number> {
    const id = `node-${node}`;
    if (this.#placement === "hash") return (100 * this.#clients.filter(({ session }) => session?.node === id).length) / this.#clients.length;
    const answers = await Promise.all(Array.from({ length: asks }, () => ask({ not: [], ticket: "", token: "", signal: new AbortController().signal })));
    return (100 * answers.filter(({ url }) => new URL(url).searchParams.get("node") === id).length) / asks;
  }

  /** The owner of each partition. Empty: there are none. */
  async #owners(): Promise<string[]> {
    if (this.#placement === "any") return [];
    const { members: all } = (await (await fetch(`${this.#cluster.nodes[0]!.adminUrl}/placement`)).json()) as { members: Member[] };
    return Array.from(ownersOf(all, partitions), (owner) => all[owner]?.id ?? "");
  }
}

/** Publications whose age on arrival is measured. Publisher and members are clients of this process, with one clock. */
async function startProbe(teardown: (end: () => unknown) => void, clients: readonly Client[]) {
  let samples: { from: Client; to: Client; ms: number }[] = [];
  const rooms = clients.map((client) => client.join("live:elastic"));
  for (const [i, room] of rooms.entries()) {
    room.on("publication", ({ data }) => {
      const { from, at } = data as { from: number; at: number };
      samples.push({ from: clients[from]!, to: clients[i]!, ms: performance.now() - at });
    });
  }
  await Promise.all(rooms.map((room) => room.joined));
  const timers = rooms.slice(0, probing).map((room, from) => setInterval(() => {
    // One that is moving just now publishes nothing.
    if (clients[from]!.state === "ready") room.publish({ from, at: performance.now() }).catch(() => undefined);
  }, probeEveryMs));
  const stop = () => timers.forEach((timer) => clearInterval(timer));
  teardown(stop);
  return {
    stop,
    /** Percentiles since the last call, among these clients. */
    take: (stayed: (client: Client) => boolean) => {
      const ms = samples.filter(({ from, to }) => stayed(from) && stayed(to)).map((sample) => sample.ms).sort((a, b) => a - b);
      samples = [];
      const at = (share: number) => ms[Math.min(ms.length - 1, Math.floor(share * ms.length))] ?? Number.NaN;
      return { p50: at(0.5), p99: at(0.99) };
    },
  };
}

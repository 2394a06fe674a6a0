/**
 * The faults of `npm run test:compose`, one after the other on the containers of deploy/compose.yaml. Members talk through the load balancer meanwhile,
 * over the SDK. After each fault the history checker judges what they were given, nodes must agree on who is there, and the archive must have every
 * publication that was acknowledged.
 */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { faultsIn } from "../support/faults.ts";
import { startPopulation, type Population } from "../support/population.ts";
import { createTeardowns } from "../support/teardowns.ts";
import { until } from "../support/until.ts";

interface Fault {
  readonly name: string;
  /** Not durable: what a store loses, members are told of. */
  readonly loses?: true;
  happen(node: string): Promise<void>;
}

const nodes = ["gateway-1", "gateway-2", "gateway-3"];
const ports = [8091, 8092, 8093].map((port) => ({ port }));
const prometheusUrl = "http://127.0.0.1:8096";
const limitMs = 180_000;
const lookMs = 250;
const members = 12;
/** A short fault, and one after which a node counts as dead: nodeDeadMs is 10 s. */
const shortMs = 2_000;
const longMs = 20_000;

const docker = (...args: readonly string[]) => execFileSync("docker", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
const [program = "", ...files] = process.env.FLUX_COMPOSE!.split(" ");
const compose = (...args: readonly string[]) => execFileSync(program, [...files, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
const idOf = (service: string) => compose("ps", "--all", "--quiet", service);
const pidOf = (service: string) => Number(docker("inspect", "-f", "{{.State.Pid}}", idOf(service)));
const addressOf = (service: string) => docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", idOf(service));

const faults: readonly Fault[] = [
  { name: "a node is paused, and goes on", happen: (node) => paused(node, shortMs) },
  { name: "a node is paused until it is taken for dead, and goes on", happen: (node) => takenForDead(node, () => paused(node, longMs)) },
  { name: "a node is killed, and the engine starts it again", happen: async (node) => process.kill(pidOf(node), "SIGKILL") && undefined },
  { name: "a node is cut from NATS", happen: (node) => cut(node, shortMs, addressOf("nats")) },
  { name: "a node is cut from everything for long", happen: (node) => takenForDead(node, () => cut(node, longMs)) },
  { name: "a node is restarted", happen: async (node) => void compose("restart", node) },
  {
    name: "a node is drained from inside, and the engine starts it again",
    happen: async (node) => {
      const began = docker("inspect", "-f", "{{.State.StartedAt}}", idOf(node));
      docker("exec", idOf(node), "node", "dist/cli/main.js", "drain");
      await until(async () => docker("inspect", "-f", "{{.State.StartedAt}}", idOf(node)) !== began || sleep(lookMs, false), "the next start", limitMs);
    },
  },
  { name: "the load balancer is killed", happen: async () => process.kill(pidOf("balancer"), "SIGKILL") && undefined },
  { name: "Redis is restarted", happen: async () => void compose("restart", "redis") },
  { name: "NATS is restarted", happen: async () => void compose("restart", "nats") },
  { name: "NATS is killed", happen: async () => process.kill(pidOf("nats"), "SIGKILL") && undefined },
  { name: "PostgreSQL is paused", happen: () => paused("postgres", shortMs) },
];

const wanted = process.argv[2];
const t = createTeardowns();
// A request that nobody answers keeps no process alive.
const awake = setInterval(() => undefined, 60_000);
t.teardown(() => clearInterval(awake));
try {
  await ready();
  for (const [i, fault] of faults.entries()) {
    if (wanted === undefined || fault.name.includes(wanted)) await test(fault, i);
  }
  await scraped();
} finally {
  await t.end();
}
process.exit(0);

async function test(fault: Fault, i: number): Promise<void> {
  const began = performance.now();
  const room = `log:${i}`;
  const population = await startPopulation(t, "ws://127.0.0.1:8090/ws", { room, members, everyMs: 100, seed: fault.name, patienceMs: 3_000 });
  await population.progress(40);
  await fault.happen(nodes[i % nodes.length]!);
  await ready();
  await until(() => population.clients.every(({ state }) => state === "ready"), "every client to be back", limitMs);
  await population.present(ports, limitMs);
  await population.progress(40);
  const verdict = await population.stop();
  if (faultsIn(verdict, false) !== 0) throw new Error(`${fault.name}: ${verdict.report}`);
  if (population.gaps !== 0) throw new Error(`${fault.name}: members were told of ${population.gaps} gaps`);
  await archived(room, population);
  await population.close();
  console.log(`ok: ${fault.name}: ${verdict.acknowledged} acknowledged, ${verdict.delivered} delivered, in order, nothing lost or doubled, all in the archive (${((performance.now() - began) / 1000).toFixed(0)} s)`);
}

/** Every node and the load balancer say that they are. */
async function ready(): Promise<void> {
  const asks = (port: number) => fetch(`http://127.0.0.1:${port}/ready`, { signal: AbortSignal.timeout(5_000) }).then(({ ok }) => ok, () => false);
  const isReady = async () => (await Promise.all([...ports, { port: 8090 }].map(({ port }) => asks(port)))).every(Boolean);
  await until(async () => (await isReady()) || sleep(lookMs, false), "all nodes and the load balancer to be ready", limitMs);
}

async function paused(service: string, ms: number): Promise<void> {
  const id = idOf(service);
  docker("pause", id);
  await sleep(ms);
  docker("unpause", id);
}

/** In the container's own network: the rules end with it. Packets are dropped, and nobody is told. */
async function cut(service: string, ms: number, peer?: string): Promise<void> {
  const rule = (what: "-A" | "-D") => {
    for (const [chain, side] of [["INPUT", "-s"], ["OUTPUT", "-d"]] as const) {
      // The engine's names are resolved on loopback.
      const match = peer === undefined ? ["!", chain === "INPUT" ? "-i" : "-o", "lo"] : [side, peer];
      execFileSync("nsenter", ["-t", String(pidOf(service)), "-n", "iptables", what, chain, ...match, "-j", "DROP"]);
    }
  };
  rule("-A");
  await sleep(ms);
  const counters = execFileSync("nsenter", ["-t", String(pidOf(service)), "-n", "iptables", "-nvxL"], { encoding: "utf8" });
  const dropped = [...counters.matchAll(/^ *(\d+) +\d+ +DROP /gm)].reduce((sum, [, packets]) => sum + Number(packets), 0);
  if (dropped === 0) throw new Error("nothing was cut");
  rule("-D");
}

/** The other nodes note that. */
async function takenForDead(node: string, happen: () => Promise<void>): Promise<void> {
  const since = new Date().toISOString();
  await happen();
  for (const other of nodes) {
    if (other !== node && !docker("logs", "--since", since, idOf(other)).includes(`node ${node} is down`)) throw new Error(`${other} did not take ${node} for dead`);
  }
}

/** PostgreSQL has each publication to the room once, and none twice. */
async function archived(room: string, { history }: Population): Promise<void> {
  const acknowledged = history.events.filter((event) => event.kind === "acknowledged" && event.room === room).length;
  const query = `SELECT count(*) || ' ' || count(DISTINCT data) FROM flux_publications WHERE room = '${room}'`;
  let found = "";
  const isThere = () => {
    found = compose("exec", "-T", "postgres", "psql", "-h", "127.0.0.1", "-U", "flux", "-tAc", query);
    const [rows = 0, distinct = 0] = found.split(" ").map(Number);
    if (rows !== distinct) throw new Error(`${room}: ${rows} rows in the archive, of which ${distinct} differ`);
    return rows >= acknowledged;
  };
  await until(async () => isThere() || sleep(lookMs, false), `${acknowledged} publications in the archive`, limitMs).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${found} are there`);
  });
}

/** Prometheus has reached all of them, and knows what they did. */
async function scraped(): Promise<void> {
  const query = async (expr: string) => {
    const { data } = (await (await fetch(`${prometheusUrl}/api/v1/query?query=${encodeURIComponent(expr)}`)).json()) as { data: { result: { value: [number, string] }[] } };
    return Number(data.result[0]?.value[1] ?? 0);
  };
  await until(async () => (await query("sum(up)")) === nodes.length + 1 || sleep(lookMs, false), "Prometheus to reach all nodes and the load balancer", limitMs);
  const deliveries = await query("sum(flux_deliveries_total)");
  if (!(deliveries > 0)) throw new Error("Prometheus knows of no delivery");
  console.log(`ok: Prometheus reaches ${nodes.length} nodes and the load balancer`);
}

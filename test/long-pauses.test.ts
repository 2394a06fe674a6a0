/** NATS or Redis stands still for longer than anything waits for it, and goes on: what members notice meanwhile, and afterwards. */
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { inTime, patientHeartbeat, startCluster, type Cluster } from "./support/cluster.ts";
import { untilQuiet } from "./support/gauges.ts";
import { startPopulation, type Population } from "./support/population.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

t.setTimeout(1_200_000);
// One waits while the other does.
t.jobs = 2;

const pauseMs = 20_000;

async function talking(t: Test): Promise<{ cluster: Cluster; population: Population; losses(): number }> {
  const cluster = await startCluster(t, { size: 2, flags: patientHeartbeat });
  const population = await startPopulation(t, cluster.front.url, { room: "log:x", members: 12, publishers: 2, everyMs: 100 });
  let losses = 0;
  for (const client of population.clients) client.on("state", ({ state }) => void (state === "waiting" && losses++));
  await population.progress(20);
  return { cluster, population, losses: () => losses };
}

const readiness = ({ nodes }: Cluster) => Promise.all(nodes.map(async ({ port }) => (await fetch(`http://127.0.0.1:${port}/ready`)).status));

t.test("NATS stands still for 20 s: sockets stay, publishes are refused in time and repeated, and nothing is lost", { buffered: true }, async (t) => {
  const { cluster, population, losses } = await talking(t);
  const raw = await open(cluster.nodes[0]!);
  await raw.join("log:raw");
  await cluster.nats.pause();
  const pausedAt = performance.now();
  const { error } = await raw.request({ publish: { room: "log:raw", payload: Buffer.from("raw") } });
  t.equal(error?.code, "unavailable", "a publish is refused when it has waited for natsTimeoutMs");
  await until(async () => (await readiness(cluster)).every((status) => status === 503), "nodes to be not ready, after natsGraceMs", pauseMs);
  t.ok((await raw.request({ ping: {} })).pong, "sockets are served");
  await sleep(pausedAt + pauseMs - performance.now());
  cluster.nats.resume();
  await cluster.ready();
  t.equal(losses(), 0, "no socket was lost");
  await raw.bye();
  await judge(t, cluster, population);
});

t.test("Redis stands still for 20 s: rooms go on, sessions resume, and nobody is taken for dead", { buffered: true }, async (t) => {
  const { cluster, population, losses } = await talking(t);
  const [a, b] = [cluster.nodes[0]!, cluster.nodes[1]!];
  const raw = await open(a);
  await raw.join("log:x");
  cluster.redis.pause();
  const pausedAt = performance.now();
  const sum = async (name: string) => (await a.metric(name)) + (await b.metric(name));
  await until(async () => (await sum("flux_redis_connected")) === 0 && (await sum("flux_nodes_stale")) === 2, "both to notice");
  t.equal((await raw.request({ presence: { room: "log:x" } })).error?.code, "unavailable", "nobody knows who is there");
  await lose(raw);
  const back = await open(b, { hello: resumeOf(raw) });
  t.equal(back.ready?.resumed, true, "the signed token is enough to go on at the other node");
  while (performance.now() < pausedAt + pauseMs) {
    await population.progress(20);
    t.same(await readiness(cluster), [200, 200], "nodes are ready while publications go through");
    await sleep(1_000);
  }
  cluster.redis.resume();
  await until(async () => (await sum("flux_redis_connected")) === 2 && (await sum("flux_nodes_stale")) === 0, "both to be back");
  t.same([...(await cluster.seenByOthers(0)), ...(await cluster.seenByOthers(1))], ["up", "up"]);
  t.same([...a.complaints, ...b.complaints].filter((line) => line.includes("is down")), [], "nobody was taken for dead");
  t.equal(losses(), 0, "no socket was lost");
  await back.bye();
  await judge(t, cluster, population);
});

async function judge(t: Test, cluster: Cluster, population: Population): Promise<void> {
  await inTime(cluster, "presence", (limitMs) => population.present(cluster.nodes, limitMs));
  await population.progress(20);
  const verdict = await population.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(population.gaps, 0, "nobody was told of a gap");
  await population.close();
  await inTime(cluster, "nothing left of them", (limitMs) => untilQuiet(cluster, { limitMs }));
}

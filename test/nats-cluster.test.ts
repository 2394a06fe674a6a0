/** Nodes on three nats-servers that are one cluster: what is kept on three of them is there when one is gone. */
import t from "tap";
import { startFront } from "./support/front.ts";
import { startNatsCluster } from "./support/natscluster.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { startPopulation } from "./support/population.ts";
import { open } from "./support/session.ts";
import { startProxy } from "./support/proxy.ts";
import { until } from "./support/until.ts";

t.test("one of three servers is killed, the leader: nothing acknowledged is lost, nobody sees a gap, and publications go on", async (t) => {
  const cluster = await startNatsCluster(t);
  const nats = cluster.servers.map(({ url }) => url);
  const options: NodeOptions = {
    natsReplicas: "3", natsPartitions: 1, natsGraceMs: 60_000, reactors: 1, commandsPerSecond: 0, resumeSecret: "r".repeat(32),
    namespaces: { chat: null, log: { durable: true, historySize: 100_000 } },
  };
  const b = await startNode(t, { ...options, nats });
  const leader = await cluster.leaderOf("FLUX_log_0");
  await cluster.whole("FLUX_log_0");
  // This one is connected to the leader: the others do not take it yet.
  const others = await Promise.all(cluster.servers.filter((one) => one !== leader).map(({ port }) => startProxy(t, port)));
  for (const one of others) one.refuse(true);
  const a = await startNode(t, { ...options, nats: [leader.url, ...others.map(({ port }) => `nats://127.0.0.1:${port}`)] });
  for (const one of others) one.refuse(false);
  const front = await startFront(t, () => [a.port, b.port]);
  const population = await startPopulation(t, front.url, { room: "log:x", members: 8, seed: "leader" });
  await population.progress(200);
  const killedAt = performance.now();
  await leader.kill();
  await population.progress(500);
  t.comment(`publications went on ${Math.round(performance.now() - killedAt)} ms after the kill`);
  await until(async () => sumOf(await a.metrics(), "flux_nats_connected") === 1, "a to be connected");
  t.ok(sumOf(await a.metrics(), "flux_nats_reconnects_total") >= 1, "to another server");
  const reader = await open(b);
  await reader.join("log:x");
  for (let limit = 1; limit <= 12; limit++) {
    const { history } = await reader.request({ history: { room: "log:x", limit } });
    t.equal(history?.publications?.length, limit, "what is kept can be read while a server is gone");
  }
  await leader.start();
  await cluster.whole("FLUX_log_0");
  await population.progress(200);
  const verdict = await population.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(verdict.refused, 0, "what was refused at first was repeated");
  t.equal(population.gaps, 0);
  t.comment(`${verdict.acknowledged} acknowledged, ${verdict.delivered} delivered`);
  await population.close();
});

/** Nodes on three nats-servers that are one cluster: what is kept on three of them is there when one is gone. */
import t from "tap";
import { Format } from "../src/protocol/messages.ts";
import { startFront } from "./support/front.ts";
import { startNatsCluster } from "./support/natscluster.ts";
import { brokerOptions, durable, startBroker, value } from "./support/natsbroker.ts";
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
  await population.progress(30);
  const killedAt = performance.now();
  await leader.kill();
  await population.progress(60);
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
  await population.progress(30);
  const verdict = await population.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(verdict.refused, 0, "what was refused at first was repeated");
  t.equal(population.gaps, 0);
  t.comment(`${verdict.acknowledged} acknowledged, ${verdict.delivered} delivered`);
  await population.close();
});

t.test("the routes of one of three servers are cut: its node refuses publications, the others go on, and their publications come afterwards", async (t) => {
  const cluster = await startNatsCluster(t);
  const options: NodeOptions = {
    natsReplicas: "3", natsPartitions: 1, natsTimeoutMs: 2_000, reactors: 1,
    namespaces: { chat: null, live: {}, log: { durable: true, historySize: 100 } },
  };
  const near = await startNode(t, { ...options, nats: [cluster.servers[0]!.url] });
  const leader = await cluster.leaderOf("FLUX_log_0");
  await cluster.whole("FLUX_log_0");
  const apart = cluster.servers.find((one) => one !== leader && one !== cluster.servers[0])!;
  const far = await startNode(t, { ...options, nats: [apart.url] });
  const [a, b] = [await open(far), await open(near)];
  for (const session of [a, b]) for (const room of ["log:x", "live:x"]) await session.join(room);
  const seen = (session: typeof a, room: string) => session.publications.filter((one) => one.room === room).map(({ payload }) => payload.toString());
  const bytes = (text: string) => Buffer.from(text);
  await a.publish("log:x", bytes("1"));
  await b.publish("log:x", bytes("2"));
  for (const session of [a, b]) await session.waitFor(() => seen(session, "log:x").length === 2);

  await cluster.cut(apart);
  const refused = await a.request({ publish: { room: "log:x", payload: bytes("refused"), format: Format.BINARY } });
  t.match(refused.error, { code: "unavailable", retryable: true }, "nobody takes it");
  t.match((await a.request({ history: { room: "log:x", limit: 1 } })).error, { code: "unavailable", retryable: true }, "nothing can be read");
  t.ok(sumOf(await far.metrics(), "flux_nats_timeouts_total") >= 1, "it is counted");
  t.equal(sumOf(await far.metrics(), "flux_nats_connected"), 1, "its server answers, so the node takes itself for connected");
  t.equal((await fetch(`http://127.0.0.1:${far.port}/ready`)).status, 200, "and for ready");
  for (const text of ["3", "4", "5"]) await b.publish("log:x", bytes(text));
  await a.publish("live:x", bytes("here only"));
  await b.publish("live:x", bytes("there only"));
  await b.waitFor(() => seen(b, "log:x").length === 5 && seen(b, "live:x").length === 1);
  await a.waitFor(() => seen(a, "live:x").length === 1);
  t.same(seen(a, "log:x"), ["1", "2"], "nothing of the other side comes");
  t.same([...seen(a, "live:x"), ...seen(b, "live:x")], ["here only", "there only"], "what nobody keeps reaches its own side");

  await cluster.join();
  await until(async () => (await a.request({ publish: { room: "log:x", payload: bytes("6"), format: Format.BINARY, key: "6" } })).published != null, "publications to be taken again");
  for (const session of [a, b]) await session.waitFor(() => seen(session, "log:x").includes("6"));
  t.same(seen(b, "log:x"), ["1", "2", "3", "4", "5", "6"]);
  t.same(seen(a, "log:x"), ["1", "2", "3", "4", "5", "6"], "what was missed, in order");
  t.same(a.events.filter((event) => event.sync), [], "and nobody is told of a gap");
  t.equal(a.publications.filter(({ room }) => room === "live:x").length, 1, "what nobody keeps does not come later");
  // Its server reads from the replica it has, which may still be behind: all of it can be read, or nothing.
  await until(async () => {
    const { history, error } = await a.request({ history: { room: "log:x", limit: 6 } });
    if (history == null) return error?.code !== "unavailable" && t.fail(JSON.stringify(error));
    t.equal(history.publications?.length, 6, "and can be read");
    return true;
  }, "the history to be read", 60_000);
});

t.test("a route between servers breaks: a quiet room gets its last publication when the route is back, though nothing else happens", async (t) => {
  const cluster = await startNatsCluster(t);
  const options = { ...brokerOptions(cluster.servers[0]!), partitions: 1, quietLookMs: 1_000, timeoutMs: 20_000 };
  const near = await startBroker(t, { ...options, namespaces: new Map([["test", durable]]) });
  const leader = await cluster.leaderOf(`${options.prefix.toUpperCase()}_test_0`);
  const apart = cluster.servers.find((one) => one !== leader && one !== cluster.servers[0])!;
  const far = await startBroker(t, { ...options, servers: [apart.url] });
  // Some servers mangle a subject with "@" when they pass on a message of another server's consumer.
  const [quiet, empty] = ["quiet@home", "empty@home"];
  for (const room of [quiet, empty]) value(await far.open(room));
  value(await near.publish(quiet, "1"));
  await until(() => far.texts(quiet).length === 1, "a copy to come by itself");
  await cluster.cut(apart);
  value(await near.publish(quiet, "2"));
  value(await near.publish(empty, "first"));
  value(await near.publish("elsewhere", "in a room that is not open there"));
  t.same(far.texts(quiet), ["1"], "it does not come");
  await cluster.join();
  await until(() => far.texts(quiet).length === 2 && far.texts(empty).length === 1, "what the quiet rooms have missed", 60_000);
  t.same([far.texts(quiet), far.texts(empty)], [["1", "2"], ["first"]]);
  t.equal(far.delivered.at(-1)!.publication.prev < far.delivered.at(-1)!.publication.seq, true);
  t.equal(far.broker.nats().reconnects, 0, "its connection was never lost");
  t.same(far.moved, []);
});

/** Nodes that are restarted under load: clients come back by themselves, and nothing is missing or there twice. */
import t, { type Test } from "tap";
import { startCluster } from "./support/cluster.ts";
import { startCrowd } from "./support/crowd.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { startProxy } from "./support/proxy.ts";
import { until } from "./support/until.ts";

const flawless = { lacking: 0, doubled: 0, disordered: 0, gaps: 0 };

t.test("60 clients of one node with a data directory live through two restarts", async (t) => {
  const flags = ["--data-dir", t.testdir(), "--drain-ms", "2s", "--reactors", "2", "--namespaces", '{"chat":{"historySize":100000}}'];
  let node: NodeProcess = await startNodeProcess(flags);
  t.teardown(() => node.kill());
  const port = ["--port", String(node.port)];
  const proxy = await startProxy(t, node.port);
  const crowd = await startCrowd(t, proxy.url, { room: "chat:all", clients: 60, publishers: 5, everyMs: 400 });

  for (const restart of [1, 2]) {
    const before = crowd.acknowledged;
    await until(() => crowd.acknowledged > before + 20, "some load");
    await node.stop();
    t.equal(node.ended, 0, `restart ${restart}: the node ended in order`);
    t.same(node.complaints.filter((line) => !line.includes("--sockets-max")), []);
    node = await startNodeProcess([...flags, ...port]);
    await crowd.ready();
    t.ok(crowd.clients.every(({ session }) => session?.resumed === true), "everybody went on with their session");
  }
  t.match(await crowd.stop(), flawless);
  t.ok(crowd.causes.every((causes) => causes.get("shutdown") === 2), "everybody was sent away twice, in their turn");
});

t.test("60 clients of three nodes live through a restart of each, one after the other", async (t) => {
  const drainMs = 3_000;
  const cluster = await startCluster(t, { flags: ["--drain-ms", `${drainMs}`] });
  await cluster.ready();
  const crowd = await startCrowd(t, cluster.front.url, { room: "log:all", clients: 60, publishers: 5, everyMs: 400 });
  for (const index of [0, 1, 2]) {
    const before = crowd.acknowledged;
    await until(() => crowd.acknowledged > before + 20, "some load");
    const node = cluster.nodes[index]!;
    const awayBefore = crowd.returns.length;
    await cluster.restart(index);
    t.equal(node.ended, 0, `node ${index} ended in order`);
    await cluster.ready();
    await crowd.ready();
    spread(t, `node ${index}`, crowd.returns.slice(awayBefore), drainMs);
  }
  t.ok(crowd.clients.every(({ session }) => session?.resumed === true), "everybody went on with their session");
  t.match(await crowd.stop(), flawless);
  t.ok(crowd.returns.length >= 60, `${crowd.returns.length} were sent away`);
});

/**
 * Those that a node sends away come back over the time of its drain. Loose: they are noted when this process comes to it,
 * and where that stands still for a second what was spread over it is one crowd. So what is asked for needs half of the
 * time between the first and the last, where an even drain has all of it, and a quarter for the eight tenths in the middle,
 * where it has eight tenths: sent away at once, or at once but for a few, they have neither. turns.test.ts looks closer.
 */
function spread(t: Test, name: string, returns: readonly number[], drainMs: number): void {
  const sorted = [...returns].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
  const [all, middle] = [at(1) - at(0), at(0.9) - at(0.1)].map(Math.round) as [number, number];
  t.ok(all >= drainMs / 2 && middle >= drainMs / 4, `${name}: ${sorted.length} came back over ${all} ms, those in the middle over ${middle} ms, of ${drainMs} ms`);
}

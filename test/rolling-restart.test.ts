/** Nodes that are restarted under load: clients come back by themselves, and nothing is missing or there twice. */
import t from "tap";
import { startCluster } from "./support/cluster.ts";
import { startCrowd } from "./support/crowd.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { startProxy } from "./support/proxy.ts";
import { until } from "./support/until.ts";

const flawless = { lacking: 0, doubled: 0, disordered: 0, gaps: 0 };

t.test("200 clients of one node with a data directory live through two restarts", async (t) => {
  const flags = ["--data-dir", t.testdir(), "--drain-ms", "2s", "--reactors", "2", "--namespaces", '{"chat":{"historySize":100000}}'];
  let node: NodeProcess = await startNodeProcess(flags);
  t.teardown(() => node.kill());
  const port = ["--port", String(node.port)];
  const proxy = await startProxy(t, node.port);
  const crowd = await startCrowd(t, proxy.url, { room: "chat:all", clients: 200, publishers: 5, everyMs: 20 });

  for (const restart of [1, 2]) {
    const before = crowd.acknowledged;
    await until(() => crowd.acknowledged > before + 50, "some load");
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

t.test("120 clients of three nodes live through a restart of each, one after the other", async (t) => {
  const cluster = await startCluster(t, { flags: ["--drain-ms", "3s"] });
  await cluster.ready();
  const crowd = await startCrowd(t, cluster.front.url, { room: "log:all", clients: 120, publishers: 5, everyMs: 20 });
  for (const index of [0, 1, 2]) {
    const before = crowd.acknowledged;
    await until(() => crowd.acknowledged > before + 50, "some load");
    const node = cluster.nodes[index]!;
    await cluster.restart(index);
    t.equal(node.ended, 0, `node ${index} ended in order`);
    await cluster.ready();
    await crowd.ready();
  }
  t.ok(crowd.clients.every(({ session }) => session?.resumed === true), "everybody went on with their session");
  t.match(await crowd.stop(), flawless);
  t.ok(crowd.returns.length >= 120, `${crowd.returns.length} were sent away`);
  const perSecond = new Map<number, number>();
  for (const at of crowd.returns) perSecond.set(Math.floor(at / 1000), (perSecond.get(Math.floor(at / 1000)) ?? 0) + 1);
  t.comment(`clients sent away per second: ${[...perSecond.values()].join(" ")}`);
});

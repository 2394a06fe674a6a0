/**
 * `--placement partition` over three servers of NATS: what a cut route and another leader do. Users on five devices send
 * and receive meanwhile, and the history of every device is judged.
 */
import t from "tap";
import { startCluster } from "./support/cluster.ts";
import { startMail } from "./support/mail.ts";
import { heldBy, jetStream, mailOptions, partitionFlags, shared, soon } from "./support/partitions.ts";

t.test("with three servers of NATS: a node that is cut off delivers nothing, and leaders may move", async (t) => {
  const cluster = await startCluster(t, { size: 3, replicated: true, flags: partitionFlags });
  const { nodes, front } = cluster;
  const natsCluster = cluster.natsCluster!;
  await shared(cluster, [0, 1, 2]);
  t.pass("all partitions are held");
  const mail = await startMail(t, front.url, mailOptions);
  await mail.round();

  const call = await jetStream(t, natsCluster.servers[1]!.url);
  const claims = () => Promise.all(nodes.map((node) => node.metric("flux_partition_claims_total")));
  const before = await claims();
  for (const stream of ["KV_FLUX_LEASES", "KV_FLUX_PARTITIONS", "FLUX__inbox_queue_0", "FLUX__inbox_queue_1"]) {
    await call(`STREAM.LEADER.STEPDOWN.${stream}`);
    await natsCluster.leaderOf(stream);
    await mail.round();
  }
  t.pass(`leaders moved: claims ${before.join()}, then ${(await claims()).join()}`);

  await natsCluster.cut(natsCluster.servers[0]!);
  await soon(async () => (await heldBy(cluster, 0)) === 0, "the node that is cut off to deliver for nobody");
  await shared(cluster, [1, 2]);
  await mail.round();
  t.pass("the others deliver");
  await natsCluster.join();
  await shared(cluster, [0, 1, 2]);
  await mail.round();
  t.comment("a route was cut");

  const verdict = await mail.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(mail.gaps, 0);
  t.same(cluster.failures, []);
});

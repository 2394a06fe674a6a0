/**
 * `npm run test:partition`: `--placement partition`, two nodes as processes over a real NATS and Redis. Users on five devices send and receive
 * through all of it, and the history of every device is judged: nothing lost, doubled or out of order.
 *
 * The times are the real ones: the lease of a dead node lapses after 15 s. So everything happens to one cluster.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { startCluster } from "./support/cluster.ts";
import { startMail } from "./support/mail.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { heldBy, jetStream, limit, mailOptions, partitionFlags, partitions, reportsOf, shared, soon } from "./support/partitions.ts";
import { within } from "./support/rawsocket.ts";
import { secret } from "./support/tokens.ts";

t.test("at most one node delivers to a user, and nothing is lost, whatever happens to the nodes and to what they agree on", async (t) => {
  const cluster = await startCluster(t, { size: 2, flags: partitionFlags });
  const { nodes, nats, front } = cluster;
  await shared(cluster, [0, 1]);
  for (const index of [0, 1]) {
    const reports = await reportsOf(cluster, index);
    t.ok(reports.every(({ owner, confirmed, epoch }) => owner !== "" && confirmed && epoch > 0), "every node knows every holder");
  }
  const mail = await startMail(t, front.url, mailOptions);
  await mail.round();

  await limit(cluster, 0, 1);
  await soon(async () => (await heldBy(cluster, 0)) === 1 && (await heldBy(cluster, 1)) === partitions - 1, "the node to give away what it may not hold");
  t.equal(await nodes[0]!.metric("flux_partition_losses_total"), 0, "handed over, not lost");
  await mail.round();
  await limit(cluster, 0, 0);
  await soon(async () => (await heldBy(cluster, 0)) > 1, "the node to get back what the table gives it");
  await mail.round();
  t.comment("limits");

  const claimsBefore = await nodes[1]!.metric("flux_partition_claims_total");
  await cluster.restart(0);
  await shared(cluster, [0, 1]);
  await mail.round();
  t.ok((await nodes[1]!.metric("flux_partition_claims_total")) > claimsBefore, "the other one had them meanwhile");
  t.equal(await nodes[1]!.metric("flux_partition_losses_total"), 0, "and handed them back");
  t.comment("restart");

  process.kill(nodes[0]!.pid, "SIGSTOP");
  await soon(async () => (await heldBy(cluster, 1)) === partitions, "the other node to hold everything").finally(() => process.kill(nodes[0]!.pid, "SIGCONT"));
  await shared(cluster, [0, 1]);
  await mail.round();
  t.ok((await nodes[0]!.metric("flux_partition_losses_total")) > 0, "the node that stood still knows that it lost them");
  t.comment("a node stood still");

  await nodes[0]!.kill();
  await soon(async () => (await heldBy(cluster, 1)) === partitions, "the other node to hold everything");
  await mail.round();
  await cluster.restart(0);
  await shared(cluster, [0, 1]);
  await mail.round();
  t.comment("a node was killed");

  const call = await jetStream(t, nats.url);
  const leased = await nodes[1]!.metric("flux_partition_losses_total");
  await call("STREAM.DELETE.KV_FLUX_LEASES");
  await soon(async () => (await nodes[1]!.metric("flux_partition_losses_total")) > leased, "the nodes to drop everything, since the leases are gone");
  await shared(cluster, [0, 1]);
  await mail.round();
  await call("STREAM.DELETE.KV_FLUX_PARTITIONS");
  await soon(async () => (await reportsOf(cluster, 0)).some(({ owner }) => owner === ""), "the nodes to know that the assignments are gone");
  await shared(cluster, [0, 1]);
  await mail.round();
  t.comment("the buckets were wiped");

  // Longer than a lease is served: nobody may be certain of anything.
  await nats.stop();
  const copy = mkdtempSync(join(tmpdir(), "flux-bucket-"));
  t.teardown(() => rmSync(copy, { recursive: true, force: true }));
  const bucket = nats.folderOf("KV_FLUX_PARTITIONS");
  cpSync(bucket, copy, { recursive: true });
  await soon(async () => (await heldBy(cluster, 0)) + (await heldBy(cluster, 1)) === 0, "nobody to deliver while NATS is unavailable");
  await nats.start();
  await shared(cluster, [0, 1]);
  await mail.round();
  t.comment("NATS was unavailable");

  await nats.stop();
  rmSync(bucket, { recursive: true });
  cpSync(copy, bucket, { recursive: true });
  await nats.start();
  await shared(cluster, [0, 1]);
  await mail.round();
  t.comment("the assignments were set back");

  const verdict = await mail.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(mail.gaps, 0);
  t.ok(verdict.acknowledged > 100, `${verdict.acknowledged} messages`);
  t.same(cluster.failures.filter((failure) => !failure.includes("SIGKILL")), []);

  const places = ["--nats", nats.url, "--redis", cluster.redis.url, "--resume-secret", "a secret that the nodes of a test share"];
  const underHash = [...places, "--placement", "hash", "--auth-secret", secret, "--sends-per-minute", "0", "--inbox-size", "5000"];
  const refused = await within(startNodeProcess([...underHash, "--node-id", "other"]).catch((error: unknown) => error), "the refusal", 60_000);
  t.match(String(refused), /--placement hash: node node-\d uses partition.*stop all nodes to change it/, "a node of another placement does not start");
});

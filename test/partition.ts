/**
 * `npm run test:partition -- [nodes] [servers] [killed] [control]`: `--placement partition` with nodes as processes over a real NATS and Redis. Users on
 * five devices send and receive through all of it, and the history of every device is judged: nothing lost, doubled or
 * out of order.
 *
 * - nodes: two nodes; limits, a restart, NATS restarted, SIGSTOP, kill -9, wiped and set-back buckets, NATS away for a minute, and a switch
 *   to hash and back.
 * - servers: three nodes, each with a NATS server of its own; leaders move, and a route is cut.
 * - killed: kill -9 with the default nodeDeadMs.
 * - control: three NATS servers whose routes are cut, without a gateway. It says what this NATS loses, and fails by nothing else.
 *
 * The times are the real ones: the lease of a dead node lapses after 15 s. It takes about eight minutes. NATS_SERVER names
 * another nats-server.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { startCluster } from "./support/cluster.ts";
import { startMail } from "./support/mail.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { heldBy, jetStream, limit, mailOptions, partitionFlags, partitions, reportsOf, shared, soon } from "./support/partitions.ts";
import { keptThroughCuts } from "./support/natsalone.ts";
import { within } from "./support/rawsocket.ts";
import { startClient } from "./support/sdk.ts";
import { secret, token } from "./support/tokens.ts";

/** Without NATS. */
const awayMs = 60_000;
/** A node stands still so long, at least. */
const stoppedMs = 20_000;
/** Promised in docs/placement.md. */
const heldAgainMs = 10_000;
const replacedMs = 20_000;

/** Ends only what hangs. */
const timeout = 1_200_000;
t.setTimeout(3 * timeout);

const wanted = process.argv.slice(2).filter((word) => word !== "--");
const test = (name: string, title: string, run: (t: Test) => Promise<void>): void => {
  if (wanted.length === 0 || wanted.includes(name)) void t.test(title, { timeout }, run);
};

test("nodes", "at most one node delivers to a user, and nothing is lost, whatever happens to the nodes and to what they agree on", async (t) => {
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

  // The leases outlive it, the consumers do not.
  const claimedBefore = await Promise.all(nodes.map((node) => node.metric("flux_partition_claims_total")));
  await nats.stop();
  await nats.start();
  const restartedAt = performance.now();
  await mail.round();
  t.comment(`NATS was restarted: every device received again ${Math.round(performance.now() - restartedAt)} ms after its start`);
  await shared(cluster, [0, 1]);
  const claimedSince = (await Promise.all(nodes.map((node) => node.metric("flux_partition_claims_total")))).reduce((sum, count, i) => sum + count - claimedBefore[i]!, 0);
  // A slow machine may claim one twice.
  t.ok(claimedSince >= partitions && claimedSince <= 2 * partitions, `every partition was claimed once more: ${claimedSince}`);

  process.kill(nodes[0]!.pid, "SIGSTOP");
  const standsStill = Promise.all([sleep(stoppedMs), soon(async () => (await heldBy(cluster, 1)) === partitions, "the other node to hold everything")]);
  await standsStill.finally(() => process.kill(nodes[0]!.pid, "SIGCONT"));
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
  const stoppedAt = performance.now();
  const copy = mkdtempSync(join(tmpdir(), "flux-bucket-"));
  t.teardown(() => rmSync(copy, { recursive: true, force: true }));
  const bucket = nats.folderOf("KV_FLUX_PARTITIONS");
  cpSync(bucket, copy, { recursive: true });
  await soon(async () => (await heldBy(cluster, 0)) + (await heldBy(cluster, 1)) === 0, "nobody to deliver while NATS is unavailable");
  await sleep(Math.max(0, awayMs - (performance.now() - stoppedAt)));
  t.equal((await heldBy(cluster, 0)) + (await heldBy(cluster, 1)), 0, "and nobody does");
  await nats.start();
  const backAt = performance.now();
  await soon(async () => (await heldBy(cluster, 0)) + (await heldBy(cluster, 1)) === partitions, "everything to be held again");
  const tookMs = Math.round(performance.now() - backAt);
  t.ok(tookMs < heldAgainMs, `everything was held again ${tookMs} ms after NATS was back`);
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

  for (const client of mail.clients) await client.close();
  await Promise.all(nodes.map((node) => node.stop()));
  const [ann, bob] = await Promise.all(["ann", "bob"].map((sub) => token({ sub }, secret)));
  /** One device of a user on one node, and a message to it. */
  const message = async (url: string, text: string): Promise<void> => {
    const [reader, writer] = [startClient(t, url, { storage: null, token: () => ann!, device: "d" }), startClient(t, url, { storage: null, token: () => bob! })];
    const got: unknown[] = [];
    reader.onMessage(({ data }) => void got.push(data));
    await writer.send("ann", text);
    await soon(async () => got.includes(text), `${text} to arrive`);
    await Promise.all([reader.close(), writer.close()]);
  };
  const left = (node: NodeProcess) => node.complaints.some((line) => /streams hold direct messages from before --placement was changed/.test(line));
  const hash = await startNodeProcess([...underHash, "--node-id", "node-0"]);
  t.teardown(() => hash.kill());
  await message(hash.url, "under hash");
  t.ok(left(hash), "what is in the queues is told");
  await hash.stop();
  const back = await startNodeProcess([...places, ...partitionFlags, "--node-id", "node-0"]);
  t.teardown(() => back.kill());
  await message(back.url, "under partition");
  t.ok(left(back), "and what is in the others");
});

test("servers", "with three servers of NATS: a node that is cut off delivers nothing, and leaders may move", async (t) => {
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
  const cutAt = performance.now();
  await soon(async () => (await heldBy(cluster, 0)) === 0, "the node that is cut off to deliver for nobody");
  const quietMs = Math.round(performance.now() - cutAt);
  await shared(cluster, [1, 2]);
  await mail.round();
  t.pass(`the node that is cut off stopped after ${quietMs} ms; ${Math.round(performance.now() - cutAt)} ms after the cut every device receives from the others`);
  await natsCluster.join();
  await shared(cluster, [0, 1, 2]);
  await mail.round();
  t.comment("a route was cut");

  const verdict = await mail.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(mail.gaps, 0);
  t.same(cluster.failures, []);
});

test("killed", "after kill -9 every device receives again in time, with the default nodeDeadMs", async (t) => {
  const cluster = await startCluster(t, { size: 3, flags: [...partitionFlags, "--node-heartbeat-ms", "5s", "--node-dead-ms", "15s"] });
  await shared(cluster, [0, 1, 2]);
  const mail = await startMail(t, cluster.front.url, mailOptions);
  await mail.round();
  const killedAt = performance.now();
  await cluster.nodes[2]!.kill();
  await mail.round();
  const tookMs = Math.round(performance.now() - killedAt);
  t.ok(tookMs < replacedMs, `every device received again ${tookMs} ms after the kill`);
  const verdict = await mail.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(mail.gaps, 0);
});

test("control", "what NATS itself keeps of what it acknowledged, when routes are cut", async (t) => {
  const { acknowledged, replaced, first } = await keptThroughCuts(t);
  t.ok(acknowledged > 0);
  t.comment(`${acknowledged} acknowledged; in place of ${replaced} of them a replica has another one: ${first.join("; ")}`);
});

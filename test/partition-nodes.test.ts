/**
 * `--placement partition`: two nodes as processes over a real NATS and Redis. A user on five devices sends and receives
 * through all of it, and the history of every device is judged: nothing lost, doubled or out of order.
 *
 * The times are the real ones: the lease of a dead node lapses after 15 s. What takes long is in `npm run test:partition`.
 */
import t from "tap";
import { startCluster, type Cluster } from "./support/cluster.ts";
import { startMail } from "./support/mail.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { heldBy, limit, partitionFlags, partitions, reportsOf, shared, soon, type Report } from "./support/partitions.ts";
import { within } from "./support/rawsocket.ts";
import { secret, token } from "./support/tokens.ts";

/** What a node explains of a user. */
async function explained({ nodes }: Cluster, index: number, user: string): Promise<{ partition: number; owner: string; held: Report; sessions: { answers: readonly { node: string; sessions: number }[] } }> {
  return (await fetch(`${nodes[index]!.adminUrl}/placement?user=${user}`)).json() as never;
}

/** The one partition that the first node holds. */
const onlyHeld = (reports: readonly Report[]): number => reports.find(({ owner }) => owner === "node-0")!.partition;

t.test("at most one node delivers to a user, and nothing is lost, when a node gives partitions away or is killed", async (t) => {
  const cluster = await startCluster(t, { size: 2, flags: partitionFlags });
  const { nodes, nats, front } = cluster;
  await shared(cluster, [0, 1]);
  for (const index of [0, 1]) {
    const reports = await reportsOf(cluster, index);
    t.ok(reports.every(({ owner, confirmed, epoch }) => owner !== "" && confirmed && epoch > 0), "every node knows every holder");
  }
  const mail = await startMail(t, front.url, { secret, users: 2, devices: 5, everyMs: 500 });
  await mail.round();

  await limit(cluster, 0, 1);
  await soon(async () => (await heldBy(cluster, 0)) === 1 && (await heldBy(cluster, 1)) === partitions - 1, "the node to give away what it may not hold");
  t.equal(await nodes[0]!.metric("flux_partition_losses_total"), 0, "handed over, not lost");
  await mail.round();
  for (const name of mail.names) {
    const { partition, owner, held, sessions } = await explained(cluster, 0, name);
    t.equal(owner, `node-${partition === onlyHeld(await reportsOf(cluster, 0)) ? 0 : 1}`, "the holder is the owner, whatever the table says");
    t.match(held, { partition, owner, confirmed: true });
    t.same(sessions.answers.filter((one) => one.sessions > 0).map(({ node }) => node), [owner], "its sessions have moved there");
    const signed = await token({ sub: name }, secret);
    for (const { port } of nodes) {
      const answer = await fetch(`http://127.0.0.1:${port}/api/connection-url?user=${name}`, { headers: { Authorization: `Bearer ${signed}` } });
      t.match(await answer.json(), { node: owner, placement: "partition" }, "every node sends its clients there");
    }
  }
  await limit(cluster, 0, 0);
  await soon(async () => (await heldBy(cluster, 0)) > 1, "the node to get back what the table gives it");
  await mail.round();

  const places = ["--nats", nats.url, "--redis", cluster.redis.url, "--resume-secret", "a secret that the nodes of a test share"];
  const underHash = startNodeProcess([...places, "--placement", "hash", "--node-id", "other"]);
  const refused = await within(underHash.catch((error: unknown) => error), "the refusal", 60_000);
  t.match(String(refused), /--placement hash: node node-\d uses partition.*stop all nodes to change it/, "a node of another placement does not start");

  await nodes[0]!.kill();
  await soon(async () => (await heldBy(cluster, 1)) === partitions, "the other node to hold everything");
  await mail.round();

  const verdict = await mail.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.equal(mail.gaps, 0);
  t.ok(verdict.acknowledged > 20, `${verdict.acknowledged} messages`);
  t.same(cluster.failures.filter((failure) => !failure.includes("SIGKILL")), []);
});

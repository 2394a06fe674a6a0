/** One of three nodes is killed under 3,000 sessions: all of them go on at the others, and miss nothing. */
import t from "tap";
import { patientHeartbeat, presenceMs, startCluster } from "./support/cluster.ts";
import { startHerd } from "./support/herd.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const room = "log:herd";
const sessions = 3000;
/** For a machine that is busy with other tests. */
const slackMs = 30_000;

t.test("every session of a node that is killed is resumed on another, with nothing lost, doubled or out of order", async (t) => {
  const cluster = await startCluster(t, { flags: patientHeartbeat });
  const herd = await startHerd(cluster.nodes, { room, sessions, everyMs: 250 });
  t.teardown(() => herd.close());
  await herd.progress(10);
  const victim = cluster.nodes[0]!;
  const moving = herd.at.get(victim)!;
  t.ok(moving > sessions / 4, `${moving} sessions have to move`);
  await victim.kill();
  const killedAt = performance.now();
  await until(() => herd.away === 0 && herd.resumed + herd.begunAnew >= moving, "every session to be back", 60_000);
  t.comment(`all were back after ${Math.round(performance.now() - killedAt)} ms`);
  t.equal(herd.resumed, moving, "each was resumed, once");
  await herd.progress(10);
  const verdict = await herd.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.ok(verdict.delivered > 20 * sessions, `${verdict.delivered} delivered`);
  const asker = await open(cluster.nodes[1]!);
  // The publishers are members as well: two that are left, and the one of the last publication.
  const there = async () => (await asker.request({ presence: { room, countsOnly: true } })).presence;
  await until(async () => (await there())?.sessions === sessions + cluster.nodes.length, "exactly these to be there", presenceMs + slackMs);
});

/**
 * Three nodes, NATS and Redis as processes of their own, and what can happen to them while members talk: whatever it is,
 * what was acknowledged reaches every member once and in order, or the member is told of the gap.
 */
import t from "tap";
import { faults, faultsIn, startCluster } from "./support/cluster.ts";
import { startPopulation } from "./support/population.ts";
import { until } from "./support/until.ts";

t.setTimeout(400_000);

const faultMs = 1500;
const cluster = await startCluster(t);

for (const [i, fault] of faults.entries()) {
  t.test(`${fault.name}: ${fault.loses ? "members are told of what they lost" : "nothing acknowledged is lost, doubled or out of order"}`, async (t) => {
    const population = await startPopulation(t, cluster.front.url, { room: `log:${i}`, members: 18, seed: fault.name });
    await population.progress(100);
    await fault.happen(cluster, i % cluster.nodes.length, faultMs);
    await cluster.ready();
    await until(() => population.clients.every(({ state }) => state === "ready"), "every client to be back", 60_000);
    await population.progress(100);
    const verdict = await population.stop();
    t.equal(faultsIn(verdict, fault.loses === true), 0, verdict.report);
    if (fault.loses) t.ok(population.gaps > 0, "somebody was told");
    else t.equal(population.gaps, 0, "nobody was told of a gap");
    t.comment(`${fault.name}: ${verdict.acknowledged} acknowledged, ${verdict.delivered} delivered`);
  });
}

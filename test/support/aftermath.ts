/**
 * What must be so after a fault of a cluster while members talk, whatever it was: what was acknowledged has reached every
 * member once and in order, or the member was told of the gap; every node knows who is there; and when all have gone nothing
 * is left of them.
 */
import type { Test } from "tap";
import { inTime, startCluster } from "./cluster.ts";
import { faults, faultsIn, type Fault } from "./faults.ts";
import { untilQuiet } from "./gauges.ts";
import { startPopulation } from "./population.ts";
import { until } from "./until.ts";

const faultMs = 1000;

/** A test for each fault that hits one of these, one after the other on one cluster. */
export async function testFaults(t: Test, hit: readonly Fault["hits"][]): Promise<void> {
  const cluster = await startCluster(t, { obeys: true });
  for (const [i, fault] of faults.filter(({ hits }) => hit.includes(hits)).entries()) {
    t.test(`${fault.name}: ${fault.loses ? "members are told of what they lost" : "nothing acknowledged is lost, doubled or out of order"}`, async (t) => {
      const population = await startPopulation(t, cluster.front.url, { room: `log:${i}`, members: 12, everyMs: 200, seed: fault.name, patienceMs: 1000 });
      await population.progress(40);
      await fault.happen(cluster, i % cluster.nodes.length, faultMs);
      await cluster.ready();
      await until(() => population.clients.every(({ state }) => state === "ready"), "every client to be back", 180_000);
      await inTime(cluster, "presence", (limitMs) => population.present(cluster.nodes, limitMs));
      await population.progress(40);
      const verdict = await population.stop();
      t.equal(faultsIn(verdict, fault.loses === true), 0, verdict.report);
      if (fault.loses) t.ok(population.gaps > 0, "somebody was told");
      else t.equal(population.gaps, 0, "nobody was told of a gap");
      await population.close();
      await inTime(cluster, "nothing left of them", (limitMs) => untilQuiet(cluster, { limitMs }));
      t.same(cluster.failures, [], "no node ended by itself");
      t.comment(`${fault.name}: ${verdict.acknowledged} acknowledged, ${verdict.delivered} delivered`);
    });
  }
}

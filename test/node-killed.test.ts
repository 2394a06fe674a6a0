/** One of three nodes is killed under 600 sessions: all of them go on at the others, and miss nothing. */
import t from "tap";
import { inTime, patientHeartbeat, presenceWatch, startCluster } from "./support/cluster.ts";
import { untilQuiet } from "./support/gauges.ts";
import { startHerd } from "./support/herd.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const room = "log:herd";
/** The bench has a row with 3,000, whose times count; here is what may not be lost. */
const sessions = 600;
const backMs = 180_000;
/**
 * What a survivor's heaps have more of than before anybody came (measured: 3.5 MiB): code that was compiled, and for some
 * minutes the names of those who were there.
 */
const heapGrowthBytesMax = 6 * 1024 * 1024;

t.test("every session of a node that is killed is resumed on another, with nothing lost, doubled or out of order, and leaves nothing", async (t) => {
  const cluster = await startCluster(t, { flags: patientHeartbeat, obeys: true });
  const [victim, ...survivors] = cluster.nodes;
  const heaps = () => Promise.all(survivors.map(({ orders }) => orders!.heapBytes()));
  const before = await heaps();
  const herd = await startHerd(cluster.nodes, { room, sessions, everyMs: 250 });
  t.teardown(() => herd.close());
  await herd.progress(10);
  const moving = herd.at.get(victim!)!;
  t.ok(moving > sessions / 4, `${moving} sessions have to move`);
  const askers = await Promise.all(survivors.map((node) => open(node)));
  const there = () => Promise.all(askers.map(async (asker) => (await asker.request({ presence: { room, countsOnly: true } })).presence?.sessions));
  const areThere = (count: number, limitMs: number) => until(async () => (await there()).every((sessions) => sessions === count), "both to have exactly these there", limitMs);

  const alive = { nodes: survivors, redis: cluster.redis };
  const watch = presenceWatch(alive);
  await victim!.kill();
  let backAfterMs = 0;
  let knownAfterMs = 0;
  await Promise.all([
    until(() => herd.away === 0 && herd.resumed + herd.begunAnew >= moving, "every session to be back", backMs).then(() => (backAfterMs = watch.ms())),
    // The publishers are members as well: those of the two that are left.
    areThere(sessions + survivors.length, 2 * backMs).then(() => (knownAfterMs = watch.ms())),
  ]);
  t.comment(`back after ${Math.round(backAfterMs)} ms, which all know after ${Math.round(knownAfterMs)}; in all ${watch.told()}`);
  t.equal(herd.resumed, moving, "each was resumed, once");
  await herd.progress(10);
  const verdict = await herd.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.ok(verdict.delivered > 20 * sessions, `${verdict.delivered} delivered`);
  // One more has published the last.
  await inTime(alive, "presence", (limitMs) => areThere(sessions + cluster.nodes.length, limitMs));

  herd.close();
  await Promise.all(askers.map((asker) => asker.bye()));
  await inTime(alive, "nothing left of them", (limitMs) => untilQuiet(alive, { limitMs }));
  for (const [i, bytes] of (await heaps()).entries()) {
    t.ok(bytes < before[i]! + heapGrowthBytesMax, `the heaps went from ${before[i]} to ${bytes} bytes`);
  }
});

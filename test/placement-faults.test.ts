/** Whole nodes with `--placement hash` while NATS is away, and while one is killed and comes back: who moves, and what becomes of messages. */
import t from "tap";
import { xxh32 } from "../src/placement/hash.ts";
import { ownersOf } from "../src/placement/ring.ts";
import { patientHeartbeat, startCluster } from "./support/cluster.ts";
import { sumOf, type NodeProcess } from "./support/nodeprocess.ts";
import { startPopulation } from "./support/population.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const partitions = 64;
const ids = ["node-0", "node-1"];
const flags = [...patientHeartbeat, "--placement", "hash", "--placement-partitions", String(partitions), "--placement-stable-ms", "0s", "--placement-calm-ms", "0s", "--nats-grace-ms", "10m"];
const cluster = await startCluster(t, { size: 2, flags });
const owners = ownersOf(ids.map((id) => ({ id, weight: 1 })), partitions);
const ownerOf = (user: string) => ids[owners[xxh32(user) % partitions]!]!;
const owned = async () => Promise.all(cluster.nodes.map(async (node) => sumOf(await node.metrics(), "flux_placement_owned_partitions")));
await until(async () => !(await owned()).includes(0), "both to own users");

interface Overview {
  readonly table: { readonly number: number };
  readonly members: readonly { readonly id: string; readonly weight: number }[];
  readonly moves: { readonly problem: string };
}
const placementOf = async ({ adminUrl }: NodeProcess) => (await fetch(`${adminUrl}/placement`)).json() as Promise<Overview>;
const [first, second] = cluster.nodes as [NodeProcess, NodeProcess];

t.test("while NATS is away nobody is turned away or moved; when it is back, users go where a table of meanwhile puts them", async (t) => {
  const sessions = await Promise.all(Array.from({ length: 12 }, () => open(first)));
  await cluster.nats.stop();
  await until(async () => (await Promise.all(cluster.nodes.map(placementOf))).every(({ moves }) => moves.problem === "NATS is unavailable"), "both to notice");
  const answer = await fetch(`${first.adminUrl}/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"node":"node-1","weight":16}' });
  t.equal(answer.status, 200);
  await until(async () => (await Promise.all(cluster.nodes.map(placementOf))).every(({ members }) => members[1]?.weight === 16), "the table with the weight");
  const heavy = ownersOf([{ id: "node-0", weight: 1 }, { id: "node-1", weight: 16 }], partitions);
  const misplaced = sessions.filter(({ ready }) => heavy[xxh32(ready!.user!) % partitions] === 1);
  t.ok(misplaced.length > 4, `${misplaced.length} of 12 belong elsewhere now`);
  // New ones are placed as ever: an anonymous user is one of the node that it came to.
  for (const node of cluster.nodes) t.ok((await open(node)).ready);
  t.equal(await first.metric("flux_placement_moves_per_second"), 0);
  for (const session of sessions) t.notOk(session.events.some(({ reconnect }) => reconnect), "it was told to stay where it is, by nothing");
  await cluster.nats.start();
  for (const session of misplaced) t.match(await session.closed(), { code: 3002 });
  await fetch(`${first.adminUrl}/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"node":"node-1","weight":1}' });
  await until(async () => (await Promise.all(cluster.nodes.map(placementOf))).every(({ members }) => members[1]?.weight === 1), "the table of before");
});

t.test("a node that is killed loses no session and no message; its users go back when it does", async (t) => {
  const population = await startPopulation(t, cluster.front.url, { room: "log:hash", members: 16, publishers: 4, everyMs: 100 });
  const { clients } = population;
  const areAt = (wanted: (user: string) => string) => clients.every(({ state, session }) => state === "ready" && session!.node === wanted(session!.user));
  await until(() => areAt(ownerOf), "everybody to be where they belong");
  t.ok(new Set(clients.map(({ session }) => session!.node)).size === 2, "on both nodes");
  const sessions = clients.map(({ session }) => session!.session);
  await second.kill();
  await until(() => areAt(() => "node-0"), "everybody to be on the other node");
  await population.progress(30);
  await cluster.restart(1);
  await cluster.ready();
  await until(() => areAt(ownerOf), "those of the node to be back");
  t.same(clients.map(({ session }) => session!.session), sessions, "each with the same session");
  await population.progress(30);
  const { lost, faults } = await population.stop();
  t.same({ lost, faults, gaps: population.gaps, failures: cluster.failures }, { lost: 0, faults: 0, gaps: 0, failures: [] });
});

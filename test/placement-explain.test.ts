/** What operators are told: where a user belongs and why, and what would move. */
import t from "tap";
import { explain, overview, plan, type Known, type Plan } from "../src/placement/explain.ts";
import { ownersOf, roomOf, trailOf } from "../src/placement/ring.ts";
import { xxh32 } from "../src/placement/hash.ts";
import { factsOf } from "../src/contracts/registry.ts";
import type { RegisteredNode } from "../src/registry/registry.ts";
import { command as run } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { none } from "./support/only.ts";
import { open } from "./support/session.ts";

const partitions = 1024;
const members = ["gateway-1", "gateway-2", "gateway-3"].map((id) => ({ id, weight: 1 }));
const nodeOf = (id: string, fields: Partial<RegisteredNode> = {}): RegisteredNode => ({ id, ...factsOf(1), state: "up", last_heartbeat: 1, silentMs: 0, sockets: 3_000, ...fields });
const known: Known = {
  node: "gateway-1", mode: "hash", partitions, table: { number: 7, partitions, members, by: "gateway-1", at: 1_795_323_651_843 },
  nodes: members.map(({ id }) => nodeOf(id)), moves: { perSecond: 100, problem: "" },
};

t.test("the owner that is explained is the one that serves, and its trail on the ring leads there", async (t) => {
  const owners = ownersOf(members, partitions);
  const room = roomOf(members, partitions);
  let passed = 0;
  for (let partition = 0; partition < partitions; partition++) {
    const { points } = trailOf(members, partitions, partition);
    if (points.at(-1)!.member !== owners[partition]) t.fail(`partition ${partition}`);
    passed += points.length - 1;
    for (const { member } of points.slice(0, -1)) {
      const before = owners.slice(0, partition).filter((owner) => owner === member).length;
      if (before !== room[member]) t.fail(`partition ${partition} passed ${member}, which had room`);
    }
  }
  t.ok(passed > 0, "some owners had no room");
  for (const user of ["ann", "Jörg", "🙂"]) {
    const said = explain(known, "acme", user);
    t.equal(said.partition, xxh32(`acme\u001f${user}`) % partitions);
    t.equal(said.owner, members[owners[said.partition]!]!.id);
    t.match(said, { tenant: "acme", user, ownerState: "up", placement: "hash", table: { number: 7, by: "gateway-1" } });
    t.match(said.why, new RegExp(`the partition stands at [0-9a-f]{8} on the ring.*one of ${said.owner}$`));
  }
});

t.test("where no node owns the user, the reason is told", async (t) => {
  t.match(explain({ ...known, mode: "any", table: null }, "", "ann"), { owner: null, ownerState: null, why: /--placement any/, ring: none });
  t.match(explain({ ...known, table: null }, "", "ann"), { owner: null, why: /no table yet/, members: none });
  t.match(explain({ ...known, table: { ...known.table!, members: [] } }, "", "ann"), { owner: null, why: /--weight is 0/ });
  t.match(explain({ ...known, nodes: [] }, "", "ann"), { ownerState: "unknown" });
});

t.test("with a holder, its lease decides, and not the table", async (t) => {
  const report = { partition: 1, owner: "gateway-2", confirmed: true, epoch: 41, boot: "b", next: "", unownedMs: 0, here: "idle" } as const;
  const said = (change: object) => explain({ ...known, mode: "partition", reportOf: () => ({ ...report, ...change }) }, "", "ann");
  t.match(said({}), { owner: "gateway-2", ownerState: "up", held: { epoch: 41 }, why: /^gateway-2 holds the partition by its lease, epoch 41; the table names gateway-\d for it$/ });
  t.match(said({ confirmed: false }).why, /gateway-2 is claiming/);
  t.match(said({ owner: "", unownedMs: 12_345, next: "gateway-3" }), { owner: null, why: /no node holds the partition, for 12 s; gateway-3 is to claim it.*its users wait$/ });
});

t.test("the overview counts every member's partitions", async (t) => {
  const said = overview(known);
  t.equal(said.members.reduce((sum, member) => sum + member.partitions, 0), partitions);
  for (const { partitions: owned } of said.members) t.ok(owned > 300 && owned <= 359);
});

t.test("a plan says what would move, per node, before anything does", async (t) => {
  const added = plan(known, "+gateway-4") as Plan;
  t.match(added, { partitions, nodes: [{ id: "gateway-1" }, { id: "gateway-2" }, { id: "gateway-3" }, { id: "gateway-4", weightBefore: 0, weightAfter: 1, before: 0, loses: 0, sessionsLost: null }] });
  t.ok(added.moved > 200 && added.moved < 360, String(added.moved));
  t.equal(added.nodes.reduce((sum, { gains }) => sum + gains, 0), added.moved);
  t.equal(added.nodes.reduce((sum, { loses }) => sum + loses, 0), added.moved);
  for (const { before, after, gains, loses } of added.nodes) t.equal(after, before + gains - loses);
  const [first] = added.nodes;
  t.equal(first!.sessionsLost, Math.round((3_000 * first!.loses) / first!.before));
  t.match(plan(known, "-gateway-2"), { nodes: [{ gains: Number }, { id: "gateway-2", weightAfter: 0, after: 0 }, {}] });
  t.match(plan(known, "gateway-1=2"), { nodes: [{ weightBefore: 1, weightAfter: 2 }, {}, {}] });
  t.match(plan(known, " +gateway-4=3 , -gateway-1, gateway-2=0 "), { nodes: [{ after: 0 }, { after: 0 }, {}, { weightAfter: 3 }] });
  t.match(plan({ ...known, table: null }, "-gateway-3"), { nodes: [{ before: Number }, {}, { after: 0 }] }, "without a table, of the nodes that are up");
  t.match(plan(known, "-gateway-1,-gateway-2,-gateway-3"), { moved: partitions }, "a ring of none");
});

t.test("a plan that makes no sense is refused, with what is wrong", async (t) => {
  const wrong: [changes: string, says: RegExp][] = [
    ["", /1 to 64 changes/], [",,,", /1 to 64 changes/], [Array(65).fill("+a").join(), /1 to 64 changes/],
    ["gateway-1", /what is to change/], ["+gateway-1", /a member already/], ["-gateway-9", /no member; the members are gateway-1, gateway-2, gateway-3/], ["gateway-9=2", /no member/],
    ["gateway-1=17", /whole number from 0 to 16/], ["gateway-1=-1", /whole number/], ["gateway-1=1e9", /whole number/], ["gateway-1=", /whole number/], ["+=2", /no name of a node/], ["+a b", /no name/], [`+${"x".repeat(65)}`, /no name/], ["++a", /no name/], ["+a\nb", /no name/], ["=", /no name/],
  ];
  for (const [changes, says] of wrong) {
    const said = plan(known, changes);
    t.type(said, "string", JSON.stringify(changes));
    t.match(said, says);
  }
});

t.test("the command explains and plans, and the admin port refuses what it cannot read", async (t) => {
  const node = await startNode(t, { reactors: 1, nodeId: "only", placement: "hash", placementPartitions: 64 });
  const session = await open(node);
  const user = session.ready!.user!;
  const nodes = (...args: string[]) => run(["nodes", "--admin-port", String(node.adminPort), ...args]);
  const [said, json, planned, both] = await Promise.all([
    nodes("--explain", user), nodes("--explain", user, "--tenant", "acme", "--json"), nodes("--plan", "+second,only=2"), nodes("--plan", "-only", "--explain", user),
  ]);
  t.equal(said.code, 0, said.err);
  t.match(said.out, new RegExp(`user +${user}\npartition +\\d+ of 64 \\(xxh32 [0-9a-f]{8}\\)\ntable +1, made by only at .*\nbelongs on +only \\(up\\)\nbecause +the partition stands.*\nsessions +1 on only\nmoves +none needed\nwould move +when only drains`));
  t.match(JSON.parse(json.out), { user, tenant: "acme", owner: "only", sessions: { sessions: 0 } });
  t.match(planned.out, /^node +weight +partitions +gains +loses +sessions lost\nonly +1 → 2 +64 → 4\d .* about [01]\nsecond +0 → 1 +0 → 2\d .* -\n\n2\d of 64 partitions move \(\d+\.\d %\), 0 of them/);
  t.match(both, { code: 1, err: /--plan: cannot be combined with --explain/ });
  const ask = async (query: string) => fetch(`http://127.0.0.1:${node.adminPort}/placement${query}`);
  t.match(await (await ask("")).json(), { node: "only", placement: "hash", partitions: 64, table: { number: 1, by: "only" }, members: [{ id: "only", weight: 1, partitions: 64 }], moves: { perSecond: Number, problem: "" } });
  t.match(await (await ask("?user=a?b&tenant=acme")).json(), { user: "a?b", tenant: "acme" }, "a value may have question marks");
  t.match(await (await ask("?plan=+second")).json(), { partitions: 64, nodes: [{ id: "only" }, { id: "second" }] });
  t.match(await nodes("limit", "only", "3"), { code: 0, out: /^node only may hold 3 partitions until it exits/ });
  t.match(await nodes("limit", "only", "many"), { code: 1, err: /<partitions>: must be a whole number/ });
  for (const query of ["?user=", `?user=${"x".repeat(129)}`, "?user=a%00b", "?plan=", "?plan=only", "?tenant=a%1fb&user=ann", "?who=ann", `?plan=${"%2Ba,".repeat(3000)}`]) t.equal((await ask(query)).status, 400, query.slice(0, 40));
});

/**
 * Sessions that move to another node after a new table: which, how fast, and when none do. On clocks that the test
 * holds; placement-moved.test.ts has whole nodes.
 */
import t from "tap";
import { PlaceTickets, placeTag } from "../src/auth/placetickets.ts";
import { Counters, createCounters } from "../src/link/counters.ts";
import { Calm, moveRate } from "../src/placement/calm.ts";
import type { PlacementView } from "../src/placement/view.ts";
import { Encoder } from "../src/protocol/formats/encoder.ts";
import { Together } from "../src/reactor/together.ts";
import type { Target } from "../src/reactor/locate/targets.ts";
import type { Reactor } from "../src/reactor/reactor.ts";
import { Moves } from "../src/reactor/session/moves.ts";
import type { Session } from "../src/reactor/session/session.ts";
import { factsOf } from "../src/contracts/registry.ts";
import type { RegisteredNode } from "../src/registry/registry.ts";

const second = 1_000;

// ------------------------------------------------------------------------------- when

const nodeOf = (id: string, fields: Partial<RegisteredNode> = {}): RegisteredNode => ({ id, ...factsOf(1), state: "up", last_heartbeat: 1, silentMs: 0, ...fields });

function watched(calmMs = 30 * second) {
  const clock = { time: 0 };
  const calm = new Calm({ calmMs, silentMs: 7.5 * second, clock: () => clock.time });
  const quiet = { nodes: [nodeOf("a"), nodeOf("b")], stale: false, natsAway: false };
  const look = (surroundings: Partial<typeof quiet> = {}) => {
    clock.time += second;
    calm.look({ ...quiet, ...surroundings });
    return calm.problem;
  };
  return { look, quiet, clock };
}

t.test("users move from the start, and when a node has joined", async (t) => {
  const { look, quiet } = watched();
  t.equal(look(), "");
  t.equal(look({ nodes: [...quiet.nodes, nodeOf("c")] }), "");
});

const disturbances: [what: string, surroundings: (quiet: readonly RegisteredNode[]) => Parameters<ReturnType<typeof watched>["look"]>[0], problem: string][] = [
  ["Redis is away", () => ({ stale: true }), "Redis is unavailable"],
  ["NATS is away", () => ({ natsAway: true }), "NATS is unavailable"],
  ["a node drains", ([a]) => ({ nodes: [a!, nodeOf("b", { state: "draining" })] }), "node b drains"],
  ["a node is down", ([a]) => ({ nodes: [a!, nodeOf("b", { state: "down" })] }), "node b is down"],
  ["a node may be lost", ([a]) => ({ nodes: [a!, nodeOf("b", { silentMs: 8_000 })] }), "node b is silent"],
  ["a node has left", ([a]) => ({ nodes: [a!] }), "node b has left"],
];

for (const [what, surroundings, problem] of disturbances) {
  t.test(`while ${what} nobody moves, nor for 30 s after`, async (t) => {
    const { look, quiet } = watched();
    look();
    t.equal(look(surroundings(quiet.nodes)), problem);
    for (let i = 1; i < 30; i++) t.equal(look(), problem, `${i} s after`);
    t.equal(look(), "");
  });
}

t.test("without a time after it, a disturbance still keeps everybody from moving while it lasts", async (t) => {
  const { look } = watched(0);
  for (let i = 0; i < 3; i++) t.equal(look({ natsAway: true }), "NATS is unavailable");
  t.equal(look(), "");
});

t.test("a node that stays down, as it is still listed, keeps nobody from moving", async (t) => {
  const { look } = watched();
  const nodes = [nodeOf("a"), nodeOf("b", { state: "down" })];
  t.equal(look({ nodes }), "node b is down");
  for (let i = 1; i < 30; i++) look({ nodes });
  t.equal(look({ nodes }), "");
  t.equal(look({ nodes: [nodes[0]!] }), "", "nor when its entry is removed");
});

t.test("fewer move while a node is busy, and never none", async (t) => {
  const at = (...loads: number[]) => moveRate(100, loads.map((load) => ({ state: "up" as const, load })));
  t.same([at(0), at(0.5), at(0.2, 0.75), at(1), at(7)], [100, 100, 50, 10, 10]);
  t.equal(moveRate(100, [{ state: "down", load: 1 }, { state: "draining", load: 1 }]), 100, "only of nodes that are up");
  t.equal(moveRate(100, []), 100);
  t.equal(moveRate(0, [{ state: "up", load: 0 }]), 0);
  t.equal(moveRate(1, [{ state: "up", load: 1 }]), 1);
});

// ------------------------------------------------------------------------------- who, and how fast

/** A reactor of node `self` with sessions of users 0, 1, 2…, whose owner is their number modulo the nodes. */
function reactorWith(count: number, { nodes = 2, movesPerSecond = 100, reactors = 1 } = {}) {
  const counters = new Counters(createCounters());
  const told: { user: string; node: string; at: number }[] = [];
  const clock = { time: 0 };
  const slots: (Session | null)[] = [];
  const open = (user: string): Session => {
    const slot = slots.indexOf(null) < 0 ? slots.length : slots.indexOf(null);
    const session = { user, state: "ready", wire: 1, unanswered: 0, slot, waiting: null, grant: { tenant: "", user } } as unknown as Session;
    session.socket = {
      send: (bytes: Uint8Array) => {
        const { reconnect } = JSON.parse(Buffer.from(bytes).toString()) as { reconnect?: { url: string; reason: string } };
        if (reconnect !== undefined) told.push({ user, node: new URL(reconnect.url).searchParams.get("node")!, at: clock.time });
        return 1;
      },
      end: () => void ((slots[slot] = null), (session.socket = null), (session.state = "closed")),
      getBufferedAmount: () => 0,
    } as unknown as NonNullable<Session["socket"]>;
    slots[slot] = session;
    return session;
  };
  for (let i = 0; i < count; i++) open(String(i));
  const state = { table: 0, nodes: nodes, movesPerSecond, taking: new Set<number>(Array.from({ length: nodes }, (_, i) => i)), slotMs: 0 };
  const placement: PlacementView = {
    mode: "hash", partitions: 64, generation: 0, nodes: [], self: 0, owned: 1,
    get table() { return state.table; },
    get movesPerSecond() { return state.movesPerSecond; },
    partitionOf: () => 0,
    ownerOf: (_, user) => (state.table === 0 ? -1 : Number(user) % state.nodes),
  };
  const targets = Array.from({ length: 8 }, (_, i) => ({ node: { id: `node-${i}`, url: `ws://h${i}/ws`, tcpUrl: "" }, isSelf: i === 0, tag: placeTag(`node-${i}`), slots: { take: () => state.slotMs } }) as unknown as Target);
  const reactor = {
    counters, placement, placeTickets: new PlaceTickets("s".repeat(32)), leaving: new Set(), encoder: new Encoder(65_536), compressFrom: Infinity,
    config: { natsTimeoutMs: 1_000, socketQueueBytesMax: 1e6 }, trace: null, together: new Together(() => {}), refusals: { tell() {} }, queueBudget: { add() {} },
    rooms: { deliveries: { flushFor() {}, handOverAll() {} } },
    targets: { belonging: (_: string, user: string) => targets[placement.ownerOf("", user)], takes: (target: Target) => state.taking.has(targets.indexOf(target)) },
    sessions: { get end() { return slots.length; }, at: (slot: number) => slots[slot] ?? null, setState: (session: Session, next: Session["state"]) => (session.state = next) },
  } as unknown as Reactor;
  const moves = new Moves(reactor, reactors);
  return {
    told, state, moves, open, counters,
    pass: (ms: number) => {
      for (const end = clock.time + ms; clock.time < end; ) moves.step((clock.time += 100));
    },
    here: () => slots.filter((one) => one !== null).map((one) => one.grant!.user),
    clock,
  };
}

t.test("only sessions of users that got another owner move, each to that owner, and no more than the rate allows", async (t) => {
  const { told, state, pass, here, counters } = reactorWith(3_000, { nodes: 3, movesPerSecond: 100 });
  pass(5 * second);
  t.same(told, [], "without a table nobody moves");
  state.table = 1;
  pass(40 * second);
  t.equal(told.length, 2_000);
  t.ok(told.every(({ user, node }) => node === `node-${Number(user) % 3}`));
  t.same(new Set(here().map((user) => Number(user) % 3)), new Set([0]));
  t.equal(here().length, 1_000);
  t.equal(counters.get("moved"), 2_000);
  for (let from = 5 * second; from < 40 * second; from += 500) {
    const inSecond = told.filter(({ at }) => at > from && at <= from + second).length;
    t.ok(inSecond <= 121, `${inSecond} in the second from ${from}`);
  }
  t.ok(told.at(-1)!.at >= 5 * second + 19 * second, "not faster in all");
  pass(60 * second);
  t.equal(told.length, 2_000, "and then nobody");
});

t.test("reactors share the rate of their node", async (t) => {
  const { told, state, pass } = reactorWith(1_000, { movesPerSecond: 100, reactors: 4 });
  state.table = 1;
  pass(10 * second);
  t.ok(told.length >= 240 && told.length <= 260, `${told.length} in 10 s`);
});

t.test("while the gateway is not calm everybody stays; then the moves go on, by the newest table", async (t) => {
  const { told, state, pass, here } = reactorWith(400, { nodes: 2 });
  state.table = 1;
  pass(second);
  const before = told.length;
  t.ok(before > 80);
  state.movesPerSecond = 0;
  pass(60 * second);
  t.equal(told.length, before);
  state.table = 2;
  state.nodes = 1; // everybody belongs here again
  state.movesPerSecond = 100;
  pass(60 * second);
  t.equal(told.length, before, "who did not move stays");
  t.equal(here().length, 400 - before);
});

t.test("a session whose owner takes no clients stays, and moves when it does", async (t) => {
  const { told, state, pass } = reactorWith(100, { nodes: 4 });
  state.taking.delete(2);
  state.table = 1;
  pass(9 * second);
  t.equal(told.length, 50);
  state.taking.add(2);
  pass(15 * second);
  t.equal(told.length, 75);
  t.same(new Set(told.slice(50).map(({ node }) => node)), new Set(["node-2"]));
});

t.test("a session that became ready while the owners changed is not forgotten; one that cannot arrive elsewhere is left alone", async (t) => {
  const { told, state, pass, moves, open, clock } = reactorWith(0);
  state.table = 1;
  pass(second);
  moves.arrived(open("1"), clock.time);
  moves.arrived(open("2"), clock.time);
  const stranded = open("3");
  moves.strand(stranded);
  moves.arrived(stranded, clock.time);
  pass(15 * second);
  t.same(told.map(({ user }) => user), ["1"]);
  state.table = 2;
  pass(5 * second);
  t.same(told.map(({ user }) => user), ["1", "3"], "the next table counts anew");
});

t.test("a session that moves is closed when its commands are answered", async (t) => {
  const { told, state, pass, open, here } = reactorWith(0);
  const session = open("1");
  session.unanswered = 1;
  state.table = 1;
  pass(second);
  t.equal(told.length, 1);
  t.same(here(), ["1"]);
  session.unanswered = 0;
  pass(100);
  t.same(here(), []);
  const silent = open("3");
  silent.unanswered = 1;
  state.table = 2;
  pass(3 * second);
  t.same(here(), ["3"]);
  pass(2 * second);
  t.same(here(), [], "or when it has waited long enough");
});

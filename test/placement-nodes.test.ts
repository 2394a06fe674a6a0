/**
 * The one table of several nodes: which node makes it, when, and that nothing changes for those that run when Redis
 * loses it. On a clock that the test holds; over memory, and over a Redis of its own.
 */
import t, { type Test } from "tap";
import { Placement } from "../src/placement/placement.ts";
import { createRedisTables } from "../src/placement/redis.ts";
import { createPlacement, SharedPlacement } from "../src/placement/shared.ts";
import { createMemoryTables, type Tables } from "../src/placement/tables.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { factsOf } from "../src/contracts/registry.ts";
import type { RegisteredNode } from "../src/registry/registry.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const second = 1_000;
const stableMs = 10 * second;
let deadMs = 15 * second;
const partitions = 256;
const server = await startRedis(t);

interface Store {
  open(node: string): Promise<Tables>;
  /** Replaces the stored table behind the nodes' backs: with nothing, or with this text. */
  setTo(text: string | null): Promise<void>;
  text(): Promise<string | null>;
}

async function redisStore(t: Test): Promise<Store> {
  const prefix = freshPrefix();
  const key = `${prefix}gateway:ring`;
  return {
    open: async (node) => {
      const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: { info() {}, warn() {} } });
      t.teardown(() => redis.close());
      return createRedisTables({ redis, prefix, node });
    },
    setTo: async (text) => {
      await server.client.del(key);
      if (text !== null) await server.client.hset(key, { number: /"number":(\d+)/.exec(text)?.[1] ?? "9", table: text });
    },
    text: () => server.client.hget(key, "table"),
  };
}

/** The nodes of a gateway as all of them see it. */
async function fleet(store: Store) {
  const clock = { time: 0 };
  const states = new Map<string, Partial<RegisteredNode>>();
  const running = new Map<string, { placement: Placement; view: SharedPlacement; logged: string[]; stale: boolean; hides: Set<string> }>();
  let beats = 0;
  const registered = (): RegisteredNode[] => [...states].map(([id, fields]) => ({ id, ...factsOf(1), placement: "hash", partitions, weight: 1, state: "up", last_heartbeat: beats, silentMs: 0, ...fields }));
  const all = {
    clock,
    states,
    running,
    join: async (id: string, fields: Partial<RegisteredNode> & { own?: number } = {}, hides: readonly string[] = []) => {
      const shared = createPlacement(fields.own ?? partitions);
      const logged: string[] = [];
      const log = (_: object, text: string) => void logged.push(text);
      const seen = { stale: false, hides: new Set(hides) };
      const placement = new Placement({
        mode: "hash", partitions: fields.own ?? partitions, stableMs, deadMs, heartbeatMs: 5 * second, movesPerSecond: 100, calmMs: 30 * second, natsAway: () => false, node: id, shared, tables: await store.open(id), clock: () => clock.time,
        registry: { nodes: () => registered().filter((node) => !seen.hides.has(node.id)), get stale() { return seen.stale; } },
        log: { info() {}, warn: log, error: log },
      });
      states.set(id, fields);
      running.set(id, Object.assign(seen, { placement, view: new SharedPlacement(shared, "hash", fields.own ?? partitions), logged }));
      await placement.look();
    },
    set: (id: string, fields: Partial<RegisteredNode>) => void states.set(id, { ...states.get(id), ...fields }),
    leave: (id: string) => void (states.delete(id), running.delete(id)),
    /** Seconds in which every node beats and looks. */
    pass: async (seconds: number) => {
      for (let i = 0; i < seconds; i++) {
        clock.time += second;
        beats++;
        for (const { placement } of running.values()) await placement.look();
      }
    },
    numbers: () => [...running.values()].map(({ view }) => view.table),
    members: (id: string) => running.get(id)!.placement.table?.members.map((member) => member.id),
    /** Ids of the owners of users, as a node sees them. */
    owners: (id: string) => Array.from({ length: 200 }, (_, i) => {
      const { view } = running.get(id)!;
      return view.nodes[view.ownerOf("", `user-${i}`)]?.id ?? "nobody";
    }).join(),
  };
  return all;
}

t.test("all nodes agree on every owner, whatever the order in which they come", async (t) => {
  const orders = [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["c", "a", "d", "b"], ["b", "d", "a", "c"]];
  const found = [];
  for (const order of orders) {
    const nodes = await fleet(await redisStore(t));
    for (const id of order) await nodes.join(id);
    await nodes.pass(12);
    const [first, ...others] = order.map((id) => nodes.owners(id));
    for (const other of others) t.equal(other, first);
    found.push(first);
  }
  for (const owners of found) t.equal(owners, found[0]);
  t.equal(setOf(found[0]!).length, 4);
});

for (const kind of ["memory", "Redis"] as const) {
  const storeOf = (t: Test): Promise<Store> => (kind === "Redis" ? redisStore(t) : memoryStore());

  t.test(`${kind}: the first node owns everything at once, a later one when it has been up for a while`, async (t) => {
    const nodes = await fleet(await storeOf(t));
    await nodes.join("b");
    t.same(nodes.members("b"), ["b"]);
    t.same(setOf(nodes.owners("b")), ["b"]);
    await nodes.join("a");
    t.equal(nodes.owners("a"), nodes.owners("b"), "it knows the table before it is a member");
    await nodes.pass(9);
    t.same(nodes.members("b"), ["b"]);
    await nodes.pass(3);
    t.same(nodes.numbers(), [2, 2]);
    t.same(setOf(nodes.owners("b")), ["a", "b"]);
    t.equal(nodes.owners("a"), nodes.owners("b"));
  });

  t.test(`${kind}: a node that drains, is down or leaves owns nothing from then on; one that flaps never owns anything`, async (t) => {
    const nodes = await fleet(await storeOf(t));
    for (const id of ["a", "b", "c", "d"]) await nodes.join(id);
    await nodes.pass(12);
    t.same(nodes.members("a"), ["a", "b", "c", "d"]);
    nodes.set("a", { state: "draining" });
    await nodes.pass(2);
    t.same(nodes.members("b"), ["b", "c", "d"], "made by the next, as the first drains");
    nodes.leave("a");
    nodes.set("c", { state: "down" });
    await nodes.pass(2);
    t.same(nodes.members("b"), ["b", "d"]);
    nodes.leave("d");
    await nodes.pass(2);
    t.same(nodes.members("b"), ["b"]);
    const [number] = nodes.numbers();
    for (let i = 0; i < 5; i++) {
      nodes.set("c", { state: "up", started: i });
      await nodes.pass(8);
      nodes.set("c", { state: "down" });
      await nodes.pass(3);
    }
    for (let i = 0; i < 5; i++) {
      nodes.set("c", { state: "up", started: 100 + i });
      await nodes.pass(8);
    }
    t.equal(nodes.numbers()[0], number, "no table since");
    await nodes.pass(5);
    t.same(nodes.members("b"), ["b", "c"], "it stays up, and is a member");
  });

  t.test(`${kind}: a store that is wiped or set back while a node joins changes nothing for those that run`, async (t) => {
    for (const back of ["wiped", "set back", "filled with nonsense"]) {
      const store = await storeOf(t);
      const nodes = await fleet(store);
      for (const id of ["b", "c"]) await nodes.join(id);
      const old = await store.text();
      await nodes.pass(12);
      const [before, number] = [nodes.owners("b"), nodes.numbers()[0]!];
      await store.setTo(back === "wiped" ? null : back === "set back" ? old : "no table");
      // The first by its id: it makes the next table. And it does not see the others yet.
      const seen: string[] = [];
      await nodes.join("a", {}, ["b", "c"]);
      for (let i = 0; i < 13; i++) {
        await nodes.pass(1);
        if (i === 5) nodes.running.get("a")!.hides.clear();
        for (const id of ["b", "c"]) if (!nodes.members(id)?.includes("a")) seen.push(nodes.owners(id));
      }
      t.ok(seen.length > 10, back);
      for (const owners of seen) t.equal(owners, before, back);
      t.same(nodes.members("b"), ["a", "b", "c"], "then it is one of them");
      t.ok(nodes.numbers().every((n) => n > number && n === nodes.numbers()[0]));
    }
  });
}

t.test("while the store is unavailable, or the list of nodes is stale, the last table stays", async (t) => {
  const store = await memoryStore();
  const nodes = await fleet(store);
  for (const id of ["a", "b", "c"]) await nodes.join(id);
  await nodes.pass(12);
  const before = nodes.owners("a");
  for (const node of nodes.running.values()) node.stale = true;
  nodes.set("c", { state: "down" });
  await nodes.pass(60);
  t.equal(nodes.owners("a"), before);
  for (const node of nodes.running.values()) node.stale = false;
  await nodes.pass(2);
  t.same(nodes.members("a"), ["a", "b"]);
});

t.test("of two tables with one number the stored one counts, also for reactors", async (t) => {
  const store = await memoryStore();
  const nodes = await fleet(store);
  for (const id of ["a", "b"]) await nodes.join(id);
  await nodes.pass(12);
  const { placement, view } = nodes.running.get("a")!;
  nodes.running.get("a")!.stale = true; // it makes no table
  await store.setTo(JSON.stringify({ ...placement.table, members: [{ id: "b", weight: 1 }] }));
  await placement.look();
  t.equal(view.table, 2);
  t.same(setOf(nodes.owners("a")), ["b"]);
});

t.test("a table is announced: the others need no look of their own", async (t) => {
  const nodes = await fleet(await redisStore(t));
  for (const id of ["a", "b"]) await nodes.join(id);
  await nodes.pass(11);
  nodes.set("b", { state: "draining" });
  const { placement, view } = nodes.running.get("b")!;
  const { number } = placement.table!;
  await nodes.running.get("a")!.placement.look();
  await until(() => placement.table!.number > number, "the announcement");
  t.equal(view.table, placement.table!.number);
  t.same(nodes.members("b"), ["a"]);
});

t.test("what else may be stored under the key is no table: it is replaced, or reported once", async (t) => {
  const prefix = freshPrefix();
  const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: { info() {}, warn() {} } });
  t.teardown(() => redis.close());
  const tables = await createRedisTables({ redis, prefix, node: "a" });
  const table = (number: number) => ({ number, partitions, members: [{ id: "a", weight: 1 }], by: "a", at: 1 });
  const key = `${prefix}gateway:ring`;
  for (const stored of [{ number: "99", table: "{" }, { number: "many", table: "" }, { table: "null" }, { other: "field" }, { number: "1e300", table: "[]" }]) {
    await server.client.del(key);
    await server.client.hset(key, stored);
    t.equal(await tables.read(), null);
    t.match(await tables.write(table(3)), { number: 3 }, JSON.stringify(stored));
    t.match(await tables.write(table(2)), { number: 3 }, "an older one does not replace it");
    t.match(await tables.write({ ...table(3), by: "b" }), { number: 3, by: "a" }, "nor one of the same number");
    t.match(await tables.write(table(4)), { number: 4 });
  }
  await server.client.del(key);
  await server.client.set(key, "a text");
  const nodes = await fleet({ ...(await memoryStore()), open: async () => tables });
  await nodes.join("a");
  await nodes.pass(3);
  const { logged } = nodes.running.get("a")!;
  t.match(logged, [/placement: the table cannot be read or stored/]);
  t.equal(logged.length, 1);
  t.same(setOf(nodes.owners("a")), ["nobody"], "and without a table nobody is sent away");
});

t.test("a table for another number of partitions is ignored, and said", async (t) => {
  const store = await memoryStore();
  const nodes = await fleet(store);
  await nodes.join("b");
  await nodes.join("a", { own: 64, partitions: 64 });
  await nodes.pass(30);
  t.equal(nodes.running.get("a")!.placement.table!.partitions, 64, "each goes on with its own");
  t.ok(nodes.running.get("a")!.logged.some((text) => /placementPartitions 256.*--placement-partitions/.test(text)));
  t.equal(nodes.running.get("b")!.placement.table!.partitions, 256);
  t.same(setOf(nodes.owners("b")), ["a", "b"], "to which the other belongs all the same");
  t.ok(nodes.numbers().every((number) => number <= 4), `${nodes.numbers().join()}: they do not write table after table`);
});

t.test("nodes of an older release, and nodes that place nobody, are members and make no table", async (t) => {
  const nodes = await fleet(await memoryStore());
  nodes.set("0-old", { placement: undefined, partitions: undefined, weight: undefined });
  nodes.set("1-any", { placement: "any" });
  await nodes.join("b");
  await nodes.pass(12);
  t.same(nodes.members("b"), ["0-old", "1-any", "b"]);
  t.equal(nodes.running.get("b")!.placement.table!.by, "b");
});

t.test("a weight of 0 owns nothing, absurd ones count as the nearest allowed, and without any weight there is no owner", async (t) => {
  const nodes = await fleet(await memoryStore());
  nodes.set("a", { weight: -1e300, placement: "any" });
  nodes.set("c", { weight: Infinity });
  await nodes.join("b");
  await nodes.pass(12);
  t.same(nodes.running.get("b")!.placement.table!.members, [{ id: "b", weight: 1 }, { id: "c", weight: 16 }]);
  nodes.set("b", { weight: 0 });
  nodes.set("c", { weight: 0 });
  await nodes.pass(2);
  t.same(setOf(nodes.owners("b")), ["nobody"]);
});

t.test("where the node whose turn it is makes no table, the next one does", async (t) => {
  const nodes = await fleet(await memoryStore());
  nodes.set("a", {});
  await nodes.join("b");
  await nodes.pass(4);
  t.equal(nodes.members("b"), undefined);
  await nodes.pass(3);
  t.same(nodes.members("b"), ["a", "b"]);
});

t.test("a node is silent only when a heartbeat is late, also where few of them make it dead", async (t) => {
  deadMs = 10 * second;
  t.teardown(() => (deadMs = 15 * second));
  const nodes = await fleet(await memoryStore());
  for (const id of ["a", "b"]) await nodes.join(id);
  await nodes.pass(30);
  const { placement } = nodes.running.get("a")!;
  nodes.set("b", { silentMs: 6 * second });
  await nodes.pass(1);
  t.same(placement.moves, { perSecond: 100, problem: "" }, "it reports every 5 s, and that takes a moment to be read");
  nodes.set("b", { silentMs: 7.5 * second });
  await nodes.pass(1);
  t.same(placement.moves, { perSecond: 0, problem: "node b is silent" });
});

t.test("two nodes with one id are one member, and their entries in turn make no table after table", async (t) => {
  const nodes = await fleet(await memoryStore());
  for (const id of ["a", "b"]) await nodes.join(id);
  await nodes.pass(12);
  const [before, numbers] = [nodes.owners("a"), nodes.numbers()];
  t.same(nodes.members("a"), ["a", "b"]);
  for (let i = 0; i < 40; i++) {
    // Both write the entry of b: each heartbeat is of the other process.
    nodes.set("b", { started: i % 2 });
    await nodes.pass(1);
  }
  t.same(nodes.numbers(), numbers);
  t.equal(nodes.owners("a"), before);
  // Two that were no member before become none: neither has been up for a while.
  for (let i = 0; i < 40; i++) {
    nodes.set("c", { started: i % 2 });
    await nodes.pass(1);
  }
  t.same(nodes.members("a"), ["a", "b"]);
  t.same(nodes.numbers(), numbers);
});

/** The different owners in a list of them. */
function setOf(owners: string): string[] {
  return [...new Set(owners.split(","))].sort();
}

/** One store for all that open it. */
async function memoryStore(): Promise<Store> {
  let tables = createMemoryTables();
  const listeners: Parameters<Tables["onWritten"]>[0][] = [];
  const listen = () => tables.onWritten((table) => { for (const listener of listeners) listener(table); });
  listen();
  return {
    open: async () => ({ read: () => tables.read(), write: (table) => tables.write(table), onWritten: (listener) => void listeners.push(listener) }),
    setTo: async (text) => {
      tables = createMemoryTables();
      listen();
      if (text?.startsWith("{")) await tables.write(JSON.parse(text));
    },
    text: async () => JSON.stringify(await tables.read()),
  };
}

/**
 * The table of owners as a pure function: the hash as other programs compute it, balance, how little moves, and that
 * all nodes come to the same owners. Fixed sets of names, so the numbers are the same in every run.
 */
import t from "tap";
import { xxh32 } from "../src/placement/hash.ts";
import { ownersOf, roomOf, weightMax, type Member } from "../src/placement/ring.ts";
import { createPlacement, PlacementWriter, SharedPlacement } from "../src/placement/shared.ts";
import { hashOf, readTable, weightOf } from "../src/placement/table.ts";
import type { PlacedNode } from "../src/placement/view.ts";
import { none } from "./support/only.ts";

const partitions = 1024;

// ------------------------------------------------------------------------------- the hash

/** By h32 of the package xxhash-wasm 1.1.0, seed 0: of texts of 0 to 65 characters. */
const ofLengths = [
  46_947_589, 2_156_850_971, 2_046_292_652, 2_835_005_172, 109_676_520, 1_514_710_903, 915_357_702, 239_520_571, 1_383_520_999, 263_373_826, 1_112_335_247,
  1_332_831_120, 3_530_584_026, 192_965_414, 3_552_738_545, 2_317_390_932, 3_472_830_753, 2_177_095_465, 1_305_584_690, 756_440_881, 4_280_092_986, 1_987_143_565,
  2_384_331_116, 1_144_343_033, 3_298_039_669, 4_243_959_093, 1_781_560_392, 908_458_167, 423_032_046, 2_516_161_046, 737_576_037, 2_107_040_172, 2_360_647_216,
  2_801_976_557, 3_111_843_934, 1_921_197_804, 3_623_210_660, 1_308_812_162, 3_295_654_099, 1_195_383_298, 2_157_585_052, 2_220_542_107, 2_410_049_582, 1_188_767_878,
  2_152_953_063, 3_758_822_431, 1_472_095_002, 2_892_441_030, 3_129_091_598, 1_597_370_807, 3_680_911_429, 2_095_532_013, 2_413_738_080, 2_889_316_369, 2_414_682_622,
  3_207_636_966, 3_844_521_148, 2_222_909_165, 3_513_495_466, 2_553_723_303, 1_202_627_777, 3_087_816_245, 3_079_372_734, 1_803_071_840, 2_000_710_599, 2_677_542_823,
];
const alphabet = "The quick brown fox jumps over 13 lazy dogs; @user-42.example_ABC!";

/** By the same. */
const ofTexts: [text: string, hash: number][] = [
  ["ann", 2_551_182_947], ["Jörg", 861_388_750], ["李小龍", 1_948_978_568], ["🙂", 844_513_324], ["👨‍👩‍👧‍👦 family", 4_043_507_942], ["acme\u001fann", 4_277_799_247],
  ["e\u0301", 2_756_231_243], ["\u00e9", 866_461_991], ["a%20b+c d", 1_394_177_402], ["\ud800 lone", 3_393_929_999], ["x".repeat(128), 3_962_450_664], ["ü".repeat(100), 3_204_372_552],
  ["\u0000", 3_479_547_966], ["İstanbul", 1_034_282_483], ["مرحبا", 2_444_562_499],
];

t.test("a user's hash is that of other programs, for texts of every length and script", async (t) => {
  const ofLength = (n: number) => Array.from({ length: n }, (_, i) => alphabet[(i * 7 + n) % alphabet.length]).join("");
  t.same(ofLengths.map((_, n) => xxh32(ofLength(n))), ofLengths);
  for (const [text, hash] of ofTexts) t.equal(xxh32(text), hash, JSON.stringify(text.slice(0, 20)));
});

// ------------------------------------------------------------------------------- the ring

const even = (ids: readonly string[]): Member[] => [...ids].sort().map((id) => ({ id, weight: 1 }));
/** Owners by name: an index means another node when one joins. */
const namesOf = (members: readonly Member[], count = partitions) => Array.from(ownersOf(members, count), (index) => members[index]?.id ?? "");
const countsOf = (names: readonly string[]) => names.reduce((counts, name) => counts.set(name, (counts.get(name) ?? 0) + 1), new Map<string, number>());
/** The nth set of names: as people, containers and clouds name them. */
const nameOf = (set: number, i: number) => [`gateway-${set}-${i}`, `node-${xxh32(`${set} ${i}`).toString(16)}`, `ip-10-${set % 256}-${i}-7.internal`, `${set}.gw${i}`][set % 4]!;
const sets = Array.from({ length: 200 }, (_, set) => set);

t.test("no node owns more than 1.05 × its part, whatever the names, their number, weights and partitions", async (t) => {
  let checked = 0;
  for (const set of sets) {
    const count = 1 + (set % 40);
    const members = even(Array.from({ length: count }, (_, i) => nameOf(set, i))).map((member, i) => ({ ...member, weight: set % 3 === 0 ? 1 + ((set + i) % weightMax) : 1 }));
    const amount = [1024, 64, 1, 4096, 1000][set % 5]!;
    const total = members.reduce((sum, { weight }) => sum + weight, 0);
    const owned = countsOf(namesOf(members, amount));
    for (const { id, weight } of members) if ((owned.get(id) ?? 0) > Math.ceil((1.05 * amount * weight) / total)) t.fail(`${id} of set ${set} owns ${owned.get(id)}`);
    t.equal([...owned.values()].reduce((sum, n) => sum + n, 0), amount, "and each partition has an owner") && checked++;
  }
  t.equal(checked, 200);
});

t.test("a fourth node moves 25 % of the partitions, and hardly any between the others", async (t) => {
  let all = 0;
  let between = 0;
  let most = 0;
  for (const set of sets) {
    const ids = Array.from({ length: 4 }, (_, i) => nameOf(set, i));
    const before = namesOf(even(ids.slice(0, 3)));
    const after = namesOf(even(ids));
    const moved = after.filter((id, partition) => id !== before[partition]);
    all += moved.length / partitions;
    between += moved.filter((id) => id !== ids[3]).length / partitions;
    most = Math.max(most, moved.length / partitions);
  }
  t.ok(Math.abs(all / sets.length - 0.25) <= 0.02, `in the mean ${((100 * all) / sets.length).toFixed(1)} % move`);
  t.ok(between / sets.length < 0.02, `${((100 * between) / sets.length).toFixed(2)} % between old nodes`);
  t.ok(most <= 0.35, `at most ${(100 * most).toFixed(1)} % in a set`);
});

t.test("a node that leaves moves its own partitions, and hardly any other", async (t) => {
  let others = 0;
  for (const set of sets) {
    const ids = Array.from({ length: 5 }, (_, i) => nameOf(set, i));
    const before = namesOf(even(ids));
    const after = namesOf(even(ids.slice(1)));
    others += before.filter((id, partition) => id !== ids[0] && id !== after[partition]).length / partitions;
  }
  t.ok(others / sets.length < 0.03, `${((100 * others) / sets.length).toFixed(2)} %`);
});

t.test("a node with a changed weight gains or gives about what it should", async (t) => {
  const members = even(["a", "b", "c", "d"]);
  const [before, after] = [namesOf(members), namesOf(members.map((member) => (member.id === "b" ? { ...member, weight: 2 } : member)))];
  const gained = after.filter((id, partition) => id === "b" && before[partition] !== "b").length;
  t.ok(gained / partitions > 0.1 && gained / partitions < 0.2, `${gained} of ${partitions}, 15 % ideally`);
  t.ok(before.filter((id, partition) => id === "b" && after[partition] !== "b").length === 0, "it gives none away");
});

t.test("a ring of one owns everything, a ring of none nothing", async (t) => {
  t.same([...countsOf(namesOf(even(["only"])))], [["only", partitions]]);
  t.same([...countsOf(namesOf([]))], [["", partitions]]);
  t.same([...roomOf(even(["a", "b"]), 3)], [2, 2], "a bound is never below the part");
});

t.test("any weight a node may report counts the same on every node", async (t) => {
  t.same([undefined, 0, 1, 16, 17, 1e300, Infinity, -1, -Infinity, NaN, 1.4, 0.2].map(weightOf), [1, 0, 1, 16, 16, 16, 16, 0, 0, 1, 1, 0]);
});

t.test("tables are told apart by what their owners depend on, and nonsense is no table", async (t) => {
  const table = { number: 7, partitions, members: even(["b", "a"]), by: "a", at: 1 };
  t.same(readTable(JSON.stringify(table)), table);
  t.equal(hashOf(table), hashOf({ ...table, members: even(["a", "b"]) }));
  for (const other of [{ ...table, partitions: 64 }, { ...table, members: even(["a"]) }, { ...table, members: [{ id: "a", weight: 2 }, { id: "b", weight: 1 }] }]) t.not(hashOf(other), hashOf(table));
  for (const text of ["", "{", "[]", "null", "7"]) t.equal(readTable(text), null, text);
  const spoilt = [{ number: 0 }, { number: 2 ** 31 }, { number: 1.5 }, { partitions: 0 }, { partitions: 1e9 }, { members: [{ id: "b", weight: 1 }, { id: "a", weight: 1 }] }, { members: [{ id: "a", weight: 1 }, { id: "a", weight: 1 }] }, { members: [{ id: "a", weight: 0 }] }, { members: [{ id: "a", weight: 1e9 }] }, { members: [{ id: "a" }] }, { members: "all" }];
  for (const fields of spoilt) t.equal(readTable(JSON.stringify({ ...table, ...fields })), null, JSON.stringify(fields));
});

// ------------------------------------------------------------------------------- what threads share

const nodeOf = (id: string, fields: Partial<PlacedNode> = {}): PlacedNode => ({ id, url: `ws://${id}/ws`, tcpUrl: "", region: "", load: 0, slotsPerSecond: 10_000, weight: 1, state: "up", ...fields });

t.test("a view answers from the memory that all threads share", async (t) => {
  const shared = createPlacement(partitions);
  const writer = new PlacementWriter(shared, partitions);
  const view = new SharedPlacement(shared, "hash", partitions);
  t.match(view, { generation: 0, table: 0, nodes: none, self: -1 });
  t.equal(view.ownerOf("", "ann"), -1, "without a table nobody is the owner");
  const members = even(["a", "b", "c"]);
  const nodes = members.map(({ id }) => nodeOf(id));
  t.ok(writer.write({ table: 1, nodes, self: 1, owners: ownersOf(members, partitions) }));
  t.match(view, { table: 1, nodes, self: 1 });
  const names = namesOf(members);
  for (const [tenant, user] of [["", "ann"], ["", "Jörg"], ["", ""], ["", "🙂".repeat(64)], ["acme", "ann"], ["acme", "a\u0301nn"]] as const) {
    const partition = xxh32(tenant === "" ? user : `${tenant}\u001f${user}`) % partitions;
    t.equal(view.partitionOf(tenant, user), partition);
    t.equal(view.nodes[view.ownerOf(tenant, user)]?.id, names[partition], `${tenant} ${user}`);
  }
  t.not(view.partitionOf("acme", "ann"), view.partitionOf("", "ann"), "a user of a tenant is another one");
  const { generation } = view;
  t.equal(view.generation, generation, "nothing has changed");
  t.ok(writer.write({ table: 1, nodes: [nodeOf("a", { load: 0.5 })], self: 0, owners: [] }));
  t.not(view.generation, generation);
  t.equal(view.nodes[0]?.load, 0.5);
  t.equal(view.ownerOf("", "ann"), -1);
});

t.test("more nodes than the memory takes are refused, and the list before stays", async (t) => {
  const shared = createPlacement(partitions);
  const writer = new PlacementWriter(shared, partitions);
  const view = new SharedPlacement(shared, "any", partitions);
  t.ok(writer.write({ table: 0, nodes: Array.from({ length: 1000 }, (_, i) => nodeOf(`gateway-${i}.example.com`)), self: 3, owners: [] }));
  t.notOk(writer.write({ table: 0, nodes: Array.from({ length: 10_000 }, (_, i) => nodeOf(`gateway-${i}`)), self: 3, owners: [] }));
  t.match(view, { self: 3 });
  t.equal(view.nodes.length, 1000);
});

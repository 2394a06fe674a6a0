/** The parts of /api/connection-url that need no node: slots, the choice of a node, the URL of a node without one, looks. */
import t from "tap";
import { urlOfHost } from "../src/reactor/locate/ownurl.ts";
import { ReactorLooks } from "../src/reactor/locate/looks.ts";
import { readQuestion } from "../src/reactor/locate/question.ts";
import { noSlot, slotDelayMsMax, Slots } from "../src/reactor/locate/slots.ts";
import { answerText, Targets } from "../src/reactor/locate/targets.ts";
import { performance } from "node:perf_hooks";
import { resolveConfig } from "../src/config/config.ts";
import { Counters, createCounters } from "../src/link/counters.ts";
import { safeText } from "../src/reactor/transport/safetext.ts";
import { Looks } from "../src/node/looks.ts";
import { nodeFacts } from "../src/node/nodefacts.ts";
import type { PlacedNode, PlacementView } from "../src/placement/view.ts";
import type { RegisteredNode } from "../src/registry/registry.ts";
import { until } from "./support/until.ts";

t.test("slots come at the rate, after a burst", async (t) => {
  const slots = new Slots();
  slots.pace(100);
  const delays = Array.from({ length: 126 }, () => slots.take(false, 0));
  t.equal(delays.filter((delay) => delay === 0).length, 26, "a quarter of a second's worth at once");
  t.equal(delays.at(-1), 1_000, "then one every 10 ms");
  t.equal(slots.take(false, 500), 510);
});

t.test("those that come back wait for one another only, those that come for the first time for all of them", async (t) => {
  const slots = new Slots();
  slots.pace(100);
  for (let i = 0; i < 525; i++) slots.take(false, 0);
  t.equal(slots.take(false, 0), 5_000);
  t.equal(slots.take(true, 0), 0);
  for (let i = 0; i < 100; i++) slots.take(true, 0);
  t.equal(slots.take(true, 0), 760);
  t.ok(slots.take(false, 0) > 5_750, "who has no slot yet gets it later");
});

t.test("beyond half a minute there is no slot, until time has passed", async (t) => {
  const slots = new Slots();
  slots.pace(10);
  const delays = Array.from({ length: 1_000 }, () => slots.take(false, 0));
  t.ok(delays.every((delay) => delay <= slotDelayMsMax));
  t.equal(delays.at(-1), noSlot);
  t.not(slots.take(true, 0), noSlot, "for those that come back there is");
  t.not(slots.take(false, 60_000), noSlot);
  const free = new Slots();
  free.pace(0);
  t.ok(Array.from({ length: 1_000 }, () => free.take(false, 0)).every((delay) => delay === 0), "without a limit nobody waits");
});

function placed(id: string, more: Partial<PlacedNode> = {}): PlacedNode {
  return { id, url: `wss://${id}.example/ws`, tcpUrl: "", region: "", load: 0, slotsPerSecond: 10_000, weight: 1, state: "up", ...more };
}

type View = { -readonly [K in keyof PlacementView]: PlacementView[K] } & { owner: number };

interface World {
  readonly targets: Targets;
  readonly view: View;
  readonly refusing: Set<string>;
  ready: boolean;
  time: number;
}

function world(nodes: PlacedNode[]): World {
  const view: View = { mode: "any", partitions: 64, table: 1, self: 0, owned: 0, movesPerSecond: 0, generation: 0, nodes, owner: -1, partitionOf: () => 0, ownerOf: () => view.owner };
  const refusing = new Set<string>();
  const made: World = {
    view, refusing, ready: true, time: 0,
    targets: new Targets({ view, reactors: 2, refuses: (id) => refusing.has(id), ready: () => made.ready, now: () => made.time }),
  };
  return made;
}

const count = (targets: Targets, times: number, region = "", not: string[] = []) => {
  const counts = new Map<string, number>();
  for (let i = 0; i < times; i++) {
    const id = targets.choose(region, not)?.node.id ?? "none";
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
};

t.test("a node that drains, is down, refuses connections or is not ready is not chosen", async (t) => {
  const made = world([placed("a"), placed("b"), placed("c", { state: "down" }), placed("d", { state: "draining" })]);
  t.strictSame([...count(made.targets, 100).keys()].sort(), ["a", "b"]);
  made.refusing.add("b");
  t.strictSame([...count(made.targets, 100).keys()], ["a"]);
  made.ready = false;
  t.strictSame([...count(made.targets, 3).keys()], ["none"]);
  t.strictSame([...count(world([]).targets, 1).keys()], ["none"], "nor is one that nobody knows");
});

t.test("nodes that the caller could not reach are left out while there are others", async (t) => {
  const { targets } = world([placed("a"), placed("b"), placed("c")]);
  t.strictSame([...count(targets, 100, "", ["a"]).keys()].sort(), ["b", "c"]);
  t.strictSame([...count(targets, 10, "", ["a", "b", "nobody"]).keys()], ["c"]);
  t.strictSame([...count(targets, 100, "", ["a", "b", "c"]).keys()].sort(), ["a", "b", "c"]);
});

t.test("nodes of the region come first, where it has some that take clients", async (t) => {
  const made = world([placed("a", { region: "eu" }), placed("b", { region: "us" }), placed("c", { region: "us", load: 0.9 })]);
  t.strictSame([...count(made.targets, 100, "eu").keys()], ["a"]);
  t.strictSame([...count(made.targets, 100, "us", ["b"]).keys()], ["c"]);
  t.ok(count(made.targets, 100, "mars").size > 1);
});

t.test("work decides; what was sent since the last report counts, so that nobody gets everybody", async (t) => {
  const busy = world([placed("a", { load: 0.9 }), placed("b", { load: 0.1 })]);
  t.equal(count(busy.targets, 1_000).get("b"), 1_000, "a busy node gets nobody");
  const even = world([placed("a", { load: 0.3 }), placed("b", { load: 0.29 }), placed("c", { load: 0.3 })]);
  for (const sent of count(even.targets, 30_000).values()) t.ok(Math.abs(sent - 10_000) < 1_000, `${sent} of 30,000`);
  // A node whose load stays the same is not avoided for ever for what it was sent long ago.
  const other = world([placed("a", { slotsPerSecond: 10 }), placed("b", { load: 0.5 })]);
  t.ok((count(other.targets, 100).get("b") ?? 0) > 10);
  other.time = 60_000;
  t.equal(count(other.targets, 10).get("a"), 10);
});

t.test("by its weight a node is chosen more often, and with 0 only where no other takes clients", async (t) => {
  const made = world([placed("a"), placed("b", { weight: 3 }), placed("c", { weight: 0 })]);
  const sent = count(made.targets, 10_000);
  t.equal(sent.get("c"), undefined);
  t.ok(Math.abs((sent.get("b") ?? 0) - 7_500) < 500, `${sent.get("b")} of 10,000`);
  t.strictSame([...count(made.targets, 20, "", ["a", "b"]).keys()].sort(), ["a", "b"], "nor for those that could not reach the others");
  made.refusing.add("b");
  made.ready = false;
  t.strictSame([...count(made.targets, 20).keys()], ["c"]);
  const none = count(world([placed("a", { weight: 0 }), placed("b", { weight: 0 })]).targets, 1_000);
  for (const id of ["a", "b"]) t.ok(Math.abs((none.get(id) ?? 0) - 500) < 150, `${none.get(id)} of 1,000: all alike where none has any`);
  t.equal(count(world([placed("only", { weight: 0 })]).targets, 1).get("only"), 1);
  const busy = world([placed("a", { weight: 16, load: 0.9 }), placed("b")]);
  t.equal(count(busy.targets, 100).get("b"), 100, "work decides between two, whatever their weights");
});

t.test("a node's load is that of its reactors, or of its hub where that is busier; its start is no load", async (t) => {
  const counters = new Counters(createCounters());
  counters.set("loopUtilization", 0.2);
  // Node says nothing of a loop that has not begun, and the tests before this one need no loop.
  await new Promise(setImmediate);
  let now = 0;
  t.intercept(performance, "now", { value: () => now });
  const facts = nodeFacts(resolveConfig().config, { port: 1, tcpPort: null }, [counters], () => 1, () => ({ weight: 3 }), () => undefined);
  const load = () => ((now += 1_000), facts().load);
  const work = (ms: number) => {
    for (const end = Date.now() + ms; Date.now() < end; );
  };
  work(30);
  t.match([load(), facts().weight], [0.2, 3]);
  // This thread is the hub here, and does nothing else meanwhile.
  work(30);
  t.ok(load() > 0.5);
});

t.test("a node keeps its slots when the list changes, and gets a part of every asker's rate", async (t) => {
  const made = world([placed("a", { slotsPerSecond: 400 }), placed("b")]);
  const [a] = made.targets.all();
  for (let i = 0; i < 26; i++) a!.slots.take(false, 0);
  t.equal(a!.slots.take(false, 0), 10, "400 a second of two nodes with two reactors each");
  Object.assign(made.view, { generation: 1, nodes: [placed("a", { slotsPerSecond: 400, load: 0.5 }), placed("b", { state: "down" })] });
  t.equal(made.targets.all()[0]!.slots.take(false, 0), 20);
  t.equal(made.targets.all()[0]!.slots.take(false, 0), 25, "and of one node");
});

t.test("an owner that takes no clients is none", async (t) => {
  const made = world([placed("a"), placed("b")]);
  t.equal(made.targets.owner("", "ada"), null);
  made.view.owner = 1;
  t.equal(made.targets.owner("", "ada")?.node.id, "b");
  made.refusing.add("b");
  t.equal(made.targets.owner("", "ada"), null);
});

t.test("an owner is looked up in one list, also while the main thread replaces it", async (t) => {
  const made = world([placed("a"), placed("b")]);
  made.targets.all();
  // Between the look at the list and the look at the owners, a node has come whose name is before the others.
  made.view.ownerOf = () => {
    if (made.view.nodes.length === 2) Object.assign(made.view, { nodes: [placed("0"), placed("a"), placed("b")], generation: 2, self: 1 });
    return 1;
  };
  const owner = made.targets.owner("", "ada");
  t.match([owner?.node.id, owner?.isSelf], ["a", true]);
});

t.test("the url names the node, whatever it contains", async (t) => {
  const whole = ({ url, node }: { url: string; node: string }) => JSON.parse(`${url}T${node}}`) as unknown;
  t.strictSame(whole(answerText("wss://a.example/ws", "a")), { url: "wss://a.example/ws?node=a&ticket=T", node: "a" });
  t.strictSame(whole(answerText('wss://a.example/w"s?x=1#top', "ü b")), { url: 'wss://a.example/w"s?x=1&node=%C3%BC%20b&ticket=T', node: "ü b" });
});

t.test("questions: what is read, and what is wrong with others", async (t) => {
  const nothing = { user: null, region: "", not: [], resume: "" };
  for (const query of ["", "&", "x=1", "utm=&&y", "users=ada", "="]) t.strictSame(readQuestion(query), nothing, query);
  t.strictSame(readQuestion("user=ada&region=eu&not=a,b&not=c&resume=T"), { user: "ada", region: "eu", not: ["a", "b", "c"], resume: "T" });
  const users: Record<string, string> = { "user=a%26b%3D%2B": "a&b=+", "user=a+b": "a b", "user=%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80": "👩‍🚀", "user=a=b": "a=b" };
  for (const [query, user] of Object.entries(users)) t.match(readQuestion(query), { user }, query);
  t.match(readQuestion(`user=${encodeURIComponent("ü".repeat(64))}`), { user: "ü".repeat(64) }, "128 bytes");
  const wrong: Record<string, RegExp> = {
    "user=": /^user: the name is empty/, user: /^user: the name is empty/, "user=%": /^user: is not percent-encoded UTF-8/, "user=%ff": /UTF-8/, "user=%ED%A0%80": /UTF-8/,
    "user=a&user=b": /^user: is given twice/, "user=a%00b": /control characters/, "user=a%1Fb": /control characters/, [`user=${"x".repeat(129)}`]: /at most 128 bytes/,
    [`user=${"%C3%BC".repeat(65)}`]: /at most 128 bytes/, [`region=${"x".repeat(65)}`]: /^region: at most/, "not=a,b,c,d,e": /^not: at most 4/, [`x=${"y".repeat(5000)}`]: /^query: at most/,
  };
  for (const [query, text] of Object.entries(wrong)) t.match(readQuestion(query), text, query.slice(0, 40));
});

t.test("the host of the request is used where it is a plain one", async (t) => {
  const open = { host: "0.0.0.0", tlsCert: "" };
  t.equal(urlOfHost(open, "gw.example.com", ""), "ws://gw.example.com/ws");
  t.equal(urlOfHost(open, "gw.example.com:8443", "https"), "wss://gw.example.com:8443/ws");
  t.equal(urlOfHost(open, "[::1]:8080", "http"), "ws://[::1]:8080/ws");
  t.equal(urlOfHost({ ...open, tlsCert: "cert.pem" }, "a_b.internal", "http"), "wss://a_b.internal/ws");
  const bad = ["", "a b", "a/b", "a?b", "a#b", "a@b", 'a"b', "a\\b", "a:b", "a:99999", "a:1:2", "[::1", "-a", "a\r\nX: y", "ä.example", `${"a".repeat(300)}`, "a,b", "[zz]"];
  for (const host of bad) t.equal(urlOfHost(open, host, ""), null, host);
  const loopback = { host: "127.0.0.1", tlsCert: "" };
  t.equal(urlOfHost(loopback, "localhost:8080", ""), "ws://localhost:8080/ws");
  t.equal(urlOfHost(loopback, "evil.example:8080", ""), null, "a name that leads to this machine, of somebody else");
});

t.test("one look serves all who ask, and is used again for a second", async (t) => {
  const asked: string[] = [];
  let time = 0;
  const looks = new ReactorLooks({ ask: (node) => asked.push(node), now: () => time });
  let answers = 0;
  for (let i = 0; i < 1_500; i++) looks.look("b", () => answers++);
  t.strictSame(asked, ["b"]);
  t.equal(answers, 500, "beyond a thousand callers nobody waits");
  looks.looked("b", ["b"]);
  t.equal(answers, 1_500);
  t.ok(looks.refuses("b"));
  looks.look("b", () => answers++);
  t.strictSame(asked, ["b"]);
  time = 1_000;
  looks.look("b", () => answers++);
  t.strictSame(asked, ["b", "b"]);
  looks.looked("b", []);
  t.notOk(looks.refuses("b"));
  t.equal(answers, 1_502);
});

t.test("a node that refuses is looked at until it answers; names of no node are never connected to", async (t) => {
  const reached: string[] = [];
  const told: string[][] = [];
  let isUp = false;
  let tell = () => {};
  const looks = new Looks({
    nodes: () => [{ id: "a" }, { id: "b", ip: "10.0.0.2", port: 1, state: "up" }, { id: "c", state: "down" }] as RegisteredNode[],
    onLooked: (node, refusing) => { told.push([node, ...refusing]); tell(); },
    reach: async (ip) => { reached.push(ip); return isUp; },
  });
  // The node's own timer does not keep a process alive.
  const alive = setInterval(() => {}, 1_000);
  t.teardown(() => (clearInterval(alive), looks.stop()));
  const next = () => new Promise<void>((resolve) => (tell = resolve));
  for (const id of ["a", "c", "nobody"]) looks.look(id);
  t.strictSame(told, [["a"], ["c"], ["nobody"]]);
  let looked = next();
  looks.look("b");
  looks.look("b");
  await looked;
  t.strictSame([reached, looks.refusing], [["10.0.0.2"], ["b"]]);
  isUp = true;
  looked = next();
  await looked;
  t.strictSame([reached.length, looks.refusing], [2, []]);
});

t.test("a node whose entry has no port that can be refuses, and ends nothing", async (t) => {
  const told: string[][] = [];
  const nodes = [70_000, -1, 1.5, NaN].map((port, i) => ({ id: `b${i}`, ip: "127.0.0.1", port, state: "up" }));
  const looks = new Looks({ nodes: () => [{ id: "a" }, ...nodes] as RegisteredNode[], onLooked: (node, refusing) => void told.push([node, ...refusing]) });
  t.teardown(() => looks.stop());
  for (const { id } of nodes) looks.look(id);
  await until(() => told.length === nodes.length, "an answer for each");
  t.strictSame(looks.refusing, nodes.map(({ id }) => id));
});

t.test("an answer is ASCII, whatever a node's URL holds: uWS for Node 24 does not encode every string", async (t) => {
  const url = "wss://gateway.example/ä/€";
  const { alone } = answerText(url, "a");
  t.match(alone, /^[\x20-\x7e]+$/);
  t.equal((JSON.parse(`${alone}}`) as { url: string }).url, `${url}?node=a`);
  for (const text of ["denied: ä", "ÿ", "€", "👩‍🚀"]) t.same(safeText(text), Buffer.from(text));
  t.equal(safeText("bye"), "bye");
});

/** What a node tells its clients of how widely they should spread, should it be gone without a word: it grows with what it holds. */
import t from "tap";
import { windowFor } from "../src/reactor/session/returnwindow.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { openTcp } from "./support/rawtcp.ts";
import { open, type TestSession } from "./support/session.ts";
import { overflow, readOn, stalled } from "./support/slow.ts";
import { until } from "./support/until.ts";

const plenty = 60_000;
/** More than two reactors take in in half a second, and not even half of that. */
const many = 310;
const few = 140;

const toldLater = ({ events }: TestSession) => events.flatMap(({ returnWindow }) => (returnWindow ? [returnWindow.windowMs ?? 0] : []));
const crowd = (node: { port: number }, size: number) => Promise.all(Array.from({ length: size }, () => open(node)));

t.test("few sessions need no window; then it doubles, so that no more than 300 a second come back for each reactor", async (t) => {
  const windows = [0, 1, 10, 150, 151, 300, 301, 600, 1000, 1200, 1201, 5000, 10_000].map((sessions) => windowFor(sessions, 1, plenty));
  t.same(windows, [0, 0, 0, 0, 1000, 1000, 2000, 2000, 4000, 4000, 8000, 32_000, plenty]);
  t.equal(windowFor(8 * 300, 8, plenty), 1000, "reactors take them in together");
  for (const maxMs of [8000, 3000, 501]) t.equal(windowFor(1_000_000, 1, maxMs), maxMs, "the bound holds, whatever it is");
  for (const maxMs of [500, 1, 0]) t.equal(windowFor(1_000_000, 1, maxMs), 0, "clients spread over half a second by themselves");
});

t.test("who came early is told when the node fills up, and when it has emptied; who comes later finds it in ready", async (t) => {
  const node = await startNode(t, { reactors: 2, tcpPort: 0 });
  const early = [await open(node), await open(node, { json: true }), await openTcp(node)];
  t.same(early.map(({ ready }) => ready?.returnWindowMs ?? 0), [0, 0, 0]);
  const others = await crowd(node, many - early.length);
  for (const session of early) await session.waitFor(() => toldLater(session).length > 0, "to be told");
  t.same(early.map(toldLater), [[1000], [1000], [1000]], "once, in whatever form they speak");
  // The other reactor may look a second later.
  const windowOf = (session: TestSession) => toldLater(session).at(-1) ?? session.ready?.returnWindowMs;
  await until(() => others.every((session) => windowOf(session) === 1000), "everybody to have the same");
  const late = [await open(node), await open(node, { json: true }), await openTcp(node)];
  t.same(late.map(({ ready }) => ready?.returnWindowMs), [1000, 1000, 1000]);
  t.same(late.map(toldLater), [[], [], []]);

  await Promise.all(others.splice(few).map((session) => session.bye()));
  for (const session of [...early, ...late]) await session.waitFor(() => toldLater(session).at(-1) === 0, "to be told that there is none");
  t.same(late.map(toldLater), [[0], [0], [0]]);
});

t.test("places in the window are spread evenly, however many sessions there are", async (t) => {
  const node = await startNode(t, { reactors: 1 });
  for (const size of [5, 64]) {
    const sessions = await crowd(node, size);
    const places = sessions.map(({ ready }) => ready?.returnPlace ?? 0).sort((a, b) => a - b);
    t.ok(places[0]! >= 1 && places.at(-1)! <= 65_536);
    const gaps = places.map((place, i) => (i === 0 ? place + 65_536 - places.at(-1)! : place - places[i - 1]!));
    // Of as many that chance has thrown the widest gap is hundreds of times the narrowest.
    t.ok(Math.max(...gaps) <= 3 * Math.min(...gaps), `gaps of ${Math.min(...gaps)} to ${Math.max(...gaps)}`);
  }
});

t.test("a socket that takes nothing is not ended for what it could not be told", async (t) => {
  const { gateway, slow, writer } = await stalled(t, ["cursor:a"]);
  await overflow(gateway, writer, "cursor:a");
  const [first] = await crowd(gateway, many / 2);
  await first!.waitFor(() => toldLater(first!).length > 0, "to be told");
  t.equal(sumOf(await gateway.metrics(), "flux_slow_consumers_total"), 0);
  await readOn(gateway, slow);
  t.ok((await slow.request({ ping: {} })).pong, "it goes on");
});

t.test("the window is bounded by returnWindowMaxMs, and by half of the time that a session is kept", async (t) => {
  for (const options of [{ returnWindowMaxMs: 700 }, { sessionTtlMs: 1400 }]) {
    const node = await startNode(t, { reactors: 1, ...options });
    const [first] = await crowd(node, many / 2);
    await first!.waitFor(() => toldLater(first!).length > 0, "to be told");
    t.same(toldLater(first!), [700]);
  }
});

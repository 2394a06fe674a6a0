/** Who is taken to be dead, by a clock that the test moves. */
import t from "tap";
import { LiveNodes } from "../src/registry/livenodes.ts";
import { factsOf } from "../src/contracts/registry.ts";

const second = 1_000;

function start() {
  const clock = { time: 0 };
  const told: string[] = [];
  const liveNodes = new LiveNodes({
    self: "me", deadMs: 15 * second, forgetMs: 60 * second, gapMs: 2.5 * second, clock: () => clock.time,
    events: { nodeChanged: ({ kind, node }) => void told.push(`${kind} ${node.id}`) },
  });
  const written = new Map<string, string>();
  const write = (id: string, last_heartbeat: number, started = 1) =>
    void written.set(id, JSON.stringify({ ...factsOf(1), started, state: "up", last_heartbeat }));
  /** Looks once a second, as heartbeats come in or not. */
  const pass = (seconds: number, beat: (at: number) => void = () => {}) => {
    for (let i = 0; i < seconds; i++) {
      clock.time += second;
      beat(clock.time);
      liveNodes.look(written, false);
    }
  };
  const states = () => liveNodes.list().map(({ id, state }) => `${id} ${state}`);
  return { clock, told, liveNodes, written, write, pass, states };
}

t.test("a node is down when nothing new was seen of it for the time, and up again with the next", async (t) => {
  const { told, write, pass, states, liveNodes } = start();
  write("a", 1);
  pass(1);
  t.same(told, ["up a"]);
  pass(14);
  t.same(states(), ["a up"]);
  t.equal(liveNodes.list()[0]?.silentMs, 14 * second);
  pass(1);
  t.same(states(), ["a down"]);
  pass(20);
  write("a", 2);
  pass(1);
  t.same(told, ["up a", "down a", "up a"]);
  t.equal(liveNodes.list()[0]?.silentMs, 0);
});

t.test("clocks of others may be wrong, stand, or step: what counts is that something is new", async (t) => {
  const { told, write, pass, states } = start();
  const year = 365 * 86_400 * second;
  pass(100, (at) => {
    if (at % (5 * second) !== 0) return;
    write("future", year + at);
    write("past", at - year);
    write("stepping", at % (10 * second) === 0 ? at : at - year);
  });
  t.same(states(), ["future up", "past up", "stepping up"]);
  t.same(told, ["up future", "up past", "up stepping"]);
});

t.test("a time in which nobody could look is nobody's silence", async (t) => {
  const { clock, told, liveNodes, written, write, pass, states } = start();
  write("a", 1);
  write("b", 1);
  pass(1);
  clock.time += 3_600 * second;
  liveNodes.look(written, false);
  t.same(states(), ["a up", "b up"], "an hour without a look");
  write("a", 2);
  pass(14);
  t.same(states(), ["a up", "b up"]);
  pass(2);
  t.same(states(), ["a down", "b down"], "from then on silence counts");
  t.same(told, ["up a", "up b", "down b", "down a"], "in the order in which their time was over");
});

t.test("who looks with pauses notices a death all the same: only the pauses are not counted", async (t) => {
  const { clock, told, liveNodes, written, write, states } = start();
  write("a", 1);
  liveNodes.look(written, false);
  let looks = 0;
  for (; states().join() === "a up" && looks < 100; looks++) {
    // Each pause of 3 s was not seen, each second after it was.
    clock.time += 3 * second;
    liveNodes.look(written, false);
    clock.time += second;
    liveNodes.look(written, false);
  }
  t.same(told, ["up a", "down a"]);
  t.equal(looks, 15);
});

t.test("when Redis is back, those who could not write have their whole time again", async (t) => {
  const { clock, liveNodes, written, write, pass, states } = start();
  write("a", 1);
  pass(14);
  clock.time += 3 * second;
  liveNodes.look(written, true);
  pass(14);
  t.same(states(), ["a up"]);
  pass(1);
  t.same(states(), ["a down"]);
});

t.test("short pauses of looking, one after another, do not add up to a death of one that beats", async (t) => {
  const { clock, liveNodes, written, write, states } = start();
  for (let i = 0; i < 200; i++) {
    clock.time += 2.4 * second;
    if (i % 3 === 0) write("a", i);
    liveNodes.look(written, false);
    t.ok(states().join() === "a up");
  }
});

t.test("everything that was written is gone: those who were there stay until they are silent for the time", async (t) => {
  const { told, written, write, pass, states } = start();
  write("a", 1);
  write("b", 1);
  pass(1);
  written.clear();
  pass(10);
  t.same(states(), ["a up", "b up"]);
  pass(10, (at) => write("a", at));
  t.same(states(), ["a up"], "one has written itself again, the other is gone for good");
  t.same(told, ["up a", "up b", "down b", "left b"]);
});

t.test("who left is gone at once, and a look that was under way does not bring it back; a new life of it does", async (t) => {
  const { told, liveNodes, write, pass, states } = start();
  write("a", 1, 1);
  pass(1);
  liveNodes.left("a");
  t.same(states(), []);
  pass(1);
  t.same(states(), [], "still written: read before it left");
  write("a", 2, 2);
  pass(1);
  t.same(states(), ["a up"]);
  t.same(told, ["up a", "left a", "up a"]);
});

t.test("what was dead for long may be forgotten, with what was written of it last", async (t) => {
  const { liveNodes, written, write, pass } = start();
  write("a", 1);
  pass(1);
  pass(59);
  t.same(liveNodes.forgettable(), []);
  pass(1);
  t.same(liveNodes.forgettable(), [["a", written.get("a")!]]);
  write("a", 2);
  pass(1);
  t.same(liveNodes.forgettable(), [], "it is back");
});

t.test("what cannot be read of a node is no node", async (t) => {
  const { written, write, pass, states } = start();
  write("a", 1);
  const whole = JSON.parse(written.get("a")!) as Record<string, unknown>;
  for (const [id, text] of Object.entries({ empty: "", broken: "{", list: "[]", null: "null", less: "{}", other: JSON.stringify({ ...whole, load: "much" }), odd: JSON.stringify({ ...whole, state: "asleep" }) })) {
    written.set(id, text);
  }
  written.set("newer", JSON.stringify({ ...whole, more: 1 }));
  pass(1);
  t.same(states(), ["a up", "newer up"], "fields of a later version are no reason");
});

t.test("what is written of oneself is not looked at", async (t) => {
  const { told, write, pass, states } = start();
  write("me", 1);
  pass(30);
  t.same(states(), []);
  t.same(told, []);
});

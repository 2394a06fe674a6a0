/**
 * A room with members on two nodes, compared with the same room on one node without NATS: cost of a delivery on each.
 * The control is two processes of socket.io with its Redis adapter. Also the hub's cost of a publication with almost no
 * members, at a low rate, where each one wakes the hub, and at a high one.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { workerScript } from "../build.ts";
import { micros } from "../load/clock.ts";
import { LoadThread } from "../load/thread.ts";
import { cpuSeconds, mainThreadSeconds } from "../proc.ts";
import { type ServerUnderTest, startServer } from "../servers/start.ts";
import { withCluster, withSocketIo } from "./cluster.ts";
import { connect } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

/** Two nodes, NATS and the load share two cores: a quarter of the rate for one node. */
const rate = 25;
const hubRate = 10_000;
const hotRate = 30_000;
const hubMembers = 2;
const warmUpSeconds = 2;
/** One publisher needs the allowance of many. */
const flags = ["--commands-per-second", "0", "--bytes-per-second", "0"];

export const natsFanoutRow: Row = {
  name: "nats-fanout",
  title: ({ members }) => `Fan-out over NATS: ${members.toLocaleString("en")} members on each of two nodes, 128 bytes, ${rate} messages/s`,
  servers: ["flux", "socketio"],
  metrics: [
    { key: "alone", title: "CPU / delivery, one node without NATS", unit: "µs", digits: 2 },
    { key: "publishing", title: "CPU / delivery, publishing node", unit: "µs", digits: 2 },
    { key: "publishingRatio", title: "  ÷ one node alone", unit: "", digits: 2 },
    { key: "other", title: "CPU / delivery, the other node", unit: "µs", digits: 2 },
    { key: "otherRatio", title: "  ÷ one node alone", unit: "", digits: 2 },
    { key: "missing", title: "missing", unit: "", digits: 0 },
    { key: "hubAlone", title: `hub CPU / publication at ${hubRate.toLocaleString("en")}/s, without NATS`, unit: "µs", digits: 1 },
    { key: "hubPublishing", title: "with NATS, publishing node", unit: "µs", digits: 1 },
    { key: "hubOther", title: "with NATS, the other node", unit: "µs", digits: 1 },
    { key: "hotAlone", title: `hub CPU / publication at ${hotRate.toLocaleString("en")}/s, without NATS`, unit: "µs", digits: 1 },
    { key: "hotPublishing", title: "with NATS, publishing node", unit: "µs", digits: 1 },
    { key: "hotOther", title: "with NATS, the other node", unit: "µs", digits: 1 },
  ],
  compared: "other",
  bars: [
    { metric: "publishingRatio", of: "value", atMost: 1.1 },
    { metric: "otherRatio", of: "value", atMost: 1.1 },
    { metric: "hubPublishing", of: "value", atMost: 15 },
    { metric: "hubOther", of: "value", atMost: 15 },
    { metric: "hotPublishing", of: "value", atMost: 15 },
    { metric: "hotOther", of: "value", atMost: 15 },
    { metric: "missing", of: "value", never: true },
  ],
  secondsPlanned: ({ seconds }) => 6 * (3 + warmUpSeconds + seconds),
  run: (name, scale, say) => (name === "flux" ? run(scale, say) : runControl(scale, say)),
};

function runControl(scale: Scale, say: Say): Promise<Values> {
  say("two processes over Redis", warmUpSeconds + scale.seconds);
  return withSocketIo(2, scale, async (processes) => {
    const { delivery, missing } = await measure(processes, scale.members, rate, scale);
    return { publishing: delivery[0]!, other: delivery[1]!, missing };
  });
}

async function run(scale: Scale, say: Say): Promise<Values> {
  const planned = warmUpSeconds + scale.seconds;
  const alone = async (members: number, perSecond: number): Promise<Costs> => {
    const node = await startServer("flux", { reactors: 1, profileDir: scale.profileDir, flags });
    try {
      return await measure([node], members, perSecond, scale);
    } finally {
      await node.stop();
    }
  };
  say("one node", planned);
  const one = await alone(scale.members, rate);
  say("two nodes", planned);
  const two = await withCluster(2, flags, scale, ({ nodes }) => measure(nodes, scale.members, rate, scale));
  const hubs = async (perSecond: number) => {
    say(`one hub, ${perSecond}/s`, planned);
    const one = await alone(hubMembers, perSecond);
    say(`two hubs, ${perSecond}/s`, planned);
    const two = await withCluster(2, flags, scale, ({ nodes }) => measure(nodes, hubMembers, perSecond, scale));
    return { alone: one.hub[0]!, publishing: two.hub[0]!, other: two.hub[1]!, missing: one.missing + two.missing };
  };
  const each = await hubs(hubRate);
  const hot = await hubs(hotRate);
  return {
    alone: one.delivery[0]!,
    publishing: two.delivery[0]!,
    publishingRatio: two.delivery[0]! / one.delivery[0]!,
    other: two.delivery[1]!,
    otherRatio: two.delivery[1]! / one.delivery[0]!,
    missing: one.missing + two.missing + each.missing + hot.missing,
    hubAlone: each.alone,
    hubPublishing: each.publishing,
    hubOther: each.other,
    hotAlone: hot.alone,
    hotPublishing: hot.publishing,
    hotOther: hot.other,
  };
}

/** By node: microseconds of CPU per delivery, and of the hub's per publication. */
type Costs = { delivery: number[]; hub: number[]; missing: number };

/** The first member of the first node publishes. */
async function measure(nodes: readonly ServerUnderTest[], members: number, perSecond: number, { seconds }: Scale): Promise<Costs> {
  const threads = nodes.map(() => new LoadThread(workerScript));
  try {
    for (const [i, node] of nodes.entries()) await connect(threads[i]!, node, "member", members);
    const read = () => nodes.map(({ pid }) => ({ all: cpuSeconds(pid), hub: mainThreadSeconds(pid) }));
    const delivered = (): number => threads.reduce((sum, thread) => sum + thread.delivered, 0);
    const publish = async (count: number, before: number): Promise<void> => {
      const schedule = { rate: perSecond, count, startAt: micros() + 50_000, before };
      await threads[0]!.ask<"publish">({ kind: "publish", schedule });
      const expected = (before + count) * members * nodes.length;
      for (let waited = 0; delivered() < expected && waited < 10_000; waited += 20) await sleep(20);
    };
    const warmUp = perSecond * warmUpSeconds;
    await publish(warmUp, 0);
    const count = perSecond * seconds;
    const first = read();
    await publish(count, warmUp);
    const costs = read().map(({ all, hub }, i) => ({ all: all - first[i]!.all, hub: hub - first[i]!.hub }));
    return {
      delivery: costs.map(({ all }) => (all * 1e6) / (count * members)),
      hub: costs.map(({ hub }) => (hub * 1e6) / count),
      missing: (warmUp + count) * members * nodes.length - delivered(),
    };
  } finally {
    for (const thread of threads) await thread.stop();
  }
}

/**
 * One message at a time through two idle nodes, with publisher and member on different ones. Once with an ephemeral
 * room, which NATS forwards directly, and once with a durable one, which NATS stores first. The control is two
 * processes of socket.io with its Redis adapter, which stores nothing.
 */
import { workerScript } from "../build.ts";
import type { Role } from "../load/conversation.ts";
import type { Relayed } from "../load/orders.ts";
import { LoadThread } from "../load/thread.ts";
import type { ServerUnderTest } from "../servers/start.ts";
import { withCluster, withSocketIo } from "./cluster.ts";
import { connect, percentileMs } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const gapMs = 1;

export const nodesRow: Row = {
  name: "nodes",
  title: () => "One message at a time, publisher on one node, member on another",
  servers: ["flux", "socketio"],
  metrics: [
    { key: "p50", title: "p50, ephemeral", unit: "ms", digits: 3 },
    { key: "p99", title: "p99, ephemeral", unit: "ms", digits: 3 },
    { key: "nearP50", title: "p50, ephemeral, member on the publisher's node", unit: "ms", digits: 3 },
    { key: "durableP50", title: "p50, durable", unit: "ms", digits: 3 },
    { key: "durableP99", title: "p99, durable", unit: "ms", digits: 3 },
    { key: "nearDurableP50", title: "p50, durable, member on the publisher's node", unit: "ms", digits: 3 },
  ],
  compared: "p50",
  bars: [
    { metric: "p50", of: "value", atMost: 1 },
    { metric: "durableP50", of: "value", atMost: 2 },
  ],
  secondsPlanned: ({ relaySamples }) => 3 + (2 * relaySamples * 1.1 * (gapMs + 2)) / 1000,
  run: (name, scale, say) => (name === "flux" ? run(scale, say) : runControl(scale, say)),
};

function run(scale: Scale, say: Say): Promise<Values> {
  return withCluster(2, [], scale, async ({ nodes }) => {
    say("ephemeral", (scale.relaySamples * 1.1 * (gapMs + 1.5)) / 1000);
    const ephemeral = await relay(nodes, "member", scale);
    say("durable", (scale.relaySamples * 1.1 * (gapMs + 2.5)) / 1000);
    const durable = await relay(nodes, "resumer", scale);
    return {
      p50: percentileMs(ephemeral.far, 50),
      p99: percentileMs(ephemeral.far, 99),
      nearP50: percentileMs(ephemeral.near, 50),
      durableP50: percentileMs(durable.far, 50),
      durableP99: percentileMs(durable.far, 99),
      nearDurableP50: percentileMs(durable.near, 50),
    };
  });
}

function runControl(scale: Scale, say: Say): Promise<Values> {
  return withSocketIo(2, scale, async (processes) => {
    say("over Redis", (scale.relaySamples * 1.1 * (gapMs + 1.5)) / 1000);
    const { near, far } = await relay(processes, "member", scale);
    return { p50: percentileMs(far, 50), p99: percentileMs(far, 99), nearP50: percentileMs(near, 50) };
  });
}

async function relay([here, there]: ServerUnderTest[], role: Role, { relaySamples: samples }: Scale): Promise<Relayed> {
  const thread = new LoadThread(workerScript);
  try {
    await connect(thread, here!, role, 2);
    await connect(thread, there!, role, 1);
    return await thread.ask<"relay">({ kind: "relay", from: 0, near: 1, far: 2, samples, gapMs });
  } finally {
    await thread.stop();
  }
}

/**
 * A durable room over two nodes at the rate of a lively chat: the publisher is on one node, all members are on the
 * other. Counts the CPU of everything that a publication passes: both nodes and nats-server. The control is the same
 * server with two processes of NATS's own client, which publish, acknowledge and receive without a gateway.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectNats } from "nats";
import { setTimeout as sleep } from "node:timers/promises";
import { startNats } from "../../test/support/nats.ts";
import { controlScript, workerScript } from "../build.ts";
import { micros } from "../load/clock.ts";
import { LoadThread } from "../load/thread.ts";
import { cpuSeconds, mainThreadSeconds } from "../proc.ts";
import { withCluster, withTeardown } from "./cluster.ts";
import { connect, percentileMs } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const rate = 1_000;
const members = 20;
const warmUpSeconds = 3;
const flags = ["--namespaces", JSON.stringify({ logged: { durable: true, publish: "anyone" } })];

export const durableNodesRow: Row = {
  name: "durable-nodes",
  title: () => `A durable room over two nodes: ${rate.toLocaleString("en")} publications/s on one, ${members} members on the other`,
  servers: ["flux"],
  metrics: [
    { key: "all", title: "CPU / publication, both nodes and nats-server", unit: "µs", digits: 0 },
    { key: "publishing", title: "  the publisher's node", unit: "µs", digits: 0 },
    { key: "publishingHub", title: "    its hub", unit: "µs", digits: 0 },
    { key: "other", title: "  the members' node", unit: "µs", digits: 0 },
    { key: "otherHub", title: "    its hub", unit: "µs", digits: 0 },
    { key: "nats", title: "  nats-server", unit: "µs", digits: 0 },
    { key: "p50", title: "p50", unit: "ms", digits: 2 },
    { key: "p99", title: "p99", unit: "ms", digits: 2 },
    { key: "missing", title: "missing", unit: "", digits: 0 },
    { key: "disordered", title: "out of order", unit: "", digits: 0 },
    { key: "unacknowledged", title: "not acknowledged", unit: "", digits: 0 },
    { key: "plain", title: "without nodes: two of NATS's own clients and nats-server", unit: "µs", digits: 0 },
    { key: "plainPublisher", title: "  the publisher", unit: "µs", digits: 0 },
    { key: "plainReceiver", title: "  the receiver", unit: "µs", digits: 0 },
    { key: "plainNats", title: "  nats-server", unit: "µs", digits: 0 },
    { key: "plainP50", title: "  p50", unit: "ms", digits: 2 },
    { key: "plainP99", title: "  p99", unit: "ms", digits: 2 },
  ],
  compared: "all",
  bars: [
    { metric: "all", of: "value", atMost: 420 },
    { metric: "p99", of: "value", atMost: 3 },
    { metric: "missing", of: "value", never: true },
    { metric: "disordered", of: "value", never: true },
    { metric: "unacknowledged", of: "value", never: true },
  ],
  secondsPlanned: ({ seconds }) => 5 + 2 * (warmUpSeconds + seconds),
  run: (_, scale, say) => run(scale, say),
};

async function run(scale: Scale, say: Say): Promise<Values> {
  say("through two nodes", warmUpSeconds + scale.seconds);
  const values = await throughNodes(scale);
  say("by NATS's own client", warmUpSeconds + scale.seconds);
  return { ...values, ...(await byPlainClients(scale)) };
}

function throughNodes(scale: Scale): Promise<Values> {
  return withCluster(2, flags, scale, async ({ nodes: [here, there], natsPid }) => {
    const [stage, audience] = [new LoadThread(workerScript), new LoadThread(workerScript)];
    try {
      await connect(audience, there!, "listener", members);
      await connect(stage, here!, "publisher", 1);
      const cpu = () => ({
        publishing: cpuSeconds(here!.pid), publishingHub: mainThreadSeconds(here!.pid),
        other: cpuSeconds(there!.pid), otherHub: mainThreadSeconds(there!.pid), nats: cpuSeconds(natsPid()),
      });
      const count = rate * (warmUpSeconds + scale.seconds);
      const startAt = micros() + 100_000;
      const measureFrom = startAt + warmUpSeconds * 1e6;
      await audience.ask<"measure">({ kind: "measure", from: measureFrom });
      const publishing = stage.ask<"publish">({ kind: "publish", schedule: { rate, count, startAt } });
      await sleep((measureFrom - micros()) / 1000);
      const first = cpu();
      await publishing;
      for (let waited = 0; (audience.delivered < count * members || stage.delivered < count) && waited < 10_000; waited += 20) await sleep(20);
      const costs = perPublication(first, cpu(), scale);
      const { latency, disordered, unchained } = await audience.ask<"tally">({ kind: "tally" });
      return {
        ...costs,
        all: costs.publishing + costs.other + costs.nats,
        p50: percentileMs(latency, 50),
        p99: percentileMs(latency, 99),
        missing: count * members - audience.delivered,
        disordered: disordered + unchained,
        unacknowledged: count - stage.delivered,
      };
    } finally {
      for (const thread of [stage, audience]) await thread.stop();
    }
  });
}

function byPlainClients(scale: Scale): Promise<Values> {
  return withTeardown(async (teardown) => {
    const server = await startNats({ teardown });
    const client = await connectNats({ servers: server.url });
    const manager = await client.jetstreamManager();
    // As the stream of a node's rooms.
    await manager.streams.add({ name: "BENCH", subjects: ["bench.in.>"], max_msgs_per_subject: 1000, republish: { src: "bench.in.>", dest: "bench.out.>" } });
    await client.close();
    const receiver = await startClient(server.url, "receiver", scale, teardown);
    const publisher = await startClient(server.url, "publisher", scale, teardown);
    const cpu = () => ({ plainPublisher: cpuSeconds(publisher.pid), plainReceiver: cpuSeconds(receiver.pid), plainNats: cpuSeconds(server.pid) });
    publisher.begin();
    await sleep(warmUpSeconds * 1000);
    const first = cpu();
    await sleep(scale.seconds * 1000 - 200); // they end by themselves
    const last = cpu();
    const measured = { ...scale, seconds: scale.seconds - 0.2 };
    const costs = perPublication(first, last, measured);
    const { p50, p99 } = JSON.parse(await receiver.said()) as { p50: number; p99: number };
    await publisher.said();
    return { ...costs, plain: costs.plainPublisher + costs.plainReceiver + costs.plainNats, plainP50: p50, plainP99: p99 };
  });
}

async function startClient(url: string, role: "publisher" | "receiver", { seconds }: Scale, teardown: (end: () => unknown) => void) {
  const child = spawn(process.execPath, [controlScript("natsclient"), url, role, rate, rate * (warmUpSeconds + seconds), rate * seconds].map(String), { stdio: ["pipe", "pipe", "inherit"] });
  teardown(() => child.kill("SIGKILL"));
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const ended = once(child, "exit");
  while (!text.includes("ready\n") && child.exitCode === null) await sleep(20);
  return {
    pid: child.pid!,
    begin: () => child.stdin.write("begin\n"),
    said: async () => (await ended, text.slice(text.indexOf("\n") + 1)),
  };
}

/** Microseconds of each. */
function perPublication<K extends string>(from: Record<K, number>, to: Record<K, number>, { seconds }: Scale): Record<K, number> {
  const costs = {} as Record<K, number>;
  for (const key of Object.keys(from) as K[]) costs[key] = ((to[key] - from[key]) * 1e6) / (rate * seconds);
  return costs;
}

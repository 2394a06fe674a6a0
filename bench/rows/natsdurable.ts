/**
 * Publishers with one outstanding publish, as in the row of the disk, but the durable room is in JetStream. Compared
 * with the same load by NATS's own client on the same server: as many outstanding publishes, each acknowledged.
 */
import { connect as connectNats } from "nats";
import { setTimeout as sleep } from "node:timers/promises";
import { workerScript } from "../build.ts";
import { micros } from "../load/clock.ts";
import { payloadBytes } from "../load/payload.ts";
import { LoadThread } from "../load/thread.ts";
import type { ServerUnderTest } from "../servers/start.ts";
import { withCluster } from "./cluster.ts";
import { between, connect, coreMetrics, percentileMs, read } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const publishers = 64;
const warmUpSeconds = 3;
const controlSeconds = 5;
/** The goal: this rate, or this share of the plain client's if that is less. */
const wanted = 20_000;
const wantedShare = 0.7;
const flags = ["--namespaces", JSON.stringify({ logged: { durable: true, publish: "anyone" } }), "--commands-per-second", "0"];

export const natsDurableRow: Row = {
  name: "nats-durable",
  title: () => `Durable publish over NATS: ${publishers} publishers, each with one outstanding, acknowledged by JetStream`,
  servers: ["flux"],
  metrics: [
    { key: "acknowledged", title: "acknowledged", unit: "/s", digits: 0 },
    { key: "plain", title: "NATS's own client, as many outstanding", unit: "/s", digits: 0 },
    { key: "share", title: "  share reached", unit: "", digits: 2 },
    { key: "reached", title: `of ${wanted.toLocaleString("en")}/s, or of ${wantedShare} × the plain client`, unit: "", digits: 2 },
    { key: "p50", title: "p50", unit: "ms", digits: 2 },
    { key: "p99", title: "p99", unit: "ms", digits: 2 },
    ...coreMetrics.filter(({ key }) => key !== "otherCores"),
  ],
  compared: "acknowledged",
  bars: [{ metric: "reached", of: "value", atLeast: 1 }],
  secondsPlanned: ({ seconds }) => 3 + controlSeconds + warmUpSeconds + seconds,
  run: (_, scale, say) => run(scale, say),
};

function run(scale: Scale, say: Say): Promise<Values> {
  return withCluster(1, flags, scale, async ({ nodes, natsUrl }) => {
    say("through the node", warmUpSeconds + scale.seconds);
    const values = await circle(nodes[0]!, scale);
    say("by NATS's own client", controlSeconds);
    const plain = await plainPublishes(natsUrl);
    const { acknowledged = Number.NaN } = values;
    return { ...values, plain, share: acknowledged / plain, reached: acknowledged / Math.min(wanted, wantedShare * plain) };
  });
}

async function circle(server: ServerUnderTest, { seconds }: Scale): Promise<Values> {
  const thread = new LoadThread(workerScript);
  const crew = { server, threads: [thread] };
  try {
    await connect(thread, server, "publisher", publishers);
    await thread.ask<"circle">({ kind: "circle" });
    await sleep(warmUpSeconds * 1000);
    await thread.ask<"measure">({ kind: "measure", from: micros() });
    const first = read(crew);
    await sleep(seconds * 1000);
    const { seconds: measured, delivered, serverCores, loadCores } = between(first, read(crew));
    const { latency } = await thread.ask<"tally">({ kind: "tally" });
    return { acknowledged: delivered / measured, p50: percentileMs(latency, 50), p99: percentileMs(latency, 99), serverCores, loadCores };
  } finally {
    await thread.stop();
  }
}

/** Into a stream with the same storage and republishing as a node's. */
async function plainPublishes(url: string): Promise<number> {
  const client = await connectNats({ servers: url });
  const manager = await client.jetstreamManager();
  await manager.streams.add({ name: "BENCH", subjects: ["bench.in.>"], max_msgs_per_subject: 1000, republish: { src: "bench.in.>", dest: "bench.out.>" } });
  const stream = client.jetstream();
  const payload = Buffer.alloc(payloadBytes, 1);
  const endAt = performance.now() + controlSeconds * 1000;
  let acknowledged = 0;
  const lane = async (): Promise<void> => {
    while (performance.now() < endAt) {
      await stream.publish("bench.in.room", payload);
      acknowledged++;
    }
  };
  await Promise.all(Array.from({ length: publishers }, lane));
  await client.close();
  return acknowledged / controlSeconds;
}

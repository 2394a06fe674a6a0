/**
 * What does a publication cost the nodes on which nobody gets it? Three nodes: one with the publisher and most members,
 * one with a single member, and a bystander without any. Publications go to an ephemeral room, to a durable one, and as
 * direct messages to one user. NATS counts what it sends to each node, the kernel the CPU of each.
 *
 * First the same time without publications, since an idle node has work too. The node with the single member is the
 * control: it shows that what is counted would be seen.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { connect, type Client } from "../../src/client/index.ts";
import { freePort } from "../../src/node/ports.ts";
import { startNats } from "../../test/support/nats.ts";
import { startRedis } from "../../test/support/redis.ts";
import { until } from "../../test/support/until.ts";
import { scratchFolder } from "../build.ts";
import { isReady } from "../load/sdk.ts";
import { cpuSeconds } from "../proc.ts";
import { startServer, type ServerUnderTest } from "../servers/start.ts";
import { withTeardown, type Teardown } from "./cluster.ts";
import type { Metric, Row, Scale, Say, Values } from "./row.ts";

const rate = 400;
const members = 10;
const everyMs = 10;
const payload = "x".repeat(128);
const flags = [
  "--commands-per-second", "0", "--bytes-per-second", "0", "--sends-per-minute", "0", "--allow-anonymous", "--resume-secret", "a secret that the nodes of a bench share",
  "--namespaces", JSON.stringify({ live: {}, log: { durable: true } }), "--placement-stable-ms", "0s",
];

const kinds = [
  { key: "live", title: "ephemeral room" },
  { key: "log", title: "durable room" },
  { key: "direct", title: "direct messages" },
] as const;

export function sessionBroadcastRow(placement: "any" | "hash"): Row {
  const metrics = kinds.flatMap(({ key, title }): Metric[] => [
    { key: `${key}.messages`, title: `${title}: NATS messages to a node without members, a publication`, unit: "", digits: 4 },
    { key: `${key}.bytes`, title: "  bytes", unit: "", digits: 2 },
    { key: `${key}.cpu`, title: "  its CPU beyond idle, a publication", unit: "µs", digits: 1 },
    { key: `${key}.memberMessages`, title: "  to a node with one member: messages", unit: "", digits: 3 },
    { key: `${key}.memberBytes`, title: "  bytes", unit: "", digits: 0 },
    { key: `${key}.memberCpu`, title: "  its CPU beyond idle", unit: "µs", digits: 1 },
    { key: `${key}.missing`, title: "  publications that did not arrive", unit: "", digits: 0 },
  ]);
  return {
    name: `broadcast-${placement}`,
    title: () => `What a publication costs a node without members, under ${placement}: ${rate} a second`,
    servers: ["flux"],
    metrics: [{ key: "idle.messages", title: "without publications: NATS messages a second, to the node without members", unit: "", digits: 2 }, { key: "idle.cpu", title: "  its CPU", unit: "ms/s", digits: 1 }, ...metrics],
    compared: "live.messages",
    bars: kinds.flatMap(({ key }) => [
      // A node asks NATS now and then whether it has missed something: a few messages in all.
      { metric: `${key}.messages`, of: "value", atMost: 0.005 } as const,
      { metric: `${key}.missing`, of: "value", never: true } as const,
    ]),
    secondsPlanned: ({ seconds }) => 6 + 4 * (seconds + 1),
    run: (_, scale, say) => measure(placement, scale, say),
  };
}

function measure(placement: "any" | "hash", scale: Scale, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    const { nodes, sentTo } = await startNodes(placement, scale, teardown);
    const [home, away, bystander] = nodes as [ServerUnderTest, ServerUnderTest, ServerUnderTest];
    // An anonymous user belongs on the node that it comes to, in either mode.
    const clients = await Promise.all([...Array.from({ length: members }, () => home), away].map((node) => clientOn(node, teardown)));
    const [publisher, single] = [clients[0]!, clients.at(-1)!];
    let arrived = 0;
    for (const name of ["live:news", "log:news"]) {
      for (const client of clients) {
        const room = client.join(name);
        room.on("publication", () => void (client === single && arrived++));
        await room.joined;
      }
    }
    single.onMessage(() => void arrived++);
    await until(() => [publisher, single].every(({ state }) => state === "ready"), "both to be ready");

    const read = async () => ({ sent: await sentTo(), cpu: nodes.map(({ pid }) => cpuSeconds(pid)) });
    const during = async (publish: ((data: string) => Promise<unknown>) | null) => {
      const first = await read();
      const count = await paced(scale.seconds, publish);
      await sleep(500);
      const last = await read();
      const node = (i: number) => ({ cpu: last.cpu[i]! - first.cpu[i]!, messages: last.sent[i]!.messages - first.sent[i]!.messages, bytes: last.sent[i]!.bytes - first.sent[i]!.bytes });
      return { count, away: node(nodes.indexOf(away)), bystander: node(nodes.indexOf(bystander)) };
    };

    say("nobody publishes", scale.seconds);
    const idle = await during(null);
    const values: Record<string, number> = { "idle.messages": idle.bystander.messages / scale.seconds, "idle.cpu": (idle.bystander.cpu * 1000) / scale.seconds };
    const ways = {
      live: (data: string) => publisher.publish("live:news", data),
      log: (data: string) => publisher.publish("log:news", data),
      direct: (data: string) => publisher.send(single.session!.user, data),
    };
    for (const { key, title } of kinds) {
      say(title, scale.seconds);
      arrived = 0;
      const { count, away: there, bystander: none } = await during(ways[key]);
      await until(() => arrived >= count, "all to arrive", 5_000).catch(() => undefined);
      Object.assign(values, {
        [`${key}.messages`]: none.messages / count, [`${key}.bytes`]: none.bytes / count, [`${key}.cpu`]: ((none.cpu - idle.bystander.cpu) * 1e6) / count,
        [`${key}.memberMessages`]: there.messages / count, [`${key}.memberBytes`]: there.bytes / count, [`${key}.memberCpu`]: ((there.cpu - idle.away.cpu) * 1e6) / count,
        [`${key}.missing`]: count - arrived,
      });
    }
    return values;
  });
}

/** Publishes at the rate. @returns how many were acknowledged */
async function paced(seconds: number, publish: ((data: string) => Promise<unknown>) | null): Promise<number> {
  let acknowledged = 0;
  const startedAt = performance.now();
  const under: Promise<void>[] = [];
  let begun = 0;
  for (let elapsed = 0; elapsed < seconds * 1000; elapsed = performance.now() - startedAt) {
    for (; publish !== null && begun < (rate * elapsed) / 1000; begun++) under.push(publish(payload).then(() => void acknowledged++));
    await sleep(everyMs);
  }
  await Promise.all(under);
  return acknowledged;
}

interface Sent {
  readonly messages: number;
  readonly bytes: number;
}

async function startNodes(placement: string, { profileDir }: Scale, teardown: Teardown): Promise<{ nodes: ServerUnderTest[]; sentTo: () => Promise<Sent[]> }> {
  mkdirSync(scratchFolder, { recursive: true });
  const monitor = await freePort();
  const nats = await startNats({ teardown }, { flags: ["-m", String(monitor)] });
  const redis = await startRedis({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/broadcast-`) });
  const ids = ["home", "away", "bystander"];
  const nodes: ServerUnderTest[] = [];
  for (const id of ids) {
    const node = await startServer("flux", { reactors: 1, profileDir, isGuarded: false, flags: ["--nats", nats.url, "--redis", redis.url, "--node-id", id, "--placement", placement, ...flags] });
    teardown(() => node.stop());
    nodes.push(node);
  }
  /** What NATS has sent to each of them so far. */
  const sentTo = async (): Promise<Sent[]> => {
    const { connections } = (await (await fetch(`http://127.0.0.1:${monitor}/connz`)).json()) as { connections: { name: string; out_msgs: number; out_bytes: number }[] };
    return ids.map((id) => {
      const own = connections.find(({ name }) => name === id);
      if (own === undefined) throw new Error(`NATS has no connection of node ${id}`);
      return { messages: own.out_msgs, bytes: own.out_bytes };
    });
  };
  if (placement === "hash") await until(async () => (await Promise.all(nodes.map(ownsUsers))).every(Boolean), "every node to own users");
  return { nodes, sentTo };
}

async function ownsUsers({ adminPort }: ServerUnderTest): Promise<boolean> {
  const { members: all } = (await (await fetch(`http://127.0.0.1:${adminPort}/placement`)).json()) as { members: unknown[] };
  return all.length === 3;
}

async function clientOn({ host, port }: ServerUnderTest, teardown: Teardown): Promise<Client> {
  const client = connect(`ws://${host}:${port}/ws`, { WebSocket, storage: null });
  teardown(() => client.close());
  await isReady(client);
  return client;
}

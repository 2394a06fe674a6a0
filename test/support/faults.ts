/** What can happen to a cluster: to a node, to NATS, to Redis, or between them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";
import { Format } from "../../src/protocol/messages.ts";
import type { NodeProcess } from "./nodeprocess.ts";
import type { Proxy } from "./proxy.ts";
import { open } from "./session.ts";
import { until } from "./until.ts";
import type { Verdict } from "./verdict.ts";

/** Something that goes wrong and, by the time it resolves, is over. */
export interface Fault {
  readonly name: string;
  /** Two that hit the same are never under way at once: a node that is killed while it stands still could not be started again. */
  readonly hits: "node" | "NATS" | "Redis";
  /** Durable rooms lose what they had, and idempotency keys: members are told of the gap. */
  readonly loses?: true;
  happen(cluster: Cluster, which: number, ms: number): Promise<void>;
}

const hourMs = 3_600_000;
/** Other faults may be under way that have to be over first. */
const noticeMs = 180_000;
const lookMs = 250;

/** `which` node, for so long. Those of clocks want nodes that obey. */
export const faults: readonly Fault[] = [
  {
    name: "a node is killed, and comes back",
    hits: "node",
    happen: ({ nodes, restart }, which, ms) => away(ms, () => nodes[which]!.kill(), () => restart(which)),
  },
  {
    name: "a node stands still, and goes on",
    hits: "node",
    happen: ({ nodes }, which, ms) => {
      const { pid } = nodes[which]!;
      return away(ms, () => process.kill(pid, "SIGSTOP"), () => process.kill(pid, "SIGCONT"));
    },
  },
  {
    name: "a node stands still until it is taken for dead and its members are elsewhere, and goes on",
    hits: "node",
    happen: async ({ nodes, seenByOthers }, which, ms) => {
      const others = nodes.filter((_, i) => i !== which);
      const sockets = async (of: readonly NodeProcess[]) => (await Promise.all(of.map((node) => node.metric("flux_sockets")))).reduce((sum, count) => sum + count, 0);
      const all = await sockets(nodes);
      const { pid } = nodes[which]!;
      process.kill(pid, "SIGSTOP");
      try {
        await until(async () => (await seenByOthers(which)).every((state) => state === "down" || state === "nothing") || sleep(lookMs, false), "it to be taken for dead", noticeMs);
        await until(async () => (await sockets(others)) >= all || sleep(lookMs, false), "its members to be elsewhere", noticeMs);
        await sleep(ms);
      } finally {
        process.kill(pid, "SIGCONT");
      }
      await until(async () => (await seenByOthers(which)).every((state) => state === "up") || sleep(lookMs, false), "it to be taken for living", noticeMs);
    },
  },
  {
    name: "a node's clock steps an hour ahead, two hours back, and is right again",
    hits: "node",
    happen: async ({ nodes }, which, ms) => {
      for (const offMs of [hourMs, -hourMs]) {
        await nodes[which]!.orders!.setClock(offMs);
        await sleep(ms / 2);
      }
      await nodes[which]!.orders!.setClock(0);
    },
  },
  {
    name: "a node is cut off from NATS, but not from Redis",
    hits: "node",
    happen: ({ toNats }, which, ms) => cutOff(toNats[which]!, ms),
  },
  {
    name: "a node is cut off from Redis, but not from NATS",
    hits: "node",
    happen: ({ toRedis }, which, ms) => cutOff(toRedis[which]!, ms),
  },
  {
    name: "NATS is killed, and comes back with its store",
    hits: "NATS",
    happen: ({ nats }, _, ms) => away(ms, () => nats.kill(), () => nats.start()),
  },
  {
    name: "NATS is stopped, and comes back with its store",
    hits: "NATS",
    happen: ({ nats }, _, ms) => away(ms, () => nats.stop(), () => nats.start()),
  },
  {
    name: "NATS stands still, and goes on",
    hits: "NATS",
    happen: ({ nats }, _, ms) => away(ms, () => nats.pause(), () => nats.resume()),
  },
  {
    name: "Redis stands still, and goes on",
    hits: "Redis",
    happen: ({ redis }, _, ms) => away(ms, () => redis.pause(), () => redis.resume()),
  },
  {
    name: "Redis is killed, and comes back with what it had saved a moment before",
    hits: "Redis",
    happen: async ({ redis }, _, ms) => {
      await redis.save();
      await sleep(ms / 2);
      await redis.stop();
      await sleep(ms / 2);
      await redis.start({ saved: true });
    },
  },
  {
    name: "Redis goes, and comes back with nothing",
    hits: "Redis",
    happen: ({ redis }, _, ms) => away(ms, () => redis.stop(), () => redis.start()),
  },
  {
    name: "NATS is killed, and comes back with nothing",
    hits: "NATS",
    loses: true,
    happen: ({ nats }, _, ms) => away(ms, () => nats.kill().then(() => nats.wipe()), () => nats.start()),
  },
];

/** Less than the first publications of an episode take. */
const fileBytesMax = 4 * 1024;
const payloadBytesMax = 16 * 1024;
const subscriptionsMax = 4;

/** What NATS refuses while it is there: with one server. */
export const limits: readonly Fault[] = [
  limited("NATS may store nothing more", `jetstream { max_file: ${fileBytesMax} }`),
  limited("NATS takes few subscriptions of a node", `max_subscriptions: ${subscriptionsMax}`),
  limited("NATS takes small payloads only, and somebody publishes a larger one", `max_payload: ${payloadBytesMax}`, async ({ nodes }, which) => {
    const session = await open(nodes[which]!);
    await session.join("log:large");
    const { error } = await session.request({ publish: { room: "log:large", payload: Buffer.alloc(40_000), format: Format.BINARY } });
    if (error?.code !== "too_large") throw new Error(`a publication that NATS does not take was answered ${error?.code ?? "published"}`);
    await session.bye();
  }),
  {
    name: "the disk of NATS is full, and NATS is started again when it is not",
    hits: "NATS",
    happen: async ({ nats }, _, ms) => {
      if (nats.disk === null) throw new Error("no disk can be mounted: only root can");
      await away(ms, () => nats.disk!.fill(), () => nats.disk!.empty());
      // nats-server 2.9.10 waits for itself for ever in a write that fails (seen in its stacks: writeMsgRecord, then
      // rebuildStateLocked), and does not even end when it is told to.
      await nats.kill();
      await nats.start();
    },
  },
];

/** With a NATS server for each node. */
export const cutRoutes: Fault = {
  name: "the routes of a NATS server are cut, its clients stay",
  hits: "NATS",
  happen: ({ natsCluster }, which, ms) => away(ms, () => natsCluster!.cut(natsCluster!.servers[which]!), () => natsCluster!.join()),
};

function limited(name: string, configuration: string, meanwhile?: (cluster: Cluster, which: number) => Promise<void>): Fault {
  return {
    name,
    hits: "NATS",
    happen: async (cluster, which, ms) => {
      const { nats } = cluster;
      await nats.stop();
      await nats.start(configuration);
      try {
        await until(() => cluster.toNats.every(({ open }) => open > 0) || sleep(lookMs, false), "every node to be connected again", noticeMs);
        await meanwhile?.(cluster, which);
        await sleep(ms);
      } finally {
        await nats.stop();
        await nats.start();
      }
    },
  };
}

/** No fault, but what else nodes go through; rolling-restart.test.ts looks at it by itself. */
export const drained: Fault = {
  name: "a node drains and ends, and is started again",
  hits: "node",
  happen: async ({ nodes, restart }, which, ms) => {
    await nodes[which]!.drain(ms);
    await restart(which);
  },
};

/**
 * What is wrong after faults. Where the store was lost, a publication that had been handed over but not yet acknowledged is
 * published again, to a store that cannot know it: it comes twice, in two epochs.
 */
export function faultsIn(verdict: Verdict, mayLose: boolean): number {
  return mayLose ? verdict.faults - verdict.doubled - verdict.conflicting : verdict.faults;
}

async function cutOff(proxy: Proxy, ms: number): Promise<void> {
  await away(ms, () => (proxy.refuse(true), proxy.cut()), () => proxy.refuse(false));
  await until(() => proxy.open > 0, "the node to connect again");
}

async function away(ms: number, take: () => unknown, giveBack: () => unknown): Promise<void> {
  await take();
  await sleep(ms);
  await giveBack();
}

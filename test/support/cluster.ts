/** Three nodes that are one gateway, over a NATS and a Redis of their own, behind one front; and what can happen to them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { startFront, type Front } from "./front.ts";
import { startNats, type NatsServer } from "./nats.ts";
import { startNodeProcess, type NodeProcess } from "./nodeprocess.ts";
import { startProxy, type Proxy } from "./proxy.ts";
import { startRedis, type TestRedis } from "./redis.ts";
import { until } from "./until.ts";
import type { Verdict } from "./verdict.ts";

export interface Cluster {
  /** Those there are now; one that was killed is replaced by another on its port. */
  readonly nodes: readonly NodeProcess[];
  readonly nats: NatsServer;
  readonly redis: TestRedis;
  readonly front: Front;
  /** Between each node and NATS, and between each node and Redis. */
  readonly toNats: readonly Proxy[];
  readonly toRedis: readonly Proxy[];
  /** Starts a node again that was killed or has ended. */
  restart(index: number): Promise<void>;
  /** Resolves when every node says that it is ready. */
  ready(): Promise<void>;
}

const restartMs = 60_000;
const resumeSecret = "a secret that the nodes of a test share";
const namespaces = JSON.stringify({
  log: { durable: true, historySize: 100_000 },
  live: { presence: "members", presenceEvents: true },
});

export async function startCluster(t: Pick<Test, "teardown" | "testdir">, flags: string[] = [], size = 3): Promise<Cluster> {
  const [nats, redis] = await Promise.all([startNats(t), startRedis(t)]);
  const behind = async (port: number) => Promise.all(Array.from({ length: size }, () => startProxy(t, port)));
  const [toNats, toRedis] = [await behind(nats.port), await behind(redis.port)];
  const start = (index: number, port: number): Promise<NodeProcess> =>
    startNodeProcess([
      "--reactors", "1", "--nats", `nats://127.0.0.1:${toNats[index]!.port}`, "--redis", `redis://127.0.0.1:${toRedis[index]!.port}`,
      "--resume-secret", resumeSecret, "--node-id", `node-${index}`, "--namespaces", namespaces, "--commands-per-second", "0",
      "--heartbeat-ms", "2s", "--heartbeat-grace-ms", "2s", "--port", String(port), ...flags,
    ]);
  const nodes = await Promise.all(Array.from({ length: size }, (_, i) => start(i, 0)));
  t.teardown(() => Promise.all(nodes.map((node) => node.kill())));
  const isReady = async (node: NodeProcess): Promise<boolean> => {
    try {
      return (await fetch(`http://127.0.0.1:${node.port}/ready`)).ok;
    } catch {
      return false;
    }
  };
  return {
    nodes,
    nats,
    redis,
    toNats,
    toRedis,
    front: await startFront(t, () => nodes.map(({ port }) => port)),
    restart: async (index) => {
      const { port } = nodes[index]!;
      await nodes[index]!.stop();
      // Where NATS or Redis does not answer a node does not start: whoever runs it tries again.
      const giveUpAt = performance.now() + restartMs;
      for (;;) {
        try {
          nodes[index] = await start(index, port);
          return;
        } catch (error) {
          if (performance.now() > giveUpAt) throw error;
          await sleep(200);
        }
      }
    },
    ready: () => until(async () => (await Promise.all(nodes.map(isReady))).every(Boolean), "all nodes to be ready", 60_000),
  };
}

/** Something that goes wrong and, by the time it resolves, is over. */
export interface Fault {
  readonly name: string;
  /** Durable rooms lose what they had, and idempotency keys: members are told of the gap. */
  readonly loses?: true;
  happen(cluster: Cluster, which: number, ms: number): Promise<void>;
}

/** `which` node, for so long. */
export const faults: readonly Fault[] = [
  {
    name: "a node is killed, and comes back",
    happen: async ({ nodes, restart }, which, ms) => {
      await nodes[which]!.kill();
      await sleep(ms);
      await restart(which);
    },
  },
  {
    name: "a node stands still, and goes on",
    happen: async ({ nodes }, which, ms) => {
      const { pid } = nodes[which]!;
      process.kill(pid, "SIGSTOP");
      await sleep(ms);
      process.kill(pid, "SIGCONT");
    },
  },
  {
    name: "a node is cut off from NATS, but not from Redis",
    happen: ({ toNats }, which, ms) => cutOff(toNats[which]!, ms),
  },
  {
    name: "a node is cut off from Redis, but not from NATS",
    happen: ({ toRedis }, which, ms) => cutOff(toRedis[which]!, ms),
  },
  {
    name: "NATS is killed, and comes back with its store",
    happen: async ({ nats }, _, ms) => {
      await nats.kill();
      await sleep(ms);
      await nats.start();
    },
  },
  {
    name: "NATS is stopped, and comes back with its store",
    happen: async ({ nats }, _, ms) => {
      await nats.stop();
      await sleep(ms);
      await nats.start();
    },
  },
  {
    name: "NATS stands still, and goes on",
    happen: async ({ nats }, _, ms) => {
      nats.pause();
      await sleep(ms);
      nats.resume();
    },
  },
  {
    name: "Redis stands still, and goes on",
    happen: async ({ redis }, _, ms) => {
      redis.pause();
      await sleep(ms);
      redis.resume();
    },
  },
  {
    name: "Redis goes, and comes back with nothing",
    happen: async ({ redis }, _, ms) => {
      await redis.stop();
      await sleep(ms);
      await redis.start();
    },
  },
  {
    name: "NATS is killed, and comes back with nothing",
    loses: true,
    happen: async ({ nats }, _, ms) => {
      await nats.kill();
      nats.wipe();
      await sleep(ms);
      await nats.start();
    },
  },
];

/**
 * What is wrong after faults. Where the store was lost, a publication that had been handed over but not yet acknowledged is
 * published again, to a store that cannot know it: it comes twice, in two epochs.
 */
export function faultsIn(verdict: Verdict, mayLose: boolean): number {
  return mayLose ? verdict.faults - verdict.doubled - verdict.conflicting : verdict.faults;
}

async function cutOff(proxy: Proxy, ms: number): Promise<void> {
  proxy.refuse(true);
  proxy.cut();
  await sleep(ms);
  proxy.refuse(false);
  await until(() => proxy.open > 0, "the node to connect again");
}

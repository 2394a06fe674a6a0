/** Three nodes that are one gateway, over a NATS and a Redis of their own, behind one front. faults.ts has what can happen to them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { startFront, type Front } from "./front.ts";
import { startNats, type NatsServer } from "./nats.ts";
import { startNatsCluster, type NatsCluster } from "./natscluster.ts";
import { startNodeProcess, type NodeProcess } from "./nodeprocess.ts";
import { startProxy, type Proxy } from "./proxy.ts";
import { startRedis, type TestRedis } from "./redis.ts";
import { startStopwatch, type Stopwatch } from "./stopwatch.ts";
import { until } from "./until.ts";

export interface Cluster {
  /** Those there are now; one that was killed is replaced by another on its port. */
  readonly nodes: readonly NodeProcess[];
  /** The only one, or that of the first node. */
  readonly nats: NatsServer;
  /** Where each node has a NATS server of its own. */
  readonly natsCluster: NatsCluster | null;
  readonly redis: TestRedis;
  readonly front: Front;
  /** Between each node and NATS, and between each node and Redis. */
  readonly toNats: readonly Proxy[];
  readonly toRedis: readonly Proxy[];
  /** Starts a node again that was killed or has ended. */
  restart(index: number): Promise<void>;
  /** Resolves when every node says that it is ready. */
  ready(): Promise<void>;
  /** What each of the other nodes takes it for: up, draining, down, or nothing. */
  seenByOthers(index: number): Promise<string[]>;
  /** How nodes ended that nobody asked to. */
  readonly failures: readonly string[];
}

export interface ClusterOptions {
  readonly flags?: readonly string[];
  readonly size?: number;
  /** Nodes do what a test orders: their clocks can be set. Default: no. */
  readonly obeys?: boolean;
  /** Each node has a NATS server of its own; they are one cluster. Default: no. */
  readonly replicated?: boolean;
  /** The command that a node is started with, each time. Undefined: that of this build. */
  readonly program?: (index: number) => string | undefined;
  /** NATS has a disk of its own of this size, where one can be mounted. */
  readonly diskBytes?: number;
}

/** Sockets that no busy machine loses: those of clients that are to keep theirs. */
export const patientHeartbeat = ["--heartbeat-ms", "25s", "--heartbeat-grace-ms", "10s"];
/**
 * Until the nodes of a cluster must agree on who is where, whatever happened, by a stopwatch. docs/guarantees.md promises nodeDeadMs and
 * presenceGraceMs, 3.5 s with the flags below; the rest is for a look at the registry, a presence interval, what is sent
 * and asked, and what a stopwatch does not see: disks, and what waits for another.
 */
export const presenceMs = 5_000;
/** A test that fails says how late it was, unless it was later than this. */
const patienceMs = 180_000;
const times = ["--node-heartbeat-ms", "500", "--node-dead-ms", "3s", "--presence-grace-ms", "500", "--presence-interval-ms", "100"];

/** By the clock of those who take part in who is there. */
export function presenceWatch({ nodes, redis }: Pick<Cluster, "nodes" | "redis">): Stopwatch {
  return startStopwatch(() => [...nodes.map(({ pid }) => pid), redis.pid]);
}

/**
 * Something about who is there comes true, in the time that is promised where `judged`: by the soak. In the suite it only
 * has to come true, as a test may not depend on how fast the machine is; there the times are judged on clocks that tests
 * hold (registry-livenodes, presence).
 */
export async function inTime(cluster: Pick<Cluster, "nodes" | "redis">, what: string, comesTrue: (limitMs: number) => Promise<void>, judged = false): Promise<void> {
  const watch = presenceWatch(cluster);
  await comesTrue(patienceMs);
  if (judged && watch.ms() > presenceMs) throw new Error(`${what} took ${watch.told()}; the rest may take ${presenceMs} ms`);
}

/** The main thread and one reactor. */
const threads = 2;
const restartMs = 180_000;
const resumeSecret = "a secret that the nodes of a test share";
const namespaces = JSON.stringify({
  log: { durable: true, historySize: 100_000, presence: "anyone", presenceEvents: true },
  live: { presence: "members", presenceEvents: true },
});

export async function startCluster(t: Pick<Test, "teardown" | "testdir">, { flags = [], size = 3, obeys = false, replicated = false, program, diskBytes = 0 }: ClusterOptions = {}): Promise<Cluster> {
  const redis = await startRedis(t);
  const natsCluster = replicated ? await startNatsCluster(t, size) : null;
  const nats = natsCluster?.servers[0] ?? (await startNats(t, { diskBytes }));
  const behind = async (ports: readonly number[]) => Promise.all(ports.map((port) => startProxy(t, port)));
  const toNats = await behind(Array.from({ length: size }, (_, i) => (natsCluster?.servers[i] ?? nats).port));
  const toRedis = await behind(Array<number>(size).fill(redis.port));
  const replicas = replicated ? ["--nats-replicas", String(size), "--nats-partitions", "1"] : [];
  const start = (index: number, port: number): Promise<NodeProcess> =>
    startNodeProcess([
      "--reactors", "1", "--nats", `nats://127.0.0.1:${toNats[index]!.port}`, "--redis", `redis://127.0.0.1:${toRedis[index]!.port}`,
      "--resume-secret", resumeSecret, "--node-id", `node-${index}`, "--namespaces", namespaces, "--commands-per-second", "0",
      "--heartbeat-ms", "2s", "--heartbeat-grace-ms", "2s", "--port", String(port), ...times, ...replicas, ...flags,
    ], { ...(obeys && { obeys: threads }), program: program?.(index) });
  const nodes = await Promise.all(Array.from({ length: size }, (_, i) => start(i, 0)));
  t.teardown(() => Promise.all(nodes.map((node) => node.kill())));
  const failed: string[] = [];
  /** What a node says of itself; "" is that it is ready. */
  const problemOf = async (node: NodeProcess, index: number): Promise<string> => {
    try {
      const answer = await fetch(`http://127.0.0.1:${node.port}/ready`);
      return answer.ok ? "" : `node-${index}: ${answer.status} ${await answer.text()}`;
    } catch (error) {
      return `node-${index}: ${node.failure ?? String(error)}`;
    }
  };
  return {
    nodes,
    nats,
    natsCluster,
    redis,
    toNats,
    toRedis,
    front: await startFront(t, () => nodes.map(({ port }) => port)),
    get failures() {
      return [...failed, ...nodes.flatMap(({ failure }, index) => (failure === undefined ? [] : [`node-${index} ${failure}`]))];
    },
    seenByOthers: (index) =>
      Promise.all(nodes.filter((_, i) => i !== index).map(async ({ adminUrl }) => {
        const { nodes: known } = (await (await fetch(`${adminUrl}/nodes`)).json()) as { nodes: { id: string; state: string }[] };
        return known.find(({ id }) => id === `node-${index}`)?.state ?? "nothing";
      })),
    restart: async (index) => {
      const { port, failure } = nodes[index]!;
      if (failure !== undefined) failed.push(`node-${index} ${failure}`);
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
    ready: async () => {
      let problems: string[] = [];
      const areReady = async () => (problems = (await Promise.all(nodes.map(problemOf))).filter(Boolean)).length === 0;
      await until(areReady, "all nodes to be ready", 180_000).catch((error: unknown) => {
        throw new Error(`${String(error)}: ${problems.join("; ")}`);
      });
    },
  };
}

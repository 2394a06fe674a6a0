/** Several processes of one gateway and the servers they need, for one measurement. */
import { mkdirSync, mkdtempSync } from "node:fs";
import { startNats } from "../../test/support/nats.ts";
import { startRedis } from "../../test/support/redis.ts";
import { scratchFolder } from "../build.ts";
import { type ServerUnderTest, startServer } from "../servers/start.ts";
import type { Verdict } from "../../test/support/verdict.ts";
import type { Bar, Metric, Scale, Values } from "./row.ts";

/** Nodes on NATS without Redis need one. */
export const resumeSecret = "a secret that the nodes of a bench share";

export type Cluster = {
  nodes: ServerUnderTest[];
  natsUrl: string;
  /** Of the process of NATS. */
  natsPid(): number;
};

/** @param flags of every node. Each node has one reactor; NATS is a server with its own store. */
export async function withCluster<T>(count: number, flags: readonly string[], { profileDir }: Scale, use: (cluster: Cluster) => Promise<T>): Promise<T> {
  return withTeardown(async (teardown) => {
    const nats = await startNats({ teardown });
    const { url } = nats;
    const nodes: ServerUnderTest[] = [];
    for (let i = 0; i < count; i++) {
      const node = await startServer("flux", { reactors: 1, profileDir, flags: ["--nats", url, "--resume-secret", resumeSecret, ...flags] });
      teardown(() => node.stop());
      nodes.push(node);
    }
    return use({ nodes, natsUrl: url, natsPid: () => nats.pid });
  });
}

/** The control: processes of socket.io connected through Redis. */
export async function withSocketIo<T>(count: number, { profileDir }: Scale, use: (processes: ServerUnderTest[]) => Promise<T>): Promise<T> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const { url: redisUrl } = await startRedis({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/redis-`) });
    const processes: ServerUnderTest[] = [];
    for (let i = 0; i < count; i++) {
      const one = await startServer("socketio", { reactors: 1, profileDir, redisUrl });
      teardown(() => one.stop());
      processes.push(one);
    }
    return use(processes);
  });
}

export type Teardown = (end: () => unknown) => void;

/** Stops everything in reverse order, also after an error. */
export async function withTeardown<T>(use: (teardown: Teardown) => Promise<T>): Promise<T> {
  const ends: (() => unknown)[] = [];
  try {
    return await use((end) => void ends.push(end));
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

/** The fate of a population's publications. */
export const verdictMetrics: readonly Metric[] = [
  { key: "lost", title: "lost", unit: "", digits: 0 },
  { key: "doubled", title: "twice or out of order", unit: "", digits: 0 },
  { key: "gaps", title: "gaps told", unit: "", digits: 0 },
  { key: "acknowledged", title: "acknowledged publications", unit: "", digits: 0 },
];

export const verdictBars: readonly Bar[] = [
  { metric: "lost", of: "value", never: true },
  { metric: "doubled", of: "value", never: true },
  { metric: "gaps", of: "value", never: true },
];

export function verdictValues({ lost, faults, acknowledged }: Verdict, gaps: number): Values {
  return { lost, doubled: faults - lost, gaps, acknowledged };
}

/** Nodes with `--placement partition`, and what they say of the partitions that they hold. */
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "nats";
import type { Test } from "tap";
import type { Cluster } from "./cluster.ts";
import { secret } from "./tokens.ts";
import { until } from "./until.ts";

export const partitions = 8;
export const partitionFlags = [
  "--placement", "partition", "--placement-partitions", String(partitions), "--placement-streams", "2", "--placement-stable-ms", "0", "--placement-calm-ms", "0",
  "--auth-secret", secret, "--sends-per-minute", "0", "--inbox-size", "5000",
];
/** Few messages: what is tested is what becomes of them. */
export const mailOptions = { secret, users: 4, devices: 5, everyMs: 250 };

export interface Report {
  readonly partition: number;
  readonly owner: string;
  readonly confirmed: boolean;
  readonly epoch: number;
}

/** Each question costs a node some milliseconds. */
const lookMs = 500;

export const soon = (condition: () => Promise<boolean>, what: string): Promise<void> => until(async () => (await condition()) || sleep(lookMs, false), what);

export const heldBy = ({ nodes }: Cluster, index: number): Promise<number> => nodes[index]!.metric("flux_partitions_held");

export const reportsOf = async ({ nodes }: Cluster, index: number): Promise<readonly Report[]> => ((await (await fetch(`${nodes[index]!.adminUrl}/placement`)).json()) as { held: readonly Report[] }).held;

export const limit = (cluster: Cluster, index: number, maxPartitions: number): Promise<unknown> =>
  fetch(`${cluster.nodes[index]!.adminUrl}/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ maxPartitions }) });

/** All partitions are held, and every one of these nodes holds some. */
export function shared(cluster: Cluster, indexes: readonly number[]): Promise<void> {
  return soon(async () => {
    const counts = await Promise.all(indexes.map((index) => heldBy(cluster, index)));
    return counts.every((count) => count > 0) && counts.reduce((sum, count) => sum + count, 0) === partitions;
  }, `nodes ${indexes.join()} to hold everything`);
}

/** Calls JetStream's API. */
export async function jetStream(t: Pick<Test, "teardown">, url: string): Promise<(call: string) => Promise<unknown>> {
  const connection = await connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
  t.teardown(() => connection.close());
  return async (call) => (await connection.request(`$JS.API.${call}`)).json();
}

/** A Redis Cluster for tests, of real servers without replicas. */
import { join } from "node:path";
import type { Test } from "tap";
import { freePort } from "../../src/node/ports.ts";
import { startRedis, type TestRedis } from "./redis.ts";
import { until } from "./until.ts";

/** As many servers as there are ranges of slots. */
export async function startRedisCluster(t: Pick<Test, "teardown" | "testdir">, ranges: readonly (readonly [from: number, to: number])[]): Promise<TestRedis[]> {
  // A second call of testdir() would empty the first server's, which has to write to it.
  const dir = t.testdir(Object.fromEntries(ranges.map((_, i) => [`${i}`, {}])));
  const servers = await Promise.all(ranges.map(async (range, i) => {
    const bus = await freePort();
    const place = { teardown: t.teardown.bind(t), testdir: () => join(dir, `${i}`) };
    const server = await startRedis(place, { args: ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-port", String(bus)] });
    await server.client.call("CLUSTER", "ADDSLOTSRANGE", ...range);
    return { server, bus };
  }));
  for (const { server: { client } } of servers) {
    for (const { server, bus } of servers) if (server.client !== client) await client.call("CLUSTER", "MEET", "127.0.0.1", server.port, bus);
  }
  for (const { server: { client } } of servers) {
    await until(async () => String(await client.call("CLUSTER", "INFO")).includes("cluster_state:ok"), "the cluster to be whole");
  }
  return servers.map(({ server }) => server);
}

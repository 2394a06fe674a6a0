/** Three nats-servers that are one cluster, with JetStream on each. */
import { connect, type NatsConnection } from "nats";
import type { Test } from "tap";
import { freePort } from "../../src/ports.ts";
import { startNats, type NatsServer } from "./nats.ts";
import { until } from "./until.ts";

export interface NatsCluster {
  readonly servers: readonly NatsServer[];
  /** The server that leads a stream. */
  leaderOf(stream: string): Promise<NatsServer>;
  /** Resolves when all replicas of a stream are current. */
  whole(stream: string): Promise<void>;
}

interface Replicas {
  readonly leader?: string;
  readonly replicas?: readonly { readonly name: string; readonly current: boolean; readonly offline?: boolean }[];
}

/** Elections take seconds. */
const electedMs = 60_000;

/** Clients are not told of the other servers: they have to be given all of them. */
export async function startNatsCluster(t: Pick<Test, "teardown">, size = 3): Promise<NatsCluster> {
  const ports = await Promise.all(Array.from({ length: size }, () => freePort()));
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`);
  const servers = await Promise.all(ports.map((_, i) => startNats(t, {
    flags: ["--server_name", `n${i}`, "--cluster_name", "test", "--cluster", routes[i]!, "--routes", routes.join(","), "--no_advertise"],
  })));
  const connections = await Promise.all(servers.map(({ port }) => connect({ servers: `127.0.0.1:${port}`, maxReconnectAttempts: -1, reconnectTimeWait: 100 })));
  t.teardown(() => Promise.all(connections.map((connection) => connection.close())));
  for (const one of connections) await until(async () => "memory" in (await ask(one, "INFO")), "JetStream to have a leader", electedMs);
  /** As any server knows it. */
  const stateOf = async (stream: string): Promise<Replicas> => {
    const answers = await Promise.all(connections.map((one) => ask(one, `STREAM.INFO.${stream}`)));
    return (answers.find(({ cluster }) => (cluster as Replicas | undefined)?.leader) as { cluster: Replicas } | undefined)?.cluster ?? {};
  };
  return {
    servers,
    leaderOf: async (stream) => {
      let leader: string | undefined;
      await until(async () => ({ leader } = await stateOf(stream)).leader !== undefined, "the stream to have a leader", electedMs);
      return servers[Number(leader!.slice(1))]!;
    },
    whole: (stream) => until(async () => {
      const { leader, replicas = [] } = await stateOf(stream);
      return leader !== undefined && replicas.length === size - 1 && replicas.every(({ current, offline = false }) => current && !offline);
    }, "all replicas to be current", electedMs),
  };
}

async function ask(connection: NatsConnection, call: string): Promise<Record<string, unknown>> {
  try {
    return (await connection.request(`$JS.API.${call}`, "", { timeout: 1_000 })).json<Record<string, unknown>>();
  } catch {
    return {}; // nobody leads, or the server is gone
  }
}

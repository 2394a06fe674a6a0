/** Three nats-servers that are one cluster, with JetStream on each, and routes between them that can be cut. */
import { connect, type NatsConnection } from "nats";
import type { Test } from "tap";
import { freePort } from "../../src/node/ports.ts";
import { startNats, type NatsServer } from "./nats.ts";
import { startProxy, type Proxy } from "./proxy.ts";
import { until } from "./until.ts";

export interface NatsCluster {
  readonly servers: readonly NatsServer[];
  /** The server that leads a stream. */
  leaderOf(stream: string): Promise<NatsServer>;
  /** Resolves when all replicas of a stream are current. */
  whole(stream: string): Promise<void>;
  /**
   * Ends every route of a server and refuses new ones. Its clients stay connected; the other servers keep their quorum.
   * Resolves when no server knows a route to the other side.
   */
  cut(server: NatsServer): Promise<void>;
  /** Lets routes begin again. Resolves when every server has a route to every other one. */
  join(): Promise<void>;
}

interface Replicas {
  readonly leader?: string;
  readonly replicas?: readonly { readonly name: string; readonly current: boolean; readonly offline?: boolean }[];
}

/** Elections take seconds. */
const electedMs = 180_000;

/** Nobody listens there. */
const nowhere = "nats://127.0.0.1:1";

/**
 * Clients are not told of the other servers: they have to be given all of them. Each pair of servers has a proxy for its route.
 * Servers tell each other what `cluster_advertise` says. It leads nowhere here: otherwise they would connect past the proxy.
 */
export async function startNatsCluster(t: Pick<Test, "teardown">, size = 3): Promise<NatsCluster> {
  for (;;) {
    try {
      return await startOnFreePorts(t, size);
    } catch (error) {
      // A port that was free has been taken by another test meanwhile.
      if (!String(error).includes("address already in use")) throw error;
    }
  }
}

async function startOnFreePorts(t: Pick<Test, "teardown">, size: number): Promise<NatsCluster> {
  const ports = await Promise.all(Array.from({ length: size }, () => freePort()));
  // [higher][lower]: of two servers the one with the higher number connects to the other.
  const proxies = await Promise.all(ports.map((_, i) => Promise.all(ports.slice(0, i).map((port) => startProxy(t, port)))));
  const proxiesOf = (i: number): Proxy[] => proxies.flatMap((to, from) => (from === i ? to : to.filter((_, lower) => lower === i)));
  const monitors = await Promise.all(ports.map(() => freePort()));
  const servers = await Promise.all(ports.map((port, i) => startNats(t, {
    flags: [
      "--server_name", `n${i}`, "--no_advertise", "-m", `${monitors[i]}`,
      "--cluster_name", "test", "--cluster", `nats://127.0.0.1:${port}`, "--cluster_advertise", nowhere.slice("nats://".length),
      // As many as there are servers: it takes the size of the cluster from their number.
      "--routes", ports.map((_, to) => (to < i ? `nats://127.0.0.1:${proxies[i]![to]!.port}` : nowhere)).join(","),
    ],
  })));
  /** How many servers each has routes to: newer ones have several to one. */
  const peers = (): Promise<number[]> => Promise.all(monitors.map(async (port) => {
    const { routes } = (await (await fetch(`http://127.0.0.1:${port}/routez`)).json()) as { routes: readonly { readonly remote_id: string }[] };
    return new Set(routes.map(({ remote_id }) => remote_id)).size;
  }));
  const joined = (): Promise<void> => until(async () => (await peers()).every((count) => count === size - 1), "every server to have a route to every other", electedMs);
  await joined();
  const connections = await Promise.all(servers.map(({ port }) => connect({ servers: `127.0.0.1:${port}`, maxReconnectAttempts: -1, reconnectTimeWait: 100 })));
  t.teardown(() => Promise.all(connections.map((connection) => connection.close())));
  for (const one of connections) await until(async () => "memory" in (await ask(one, "INFO")), "JetStream to have a leader", electedMs);
  // The leader places streams only on servers that it has heard of, which comes later than the election.
  const probe = JSON.stringify({ name: "PROBE", subjects: ["probe"], storage: "memory", num_replicas: size });
  await until(async () => "config" in (await ask(connections[0]!, "STREAM.CREATE.PROBE", probe)), "a stream on every server", electedMs);
  await until(async () => (await ask(connections[0]!, "STREAM.DELETE.PROBE")).success === true, "that stream to go", electedMs);
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
    cut: async (server) => {
      const i = servers.indexOf(server);
      for (const proxy of proxiesOf(i)) (proxy.refuse(true), proxy.cut());
      await until(async () => (await peers()).every((count, at) => count === (at === i ? 0 : size - 2)), "the routes to be gone");
    },
    join: async () => {
      for (const proxy of proxies.flat()) proxy.refuse(false);
      await joined();
    },
  };
}

async function ask(connection: NatsConnection, call: string, body = ""): Promise<Record<string, unknown>> {
  try {
    return (await connection.request(`$JS.API.${call}`, body, { timeout: 1_000 })).json<Record<string, unknown>>();
  } catch {
    return {}; // nobody leads, or the server is gone
  }
}

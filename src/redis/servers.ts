/** The servers behind a client of Redis: their run ids, and how to drop their connections. */
import type { Cluster, Redis } from "ioredis";

/**
 * Run ids of the servers that take writes. Every start of a server process has a new one. `all`: every server has
 * answered.
 */
export interface RunIds {
  readonly known: readonly string[];
  readonly all: boolean;
}

export async function runIdsOf(client: Redis | Cluster): Promise<RunIds> {
  const servers = "nodes" in client ? client.nodes("master") : [client];
  const infos = await Promise.all(servers.map((server) => server.call("INFO", "server").catch(() => "")));
  const known = infos.flatMap((info) => /^run_id:(\w+)/m.exec(String(info))?.[1] ?? []);
  return { known, all: known.length === servers.length };
}

/**
 * Disconnects for good. This makes a TLS handshake under way fail. The client listens to one error of its socket, and a
 * second one would be uncaught.
 */
export function drop(client: Redis | Cluster): void {
  const connections = "nodes" in client ? client.nodes() : [client];
  for (const { stream } of connections) stream?.on("error", () => undefined);
  client.disconnect();
}

/** The servers behind a client of Redis: which processes they are, and how their connections end. */
import type { Cluster, Redis } from "ioredis";

/** Another for every process, and every start of one: of each server that may be written to, as far as it says. */
export interface Lives {
  readonly known: readonly string[];
  readonly all: boolean;
}

export async function livesOf(client: Redis | Cluster): Promise<Lives> {
  const servers = "nodes" in client ? client.nodes("master") : [client];
  const infos = await Promise.all(servers.map((server) => server.call("INFO", "server").catch(() => "")));
  const known = infos.flatMap((info) => /^run_id:(\w+)/m.exec(String(info))?.[1] ?? []);
  return { known, all: known.length === servers.length };
}

/**
 * Disconnects for good. A TLS handshake that is under way fails by that, and a second error on its socket would be nobody's:
 * the client listens to one.
 */
export function drop(client: Redis | Cluster): void {
  const connections = "nodes" in client ? client.nodes() : [client];
  for (const { stream } of connections) stream?.on("error", () => undefined);
  client.disconnect();
}

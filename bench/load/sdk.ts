/** Many clients of the SDK in this process: how they connect, and how they ask where. */
import { Agent, get } from "node:http";
import type { Client, Located, LocateQuestion } from "../../src/client/index.ts";
import type { Teardown } from "../rows/cluster.ts";

/** Sessions that connect at a time. */
const connecting = 500;

/** In groups, so that the node's backlog is not what is measured. */
export async function connectAll(clients: Client[], wanted: number, make: () => Client): Promise<void> {
  while (clients.length < wanted) {
    const group = Array.from({ length: Math.min(connecting, wanted - clients.length) }, make);
    clients.push(...group);
    await Promise.all(group.map(isReady));
  }
  await Promise.all(clients.map(isReady));
}

export function isReady(client: Client): Promise<void> {
  return client.state === "ready" ? Promise.resolve() : new Promise((resolve) => client.on("ready", () => resolve()));
}

/**
 * Asks as the SDK does, over kept connections. Thousands of fetches in the one process of all clients would measure that
 * process.
 */
export function asker(port: number, teardown: Teardown): (question: LocateQuestion) => Promise<Located> {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  teardown(() => agent.destroy());
  return ({ not, ticket, signal }) => new Promise((resolve, reject) => {
    const query = new URLSearchParams({ ...(not.length > 0 && { not: not.join() }), ...(ticket !== "" && { resume: ticket }) });
    const request = get({ host: "127.0.0.1", port, path: `/api/connection-url?${query}`, agent, signal }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => (text += part)).on("error", reject);
      response.on("end", () => (response.statusCode === 200 ? resolve(JSON.parse(text) as Located) : reject(new Error(text))));
    });
    request.on("error", reject);
  });
}

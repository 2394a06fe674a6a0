/** What a cluster of nats-servers keeps of what it acknowledged when routes are cut: without a gateway, as a control. */
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type NatsConnection } from "nats";
import type { Test } from "tap";
import { startNatsCluster } from "./natscluster.ts";

export interface Kept {
  readonly acknowledged: number;
  /** Publications in whose place a replica, once it led, had another one. */
  readonly replaced: number;
  readonly first: readonly string[];
}

const publishers = 6;
const everyMs = 60;
const cuts = 3;
const cutMs = 12_000;
const askedAtOnce = 64;
const stream = "CONTROL";

export async function keptThroughCuts(t: Pick<Test, "teardown">): Promise<Kept> {
  const cluster = await startNatsCluster(t);
  const connections = await Promise.all(cluster.servers.map(({ port }) => connect({ servers: `127.0.0.1:${port}`, maxReconnectAttempts: -1 })));
  t.teardown(() => Promise.all(connections.map((one) => one.close())));
  await ask(connections[1]!, `STREAM.CREATE.${stream}`, { name: stream, subjects: ["control.>"], storage: "file", num_replicas: 3 });
  const acknowledged = new Map<number, string>();
  let stopped = false;
  const publishing = Array.from({ length: publishers }, async (_, p) => {
    const connection = connections[p % connections.length]!;
    for (let i = 0; !stopped; i++) {
      const id = `${p}-${i}`;
      const answer = await connection.request(`control.${p}`, id, { timeout: 3_000 }).then((message) => message.json<{ seq?: number; error?: unknown }>(), () => null);
      if (answer?.error === undefined && (answer?.seq ?? 0) > 0) acknowledged.set(answer!.seq!, id);
      await sleep(everyMs);
    }
  });
  for (let cut = 0; cut < cuts; cut++) {
    await sleep(2_000);
    await ask(connections[1]!, `STREAM.LEADER.STEPDOWN.${stream}`);
    await sleep(2_000);
    await cluster.cut(cluster.servers[0]!);
    await sleep(cutMs);
    await cluster.join();
    await cluster.whole(stream);
  }
  stopped = true;
  await Promise.all(publishing);
  await cluster.whole(stream);
  const replaced = new Map<number, string>();
  // Each replica answers for itself while it leads: the next leader is another one, mostly.
  for (let look = 0; look < 6; look++) {
    const connection = connections[cluster.servers.indexOf(await cluster.leaderOf(stream))]!;
    const all = [...acknowledged];
    for (let i = 0; i < all.length; i += askedAtOnce) {
      await Promise.all(all.slice(i, i + askedAtOnce).map(async ([seq, id]) => {
        const { message } = await ask(connection, `STREAM.MSG.GET.${stream}`, { seq });
        const stored = message === undefined ? id : Buffer.from(message.data, "base64").toString();
        if (stored !== id) replaced.set(seq, `${seq}: acknowledged ${id}, stored ${stored}`);
      }));
    }
    await ask(connection, `STREAM.LEADER.STEPDOWN.${stream}`);
    await sleep(1_500);
  }
  return { acknowledged: acknowledged.size, replaced: replaced.size, first: [...replaced.values()].slice(0, 3) };
}

/** Empty: there was no answer. */
async function ask(connection: NatsConnection, call: string, body: object = {}): Promise<{ readonly message?: { readonly data: string } }> {
  return connection.request(`$JS.API.${call}`, JSON.stringify(body), { timeout: 2_000 }).then((message) => message.json(), () => ({}));
}

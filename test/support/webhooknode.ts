/** Presence and webhooks of a node on Redis, without the node around them. */
import type { Test } from "tap";
import { resolveConfig } from "../../src/config/config.ts";
import { compileKinds } from "../../src/config/roomnames.ts";
import { createRedisFacts } from "../../src/facts/redis/redis.ts";
import { createRedisPresence, type RedisPresence } from "../../src/presence/redis/redis.ts";
import { openRedis } from "../../src/redis/open.ts";
import type { RedisLink } from "../../src/redis/redis.ts";
import { readRedisTarget } from "../../src/redis/target.ts";
import { endpointsOf, Webhooks } from "../../src/webhooks/webhooks.ts";
import { hookSecret } from "./hookbackend.ts";
import type { Receiver } from "./receiver.ts";

const quiet = { info() {}, warn() {}, error() {} };
const limits = { graceMs: 20, intervalMs: 20, namedUsersMax: 100, namedChangesMax: 100, lastSeenTtlMs: 3_600_000 };

export interface WebhookNode {
  readonly presence: RedisPresence;
  readonly webhooks: Webhooks;
  readonly link: RedisLink;
  /** As kill -9: nothing is written any more. */
  kill(): Promise<void>;
}

/** @param address of Redis */
export async function startWebhookNode(t: Test, address: string, prefix: string, name: string, receiver: Receiver, { graceMs = limits.graceMs, sessionTtlMs = 60, aliveMs = 60_000, eventsMax = 1_000_000 } = {}): Promise<WebhookNode> {
  const link = await openRedis({ target: readRedisTarget(address)!, answerMs: 5_000, log: quiet });
  const { config } = resolveConfig({ options: { hookSecret, webhooksAllowPrivate: true, webhookEventsMax: eventsMax, webhooks: { a: { url: `${receiver.url}/a` }, b: { url: `${receiver.url}/b`, events: ["room.*"] } } } as never });
  const kindOf = compileKinds(config);
  const facts = createRedisFacts({ redis: link, prefix, node: name, endpointsOf: endpointsOf(config) });
  let presence: RedisPresence | null = null;
  const webhooks: Webhooks = new Webhooks({ config, version: "test", facts, log: quiet as never, onTold: (subject) => presence?.factsTold(subject) });
  const wanted = { ofRoom: (room: string) => kindOf(room)?.facts ?? "", ofUsers: "cefn", sessionTtlMs, isFull: () => webhooks.isFull, refused: () => void webhooks.admits() };
  presence = await createRedisPresence({
    ...limits, graceMs, redis: link, prefix, node: name, aliveMs, log: quiet,
    facts: { ...wanted, look: (...call) => webhooks.look(...call), has: (...call) => webhooks.has(...call) },
  }, { roomChanged() {}, statusChanged() {} });
  let isDead = false;
  const kill = async () => {
    isDead = true;
    await link.close();
    await webhooks.close();
  };
  t.teardown(async () => {
    if (isDead) return void presence.stop().catch(() => undefined);
    await presence.stop();
    await webhooks.close();
    await link.close();
  });
  return { presence, webhooks, link, kill };
}

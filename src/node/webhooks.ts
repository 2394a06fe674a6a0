/** Builds what webhooks need: the lists of facts, in memory or in Redis, and those who tell them. */
import type { Config } from "../config/config.ts";
import { compileKinds } from "../config/roomnames.ts";
import { lettersOfUsers } from "../config/webhooks.ts";
import type { Facts, Subject } from "../facts/facts.ts";
import { createMemoryFacts, type MemoryFacts } from "../facts/memory.ts";
import { createRedisFacts } from "../facts/redis/redis.ts";
import type { Logger } from "../platform/log/log.ts";
import { version } from "../platform/version.ts";
import type { AddedFacts, WantedFacts } from "../presence/presence.ts";
import { nameOfRoom } from "../protocol/roomkeys.ts";
import type { RedisLink } from "../redis/redis.ts";
import type { Webhooks } from "../webhooks/webhooks.ts";

export interface NodeWebhooks extends Pick<Webhooks, "start" | "look" | "has" | "failed" | "replay" | "usage"> {
  readonly wanted: WantedFacts;
  /** What presence in memory adds to. With Redis its scripts add. */
  readonly added: AddedFacts;
  /** Set by those who keep lists of subjects: nothing of this one waits any more. */
  onTold: (subject: Subject) => void;
  close(): Promise<void>;
}

/** Null where no endpoint is configured. */
export async function openWebhooks(config: Config, redis: RedisLink | null, log: Logger): Promise<NodeWebhooks | null> {
  if (Object.keys(config.webhooks).length === 0) return null;
  // Loaded only here: the client for HTTP takes memory.
  const { Webhooks, endpointsOf } = await import("../webhooks/webhooks.ts");
  const of = { endpointsOf: endpointsOf(config) };
  const own: MemoryFacts | null = redis === null ? createMemoryFacts(of) : null;
  const facts: Facts = own ?? createRedisFacts({ ...of, redis: redis!, prefix: config.redisPrefix, node: config.nodeId });
  const webhooks: Webhooks = new Webhooks({ config, version, facts, log, onTold: (subject) => node.onTold(subject) });
  const wanted = wantedBy(config);
  if (own !== null) log.info("webhooks: events wait in this node's memory, and are lost when it exits; with Redis they are not");
  const node: NodeWebhooks = {
    start: () => webhooks.start(),
    look: (...call) => webhooks.look(...call),
    has: (...call) => webhooks.has(...call),
    failed: (...call) => webhooks.failed(...call),
    replay: (...call) => webhooks.replay(...call),
    usage: () => webhooks.usage(),
    wanted,
    added: {
      ...wanted,
      add(subject, fact) {
        own?.add(subject, fact);
        webhooks.look(subject);
      },
    },
    onTold: () => {},
    async close() {
      await webhooks.close();
      if (own !== null && own.size > 0) log.warn({ events: own.size }, "webhooks: events were not told yet and are lost, as this node keeps them in memory; with Redis they wait for other nodes");
      await facts.stop();
    },
  };
  return node;
}

function wantedBy(config: Config): WantedFacts {
  const kindOf = compileKinds(config);
  return { ofRoom: (room) => kindOf(nameOfRoom(room))?.facts ?? "", ofUsers: lettersOfUsers(config.webhooks), sessionTtlMs: config.sessionTtlMs };
}

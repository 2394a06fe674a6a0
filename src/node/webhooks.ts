/** Builds what webhooks need: the lists of facts, in Redis, on disk or in memory, and those who tell them. */
import type { Config } from "../config/config.ts";
import { compileKinds } from "../config/roomnames.ts";
import { lettersOfUsers } from "../config/told.ts";
import type { Facts, Subject } from "../facts/facts.ts";
import { createDiskFacts, type DiskFacts, type DiskFactsOptions } from "../facts/disk.ts";
import { createMemoryFacts, type OwnedFacts } from "../facts/memory.ts";
import { createRedisFacts } from "../facts/redis/redis.ts";
import type { Logger } from "../platform/log/log.ts";
import { version } from "../platform/version.ts";
import type { AddedFacts, WantedFacts } from "../presence/presence.ts";
import { nameOfRoom } from "../protocol/roomkeys.ts";
import type { RedisLink } from "../redis/redis.ts";
import type { Webhooks } from "../webhooks/webhooks.ts";

export interface NodeWebhooks extends Pick<Webhooks, "start" | "look" | "back" | "has" | "failed" | "replay" | "usage" | "queue"> {
  readonly wanted: WantedFacts;
  /** What presence in memory adds to. With Redis its scripts add. */
  readonly added: AddedFacts;
  /** Set by those who keep lists of subjects: nothing of this one waits any more. */
  onTold: (subject: Subject) => void;
  /** Keeps events in the data directory. Called before anything else, where there is one. Null: Redis keeps them. @throws DataDirError */
  openOnDisk(disk: Pick<DiskFactsOptions, "folder" | "sync" | "uncommittedBytesMax" | "log">): Promise<Pick<DiskFacts, "disk"> | null>;
  close(): Promise<void>;
}

/** Null where no endpoint is configured. */
export async function openWebhooks(config: Config, redis: RedisLink | null, log: Logger): Promise<NodeWebhooks | null> {
  if (Object.keys(config.webhooks).length === 0) return null;
  // Loaded only here: the client for HTTP takes memory.
  const { Webhooks, endpointsOf } = await import("../webhooks/webhooks.ts");
  const of = { endpointsOf: endpointsOf(config) };
  let own: OwnedFacts | null = null;
  let facts: Facts;
  let webhooks: Webhooks;
  let isClosed = false;
  const begin = (found: Facts) => {
    facts = found;
    webhooks = new Webhooks({ config, version, facts, log, onTold: (subject) => node.onTold(subject) });
  };
  const isOnDisk = redis === null && config.dataDir !== "";
  if (redis !== null) begin(createRedisFacts({ ...of, redis, prefix: config.redisPrefix, node: config.nodeId }));
  else if (!isOnDisk) {
    begin((own = createMemoryFacts(of)));
    log.info("webhooks: events wait in this node's memory, and are lost when it exits; with --data-dir or Redis they are not");
  }
  const wanted = wantedBy(config, () => webhooks);
  const node: NodeWebhooks = {
    start: () => webhooks.start(),
    look: (...call) => webhooks.look(...call),
    back: (...call) => webhooks.back(...call),
    has: (...call) => webhooks.has(...call),
    failed: (...call) => webhooks.failed(...call),
    replay: (...call) => webhooks.replay(...call),
    usage: () => webhooks.usage(),
    queue: () => webhooks.queue(),
    wanted,
    added: {
      ...wanted,
      add(subject, fact) {
        if (!webhooks.admits()) return;
        own?.add(subject, fact);
        webhooks.look(subject);
      },
    },
    onTold: () => {},
    async openOnDisk(disk) {
      if (!isOnDisk) return null;
      const opened = await createDiskFacts({ ...of, ...disk });
      begin((own = opened));
      return opened;
    },
    async close() {
      if (isClosed) return;
      isClosed = true;
      await webhooks.close();
      const events = own?.usage().events ?? 0;
      if (events > 0 && isOnDisk) log.info({ events }, "webhooks: events were not told yet; the next start tells them");
      else if (events > 0) log.warn({ events }, "webhooks: events were not told yet and are lost, as this node keeps them in memory; with --data-dir or Redis they are not");
      await facts.stop();
    },
  };
  return node;
}

function wantedBy(config: Config, webhooks: () => Webhooks): WantedFacts {
  const kindOf = compileKinds(config);
  return {
    ofRoom: (room) => kindOf(nameOfRoom(room))?.facts ?? "",
    ofUsers: lettersOfUsers(config.webhooks),
    sessionTtlMs: config.sessionTtlMs,
    isFull: () => webhooks().isFull,
    refused: () => void webhooks().admits(),
  };
}

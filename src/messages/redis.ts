/** Messages between nodes over channels of Redis: one for each node, one for all. */
import { z } from "zod";
import type { Command, RedisLink } from "../redis/redis.ts";
import type { MessageEvents, NodeMessage, NodeMessages } from "./messages.ts";

export interface RedisMessagesOptions {
  readonly redis: RedisLink;
  readonly prefix: string;
  readonly id: string;
  readonly log: { warn(fields: object, text: string): void };
}

/** Messages that wait for Redis to be back. */
const waitingMax = 10_000;

const envelope = z.object({
  from: z.string(),
  message: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("taken"), session: z.string(), generation: z.number() }),
    z.object({ kind: z.literal("disconnect"), tenant: z.string(), user: z.string() }),
    z.object({ kind: z.literal("drain"), windowMs: z.number().min(0).optional(), url: z.string().optional() }),
  ]),
});

/** @throws where the channels cannot be subscribed to. */
export async function createRedisMessages({ redis, prefix, id, log }: RedisMessagesOptions, events: MessageEvents): Promise<NodeMessages> {
  const channelOf = (node: string) => `${prefix}node:${node}`;
  // No node is called so: a name holds no asterisk.
  const all = channelOf("*");
  let waiting: Command[] = [];
  let dropping = false;
  let stopped = false;

  const onMessage = (text: string) => {
    const read = envelope.safeParse(parse(text));
    if (stopped || !read.success || read.data.from === id) return;
    events.received(read.data.message);
  };
  await redis.subscribe(channelOf(id), onMessage);
  await redis.subscribe(all, onMessage);
  redis.onUp(() => {
    dropping = false;
    for (const command of waiting.splice(0)) publish(command);
  });

  function publish(command: Command): void {
    redis.run(...command).catch(() => keep(command));
  }

  function keep(command: Command): void {
    if (stopped) return;
    if (waiting.length < waitingMax) return void waiting.push(command);
    if (!dropping) log.warn({ waiting: waitingMax }, "messages to other nodes are dropped: too many wait for Redis to be back");
    dropping = true;
  }

  const toChannel = (channel: string, message: NodeMessage) => publish(["publish", channel, JSON.stringify({ from: id, message })]);
  return {
    send(node, message) {
      toChannel(channelOf(node), message);
    },

    sendAll(message) {
      toChannel(all, message);
    },

    async stop() {
      stopped = true;
      waiting = [];
    },
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // nothing of ours
  }
}

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

const name = z.string().max(256);
const tenant = name.optional();
const count = z.int().min(0);
const replyTo = z.object({ node: name, survey: name });

const question = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("health") }),
  z.object({ kind: z.literal("user"), user: name, tenant }),
  z.object({ kind: z.literal("room"), room: z.string().max(4096), tenant }),
]);

const answer = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("health"), ready: z.boolean(), problem: name, sessions: count, users: count, rooms: count,
    redis: z.boolean().nullable(), nats: z.boolean().nullable(),
  }),
  z.object({ kind: z.literal("user"), sessions: count }),
  z.object({ kind: z.literal("room"), members: count }),
]);

const envelope = z.object({
  from: z.string(),
  message: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("taken"), session: z.string(), generation: z.number() }),
    z.object({ kind: z.literal("disconnect"), tenant: z.string(), user: z.string(), replyTo: replyTo.optional() }),
    z.object({ kind: z.literal("question"), question, replyTo }),
    z.object({ kind: z.literal("answer"), survey: name, node: name, answer }),
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

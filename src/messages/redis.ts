/** Messages between nodes over channels of Redis: one for each node, one for all. */
import { z } from "zod";
import { randomId } from "../ids.ts";
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
/** Nodes find back to Redis one after the other: what has waited for it is said so often, so far apart, and heard once. */
const timesSaid = 6;
const saidAgainMs = 2_000;
/** Messages that are known to have been heard. */
const heardMax = 10_000;

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
  /** Of this message alone. */
  once: name.optional(),
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
  const heard = new Set<string>();
  const timers = new Set<NodeJS.Timeout>();
  let dropping = false;
  let stopped = false;

  const onMessage = (text: string) => {
    const read = envelope.safeParse(parse(text));
    if (stopped || !read.success || read.data.from === id || isKnown(read.data.once)) return;
    events.received(read.data.message);
  };
  await redis.subscribe(channelOf(id), onMessage);
  await redis.subscribe(all, onMessage);
  redis.onUp(() => {
    dropping = false;
    const late = waiting.splice(0);
    for (const command of late) publish(command);
    sayAgain(late, timesSaid - 1);
  });

  function isKnown(once: string | undefined): boolean {
    if (once === undefined) return false;
    if (heard.has(once)) return true;
    heard.add(once);
    // In the order in which they were heard.
    if (heard.size > heardMax) heard.delete(first(heard));
    return false;
  }

  function sayAgain(late: readonly Command[], times: number): void {
    if (late.length === 0 || times === 0) return;
    const timer = setTimeout(() => {
      timers.delete(timer);
      // Away once more: it was said already.
      for (const command of late) redis.run(...command).catch(() => undefined);
      sayAgain(late, times - 1);
    }, saidAgainMs).unref();
    timers.add(timer);
  }

  function publish(command: Command): void {
    redis.run(...command).catch(() => keep(command));
  }

  function keep(command: Command): void {
    if (stopped) return;
    if (waiting.length < waitingMax) return void waiting.push(command);
    if (!dropping) log.warn({ waiting: waitingMax }, "messages to other nodes are dropped: too many wait for Redis to be back");
    dropping = true;
  }

  const toChannel = (channel: string, message: NodeMessage) => publish(["publish", channel, JSON.stringify({ from: id, once: randomId(9), message })]);
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
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

function first(all: Set<string>): string {
  for (const one of all) return one;
  return "";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // nothing of ours
  }
}

/** Messages between nodes over channels of Redis: one for each node, one for all. */
import * as z from "zod";
import { randomId } from "../platform/ids.ts";
import { RedisAway, type RedisLink } from "../redis/redis.ts";
import { roomPatternsMax, roomsPerPageMax } from "./survey.ts";
import { holds, type MessageEvents, type NodeMessage, type NodeMessages } from "./messages.ts";

export interface RedisMessagesOptions {
  readonly redis: RedisLink;
  readonly prefix: string;
  readonly id: string;
  readonly log: { warn(fields: object, text: string): void };
  /** Replaced in tests. */
  readonly refusedAgainMs?: number;
}

/** A message that must be delivered later if not now. */
interface Kept {
  readonly channel: string;
  readonly once: string;
  readonly message: NodeMessage;
  /** When Redis was first available for it, and the store had the fact. Null: not yet. */
  since: number | null;
}

/** Messages that wait while Redis is unavailable or refuses them. */
const waitingMax = 10_000;
/** Retry interval after Redis has refused messages. */
const refusedAgainMsDefault = 5_000;
/**
 * Nodes reconnect to Redis one after the other. So a message that waited is sent so often, at this interval, and
 * handled once.
 */
const timesSaid = 6;
const saidAgainMs = 2_000;
/** Received messages that are remembered, to ignore repetitions. */
const heardMax = 10_000;

const name = z.string().max(256);
const room = z.string().max(4096);
const tenant = name.optional();
const count = z.int().min(0);
const replyTo = z.object({ node: name, survey: name });

const question = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("health") }),
  z.object({ kind: z.literal("user"), user: name, tenant }),
  z.object({ kind: z.literal("room"), room, tenant }),
  z.object({ kind: z.literal("sessions"), user: name, tenant: name }),
  z.object({ kind: z.literal("rooms"), tenant: name, prefix: room, after: room, limit: count.max(roomsPerPageMax), patterns: z.array(name).max(roomPatternsMax).optional() }),
  z.object({ kind: z.literal("look"), about: name, user: name.optional(), tenant, after: count.optional() }),
]);

const answer = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("health"), ready: z.boolean(), problem: name, sessions: count, users: count, rooms: count,
    redis: z.boolean().nullable(), nats: z.boolean().nullable(),
    partitions: z.object({ held: count, max: count, unowned: count, backlog: count, oldestMs: z.number().min(0) }).optional(),
    drain: z.object({ sessions: count, left: count, windowMs: count, elapsedMs: count }).optional(),
  }),
  z.object({ kind: z.literal("user"), sessions: count }),
  z.object({ kind: z.literal("room"), members: count }),
  z.object({ kind: z.literal("sessions"), sessions: z.array(z.object({ session: name, device: name, rooms: count })) }),
  z.object({ kind: z.literal("rooms"), rooms: z.array(z.tuple([room, count])).max(roomsPerPageMax), more: z.boolean() }),
  z.object({ kind: z.literal("look"), said: z.unknown() }),
  z.object({ kind: z.literal("assigned"), sessions: count, refused: count }),
  z.object({ kind: z.literal("settings"), weight: count, maxPartitions: count.optional() }),
]);

const envelope = z.object({
  from: z.string(),
  /** The id of this message. */
  once: name.optional(),
  message: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("taken"), session: z.string(), generation: z.number() }),
    z.object({ kind: z.literal("disconnect"), tenant: z.string(), user: z.string(), replyTo: replyTo.optional(), agoMs: z.number().min(0).optional(), signedOutAt: count.optional() }),
    z.object({ kind: z.literal("assigned"), tenant: name, user: name, room: room.optional(), replyTo: replyTo.optional() }),
    z.object({ kind: z.literal("reconnect"), tenant: name, user: name, url: z.string().max(2048), replyTo }),
    z.object({ kind: z.literal("question"), question, replyTo }),
    z.object({ kind: z.literal("answer"), survey: name, node: name, answer }),
    z.object({ kind: z.literal("drain"), started: z.number(), windowMs: z.number().min(0).optional(), url: z.string().optional() }),
    z.object({ kind: z.literal("settings"), started: z.number(), weight: z.number().optional(), maxPartitions: z.number().optional(), replyTo }),
  ]),
});

/** @throws where the channels cannot be subscribed to. */
export async function createRedisMessages(options: RedisMessagesOptions, events: MessageEvents): Promise<NodeMessages> {
  const { redis, prefix, id, log, refusedAgainMs = refusedAgainMsDefault } = options;
  const channelOf = (node: string) => `${prefix}node:${node}`;
  // No node has this name, since names contain no asterisk.
  const all = channelOf("*");
  let waiting: Kept[] = [];
  const heard = new Set<string>();
  const timers = new Set<NodeJS.Timeout>();
  let dropping = false;
  let refused = false;
  let tryingAgain = false;
  let stopped = false;

  const onMessage = (text: string) => {
    const read = envelope.safeParse(parse(text));
    if (stopped || !read.success || read.data.from === id || isKnown(read.data.once)) return;
    const { message } = read.data;
    redis.contain(() => events.received(message));
  };
  await redis.subscribe(channelOf(id), onMessage);
  await redis.subscribe(all, onMessage);
  redis.onUp(() => {
    dropping = false;
    refused = false;
    const late = waiting.splice(0);
    for (const kept of late) void say(kept);
    sayAgain(late, timesSaid - 1);
  });

  function isKnown(once: string | undefined): boolean {
    if (once === undefined) return false;
    if (heard.has(once)) return true;
    heard.add(once);
    // In the order in which they were received.
    if (heard.size > heardMax) heard.delete(first(heard));
    return false;
  }

  function sayAgain(late: readonly Kept[], times: number): void {
    if (late.length === 0 || times === 0) return;
    later(saidAgainMs, () => {
      // Redis is unavailable again: the message was sent before.
      for (const kept of late) sayOnce(kept).catch(() => undefined);
      sayAgain(late, times - 1);
    });
  }

  function later(ms: number, then: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      then();
    }, ms).unref();
    timers.add(timer);
  }

  function tell(channel: string, message: NodeMessage): void {
    if (holds(message)) void say({ channel, once: randomId(9), message, since: null });
    else publish(channel, { message }).catch(noticeRefusal);
  }

  /** Resolves with whether the message was sent; otherwise it waits. */
  async function say(kept: Kept): Promise<boolean> {
    try {
      await sayOnce(kept);
      return true;
    } catch (error) {
      keep(kept);
      if (noticeRefusal(error)) tryAgain();
      return false;
    }
  }

  async function sayOnce(kept: Kept): Promise<void> {
    const { channel, once, message, since } = kept;
    const at = performance.now();
    try {
      await publish(channel, { once, message: since === null ? message : aged(message, at - since) });
      kept.since ??= at;
    } catch (error) {
      if (!(error instanceof RedisAway)) kept.since ??= at;
      throw error;
    }
  }

  async function publish(channel: string, said: { readonly once?: string; readonly message: NodeMessage }): Promise<void> {
    await redis.run("publish", channel, JSON.stringify({ from: id, ...said }));
    refused = false;
  }

  /** Redis refuses to publish. Logged once, until it succeeds or the connection is lost. */
  function noticeRefusal(error: unknown): boolean {
    if (error instanceof RedisAway) return false;
    const problem = error instanceof Error ? error.message : String(error);
    if (!refused) log.warn({ problem }, "Redis refuses to publish: other nodes learn late of resumed sessions and of disconnected users; check the right to publish; the node retries");
    refused = true;
    return true;
  }

  /** Tries one message first, since Redis refuses all or none. */
  function tryAgain(): void {
    if (tryingAgain || stopped) return;
    tryingAgain = true;
    later(refusedAgainMs, async () => {
      tryingAgain = false;
      const [probe] = waiting.splice(0, 1);
      if (probe === undefined || !(await say(probe))) return;
      for (const kept of waiting.splice(0)) void say(kept);
    });
  }

  function keep(kept: Kept): void {
    if (stopped) return;
    if (waiting.length < waitingMax) return void waiting.push(kept);
    if (!dropping) log.warn({ waiting: waitingMax }, "messages to other nodes are dropped: too many wait for Redis");
    dropping = true;
  }

  return {
    send(node, message) {
      tell(channelOf(node), message);
    },

    sendAll(message) {
      tell(all, message);
    },

    async stop() {
      stopped = true;
      waiting = [];
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

function aged(message: NodeMessage, ms: number): NodeMessage {
  if (message.kind === "assigned") return { kind: message.kind, tenant: message.tenant, user: message.user };
  if (message.kind !== "disconnect") return message;
  const { kind, tenant, user, signedOutAt } = message;
  return { kind, tenant, user, signedOutAt, agoMs: Math.round(ms) };
}

function first(all: Set<string>): string {
  for (const one of all) return one;
  return "";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not a message of a node
  }
}

/**
 * The registry of all nodes on one Redis. A hash holds an entry per node, written with every heartbeat and read more
 * often. On a channel, nodes announce at once that they start, drain or leave.
 */
import type { RedisLink } from "../redis/redis.ts";
import { Script } from "../redis/scripts.ts";
import { LiveNodes, type Entry } from "./livenodes.ts";
import type { NodeFacts, OwnState, Registry, RegistryEvents } from "./registry.ts";

export interface RedisRegistryOptions {
  readonly redis: RedisLink;
  /** The prefix of all keys and channels. */
  readonly prefix: string;
  readonly id: string;
  readonly facts: () => NodeFacts;
  readonly heartbeatMs: number;
  readonly deadMs: number;
  readonly log: { error(fields: object, text: string): void };
  /** Replaced in tests: milliseconds since 1970, which may step. */
  readonly clock?: () => number;
}

/** Reads of the hash between two heartbeats. They bound how late a dead node is noticed. */
const looksPerHeartbeat = 5;
/** The entry of a dead node is removed after this many times `deadMs`. */
const forgetFactor = 20;
const leaveMs = 1_000;

const forgetNode = new Script(1, "registry/lua/forget.lua");

/** @throws where the channel cannot be subscribed to. */
export async function createRedisRegistry(options: RedisRegistryOptions, events: RegistryEvents): Promise<Registry> {
  const { redis, prefix, id, facts, heartbeatMs, deadMs, log, clock = Date.now } = options;
  const key = `${prefix}gateway:nodes`;
  const channel = `${prefix}gateway:events`;
  const lookMs = heartbeatMs / looksPerHeartbeat;
  const liveNodes = new LiveNodes({
    self: id, deadMs, forgetMs: forgetFactor * deadMs, gapMs: heartbeatMs / 2, clock: () => performance.now(),
    events: { nodeChanged: (change) => redis.contain(() => events.nodeChanged(change)) },
  });
  let state: OwnState | null = null;
  let written = "";
  let beatAt = 0;
  let lookedAt = performance.now();
  let looking: Promise<void> | null = null;
  let wasAway = false;
  let doubled = false;
  let refused = false;
  let stopped = false;

  await redis.subscribe(channel, (message) => {
    const event = parse(message);
    if (event === null || event.node === id) return;
    if (event.kind === "left") liveNodes.left(event.node);
    else liveNodes.heard(event.node, event.entry);
  });
  redis.onUp(() => {
    wasAway = true;
    void look(true);
  });
  redis.onMissed(() => void look(false));
  const timer = setInterval(() => void look(performance.now() - beatAt >= heartbeatMs - lookMs / 2), lookMs).unref();
  await look(false);

  function entry(current: OwnState): string {
    const { last_heartbeat: before } = parseEntry(written);
    // Each heartbeat must change the entry, even if the clock stands still.
    const now = clock();
    const said: Entry = { ...facts(), state: current, last_heartbeat: now === before ? now + 1 : now };
    return (written = JSON.stringify(said));
  }

  /** Runs one look at a time: a second one would find the same. */
  function look(beat: boolean): Promise<void> {
    looking ??= lookOnce(beat).finally(() => (looking = null));
    return looking;
  }

  async function lookOnce(beat: boolean): Promise<void> {
    if (!redis.up || stopped) return;
    const beats = beat && state !== null;
    if (beats) beatAt = performance.now();
    try {
      const results = await redis.runAll([...(beats ? [["hset", key, id, entry(state!)] as const] : []), ["hgetall", key]]);
      if (beats && !accepted(results[0])) return;
      const all = results.at(-1);
      // Anything else is an error: another type of value under this key, or no permission.
      wasAway ||= !isHash(all);
      if (stopped || !isHash(all)) return;
      const entries = new Map(Object.entries(all));
      lookedAt = performance.now();
      if (state !== null && beatAt !== -Infinity) noticeDouble(entries.get(id));
      liveNodes.look(entries, wasAway);
      wasAway = false;
      for (const [gone, text] of liveNodes.forgettable()) await forget(gone, text);
    } catch {
      // The link has logged that Redis is unavailable. Until it is back this is stale, and the entry may not be
      // written.
      beatAt = -Infinity;
    }
  }

  /**
   * Handles the result of writing this node's entry. A Redis that refuses writes (full, or no primary any more) makes
   * every node look silent. So its data judges no node, and afterwards every node has the whole time again.
   */
  function accepted(result: unknown): boolean {
    const problem = result instanceof Error ? result.message : "";
    if (problem !== "") beatAt = -Infinity;
    wasAway ||= problem !== "";
    if (problem !== "" && !refused) log.error({ problem }, "Redis refuses this node's heartbeats: the states of other nodes stay as last known; the node retries");
    refused = problem !== "";
    return !refused;
  }

  async function forget(gone: string, text: string): Promise<void> {
    const was = await redis.run(forgetNode, key, gone, text);
    if (was === 1) await redis.run("publish", channel, JSON.stringify({ kind: "left", node: gone }));
    liveNodes.left(gone);
  }

  /** Detects another process that writes this node's entry. */
  function noticeDouble(found: string | undefined): void {
    if (found === undefined || found === written || doubled) return;
    doubled = true;
    log.error({ node: id }, `node id ${id} is used by another node, too: give each node its own --node-id, or they take each other's sessions and entries`);
  }

  return {
    async announce(next) {
      state = next;
      // A look under way may write the state before.
      await looking;
      const text = entry(next);
      beatAt = performance.now();
      try {
        const [result] = await redis.runAll([["hset", key, id, text], ["publish", channel, JSON.stringify({ kind: next, node: id, entry: text })]]);
        accepted(result);
      } catch {
        // The first heartbeat after the reconnect announces it.
        beatAt = -Infinity;
      }
    },

    nodes() {
      const own = state === null ? [] : [{ id, ...facts(), state, last_heartbeat: parseEntry(written).last_heartbeat, silentMs: 0 }];
      return [...own, ...liveNodes.list()];
    },

    get stale() {
      return !redis.up || performance.now() - lookedAt > 2 * heartbeatMs;
    },

    async stop() {
      stopped = true;
      clearInterval(timer);
      await looking;
      const wasKnown = state !== null;
      state = null;
      if (!wasKnown || !redis.up) return;
      const leaving = redis.runAll([["hdel", key, id], ["publish", channel, JSON.stringify({ kind: "left", node: id })]]);
      // Bounded, for an unavailable Redis: the other nodes notice the silence.
      await Promise.race([leaving.catch(() => undefined), new Promise((resolve) => setTimeout(resolve, leaveMs).unref())]);
    },
  };
}

function isHash(value: unknown): value is Record<string, string> {
  return typeof value === "object" && value !== null && !(value instanceof Error);
}

function parseEntry(text: string): { last_heartbeat: number } {
  return text === "" ? { last_heartbeat: 0 } : (JSON.parse(text) as Entry);
}

function parse(message: string): { kind: string; node: string; entry: string } | null {
  try {
    const { kind, node, entry = "" } = JSON.parse(message) as { kind?: unknown; node?: unknown; entry?: unknown };
    return typeof kind === "string" && typeof node === "string" && typeof entry === "string" ? { kind, node, entry } : null;
  } catch {
    return null; // not a message of a node
  }
}

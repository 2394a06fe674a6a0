/** The rights a node needs in Redis. The node tries them at start: a later refusal would be harder to recognize. */
import { createHash } from "node:crypto";
import type { RedisLink } from "./redis.ts";

/** Written out, also for a script. */
type Tried = readonly [name: string, ...args: (string | number)[]];

const script = 'return redis.call("EXISTS", KEYS[1])';

export interface RefusedCommand {
  readonly command: string;
  /** Its key or channel; "" where it has none. */
  readonly on: string;
  /** The error of Redis. */
  readonly problem: string;
}

/** Tried keys expire after this, also where the user may not delete. */
const keyMs = 10_000;

/**
 * Runs every command that nodes and their scripts use, once, on keys of its own.
 * @returns the commands that Redis refuses.
 * @throws RedisAway
 */
export async function refusedCommands(redis: RedisLink, prefix: string, id: string): Promise<RefusedCommand[]> {
  const commands = tried(prefix, id);
  const results = await redis.runAll(commands);
  return commands.flatMap((command, i) => {
    const result = results[i];
    return result instanceof Error ? [{ command: command[0], on: onWhat(command), problem: result.message }] : [];
  });
}

/** The error of a command that Redis refused; null for any other error. */
export function refusalOf(error: unknown): RefusedCommand | null {
  if (!(error instanceof Error) || error.name !== "ReplyError") return null;
  const { command } = error as Error & { readonly command?: { readonly name: string; readonly args: readonly unknown[] } };
  if (command === undefined) return { command: "a command", on: "", problem: error.message };
  return { command: command.name, on: onWhat([command.name, ...command.args.map(String)]), problem: error.message };
}

export function isForRights(problem: string): boolean {
  return /NOPERM|ACL failure|can't run this command/.test(problem);
}

/** ACL rules for a Redis user that may do everything nodes do. */
export function rightsNeeded(prefix: string, isCluster: boolean): string {
  return `~${prefix}* &${prefix}* +@read +@write -@dangerous +@connection +@pubsub +eval +evalsha +time +info${isCluster ? " +cluster" : ""}`;
}

function onWhat([name, ...args]: Tried): string {
  // The first argument is the script, the second the number of keys.
  return String((/^eval/i.test(name) ? args[2] : args[0]) ?? "");
}

function tried(prefix: string, id: string): readonly Tried[] {
  // One hash tag: in a cluster one server has all of them.
  const key = (kind: string) => `${prefix}gateway:rights:{${id}}:${kind}`;
  const [text, hash, set, sorted, queue] = [key("text"), key("hash"), key("set"), key("sorted"), key("list")];
  return [
    ["set", text, "1", "nx", "px", keyMs], ["get", text], ["exists", text], ["pttl", text], ["persist", text], ["pexpire", text, keyMs],
    ["hset", hash, "a", 1], ["pexpire", hash, keyMs], ["hget", hash, "a"], ["hmget", hash, "a"], ["hexists", hash, "a"], ["hincrby", hash, "a", 1], ["hlen", hash], ["hgetall", hash], ["hdel", hash, "b"],
    ["sadd", set, "a"], ["pexpire", set, keyMs], ["scard", set], ["sismember", set, "a"], ["smembers", set], ["sscan", set, 0], ["srem", set, "b"],
    ["zadd", sorted, 1, "a"], ["pexpire", sorted, keyMs], ["zcard", sorted], ["zscore", sorted, "a"], ["zrangebyscore", sorted, 0, 1], ["zrem", sorted, "b"],
    ["rpush", queue, "a"], ["pexpire", queue, keyMs], ["llen", queue], ["lrange", queue, 0, 0], ["ltrim", queue, 0, 1], ["lpop", queue],
    ["time"],
    ["eval", script, 1, text], ["evalsha", createHash("sha1").update(script).digest("hex"), 1, text],
    ["publish", `${prefix}gateway:rights`, ""],
    ["del", text], ["del", hash], ["del", set], ["del", sorted], ["del", queue],
  ];
}

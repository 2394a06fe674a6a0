/** The table of all nodes on one Redis: a hash that other programs may read, announced on the registry's channel. */
import type { RedisLink } from "../redis/redis.ts";
import { Script } from "../redis/scripts.ts";
import { readTable, type Table } from "./table.ts";
import type { Tables } from "./tables.ts";

export interface RedisTablesOptions {
  readonly redis: RedisLink;
  /** The prefix of all keys and channels. */
  readonly prefix: string;
  readonly node: string;
}

const writeTable = new Script(1, "placement/lua/write.lua");

/** @throws where the channel cannot be subscribed to. */
export async function createRedisTables({ redis, prefix, node }: RedisTablesOptions): Promise<Tables> {
  const key = `${prefix}gateway:ring`;
  const channel = `${prefix}gateway:events`;
  const listeners: ((table: Table) => void)[] = [];
  await redis.subscribe(channel, (message) => {
    const table = announced(message, node);
    if (table !== null) for (const listener of listeners) listener(table);
  });

  return {
    async read() {
      return readTable(String(await redis.run("hget", key, "table")));
    },

    async write(table) {
      const text = JSON.stringify(table);
      const write = async (replaced: string) => String(await redis.run(writeTable, key, table.number, text, replaced));
      let stored = await write("");
      // Not written by a node: it is replaced, whatever its number.
      if (readTable(stored) === null) stored = await write(stored);
      // A node of an older release ignores this kind.
      if (stored === text) await redis.run("publish", channel, JSON.stringify({ kind: "ring", node, table: text }));
      return readTable(stored) ?? table;
    },

    onWritten(listener) {
      listeners.push(listener);
    },
  };
}

/** Null: no announcement of a table by another node. */
function announced(message: string, self: string): Table | null {
  try {
    const { kind, node, table } = JSON.parse(message) as { kind?: unknown; node?: unknown; table?: unknown };
    return kind === "ring" && node !== self && typeof table === "string" ? readTable(table) : null;
  } catch {
    return null; // not a message of a node
  }
}

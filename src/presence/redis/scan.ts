/** Reads large sets in pages: one answer with everything would block Redis and all its clients too long. */
import type { RedisLink } from "../../redis/redis.ts";

/** Members of a set that are read and handled at once. */
const scanCount = 500;

/** The members of a set in Redis, a page at a time; a member may come twice. */
export async function* scan(redis: RedisLink, set: string): AsyncGenerator<string[]> {
  let cursor = "0";
  do {
    const [next, names] = (await redis.run("sscan", set, cursor, "count", scanCount)) as [string, string[]];
    yield names;
    cursor = next;
  } while (cursor !== "0");
}

export function pagesOf(names: readonly string[], count = scanCount): string[][] {
  return Array.from({ length: Math.ceil(names.length / count) }, (_, i) => names.slice(i * count, (i + 1) * count));
}

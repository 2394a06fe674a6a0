import type { RedisLink } from "../redis/redis.ts";

/** Members of a set that are read at once. */
const scanCount = 500;

/** The members of a set in Redis, a page at a time; one may come twice. */
export async function* scan(redis: RedisLink, set: string): AsyncGenerator<string[]> {
  let cursor = "0";
  do {
    const [next, names] = (await redis.run("sscan", set, cursor, "count", scanCount)) as [string, string[]];
    yield names;
    cursor = next;
  } while (cursor !== "0");
}

/** What is published of presence on Redis. */
import * as z from "zod";

/**
 * What nodes and the scripts tell: a room with something to tell, a node that is gone, what changed in a room, and a
 * user's status. cjson writes an empty list as an object.
 */
const names = z.union([z.array(z.string()), z.strictObject({}).transform((): string[] => [])]);
const count = z.number().int().min(0);
export const news = z.union([
  z.object({ gone: z.string() }),
  z.object({ dirty: z.string() }),
  z.object({ room: z.string(), version: count, users: count, sessions: count, joined: names, left: names, countsOnly: z.boolean() }),
  z.object({ user: z.string(), online: z.boolean(), lastSeen: z.number(), version: count }),
]);

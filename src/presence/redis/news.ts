/** The presence messages published on Redis. */
import * as z from "zod";

/**
 * Messages of nodes and scripts: a room with changes to announce, a node that is gone, a room's changes, and a user's
 * status. cjson writes an empty list as an object.
 */
const names = z.union([z.array(z.string()), z.strictObject({}).transform((): string[] => [])]);
const count = z.number().int().min(0);
export const news = z.union([
  z.object({ gone: z.string() }),
  z.object({ dirty: z.string() }),
  z.object({ room: z.string(), version: count, users: count, sessions: count, joined: names, left: names, countsOnly: z.boolean() }),
  z.object({ user: z.string(), online: z.boolean(), lastSeen: z.number(), version: count }),
]);

/** Rooms: which there are, who is in one. */
import * as z from "zod";
import { call, complete, onlyTenant, tenant, unanswered, wholeNumber } from "../call.ts";

const sessions = z.number().int().describe("Sessions in the room, of all nodes.");

export const roomsCall = call({
  name: "rooms",
  method: "GET",
  path: "/rooms",
  scope: "read",
  title: "List rooms",
  text: "Reads a page of the rooms that have members, sorted by name, with the members on all nodes. Rooms that the key does not cover are left out.",
  query: z.strictObject({
    tenant,
    prefix: z.string().optional().describe("Begin of the names. Default: all rooms."),
    cursor: z.string().max(4_096).optional().describe("`next` of the previous page."),
    limit: wholeNumber(1).describe("Rooms to read at most. Default 100; more than 1,000 are read as 1,000."),
  }),
  body: null,
  status: 200,
  answer: z.object({
    rooms: z.array(z.object({ room: z.string(), sessions })),
    next: z.string().nullable().describe("Cursor of the next page. Null: this is the last page."),
    complete, unanswered,
  }),
  errors: [],
  example: {
    path: "/rooms?prefix=chat:",
    answer: { rooms: [{ room: "chat:general", sessions: 3 }], next: null, complete: true, unanswered: [] },
  },
  async serve({ api }, request) {
    const { prefix, cursor, limit = 100 } = request.query;
    const { rooms, next, complete, unanswered } = await api.rooms({ tenant: request.tenant, prefix, cursor, limit: Math.min(limit, 1_000) }, request.patterns("presence"));
    request.answer(200, { rooms, next, complete, unanswered });
  },
});

export const roomCall = call({
  name: "room",
  method: "GET",
  path: "/rooms/:room",
  scope: "read",
  title: "Count the members of a room",
  text: "Counts the members of a room on all nodes. `users` is null where the namespace has `presence: nobody`, or where they cannot be counted now.",
  query: onlyTenant,
  body: null,
  status: 200,
  answer: z.object({ room: z.string(), sessions, users: z.number().int().nullable(), nodes: z.array(z.object({ node: z.string(), sessions: z.number().int() })), complete, unanswered }),
  errors: ["unknown_namespace"],
  example: {
    path: "/rooms/chat:general",
    answer: { room: "chat:general", sessions: 3, users: 2, nodes: [{ node: "node-1924fa88", sessions: 3 }], complete: true, unanswered: [] },
  },
  async serve({ api, config }, request) {
    const name = request.room("presence", config.roomNameBytesMax);
    const { room, sessions, users, nodes, complete, unanswered } = await api.room(name, { tenant: request.tenant });
    request.answer(200, { room, sessions, users, nodes, complete, unanswered });
  },
});

export const membersCall = call({
  name: "members",
  method: "GET",
  path: "/rooms/:room/members",
  scope: "read",
  title: "List the members of a room",
  text: "Reads a page of the users in a room, of all nodes. Answered `forbidden` where the namespace has `presence: nobody`.",
  query: z.strictObject({
    tenant,
    after: z.string().max(4_096).optional().describe("`next` of the previous page."),
    limit: wholeNumber(0).describe("Users to read at most; 0: counts only. Default and maximum: `presencePageMax`."),
  }),
  body: null,
  status: 200,
  answer: z.object({
    users: z.number().int().describe("Users in the room."),
    sessions,
    members: z.array(z.object({ user: z.string(), sessions: z.number().int() })),
    next: z.string().nullable().describe("Cursor of the next page, for `after`. Null: this is the last page."),
    complete,
  }),
  errors: ["unknown_namespace"],
  example: {
    path: "/rooms/chat:general/members",
    answer: { users: 2, sessions: 3, members: [{ user: "ann", sessions: 2 }], next: null, complete: true },
  },
  async serve({ api, config }, request) {
    const name = request.room("presence", config.roomNameBytesMax);
    const { after, limit } = request.query;
    const { users, sessions, members, next, complete } = await api.members(name, { tenant: request.tenant, after, limit });
    request.answer(200, { users, sessions, members, next, complete });
  },
});

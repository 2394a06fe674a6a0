/** Users: their sessions, the rooms that the application joins them into, and how to disconnect them. */
import * as z from "zod";
import type { UserSurvey } from "../../api/types.ts";
import { call, complete, onlyTenant, tenant, unanswered } from "../call.ts";

const closed = z.object({ sessions: z.number().int().describe("Sessions of the user, of all nodes that answered."), complete, unanswered });

export const userCall = call({
  name: "user",
  method: "GET",
  path: "/users/:user",
  scope: "read",
  title: "Show a user",
  text: "The sessions of a user on all nodes, and the rooms into which the application has joined the user. Rooms that the key does not cover are left out.",
  query: onlyTenant,
  body: null,
  status: 200,
  answer: z.object({
    user: z.string(),
    sessions: z.array(z.object({
      session: z.string().describe("Identifier of the session."),
      node: z.string(),
      device: z.string().describe("Name of the device; empty where the client gave none."),
      rooms: z.number().int().describe("Rooms that the session is in."),
    })),
    joined: z.array(z.string()).nullable().describe("Rooms into which the application has joined the user. Null: they cannot be read now."),
    complete, unanswered,
  }),
  errors: [],
  example: {
    path: "/users/ann",
    answer: { user: "ann", sessions: [{ session: "HQ3nZbX0a9kq", node: "node-1924fa88", device: "phone", rooms: 2 }], joined: ["chat:general"], complete: true, unanswered: [] },
  },
  async serve({ api }, request) {
    const { user, sessions, joined, complete, unanswered } = await api.user(request.user(), { tenant: request.tenant });
    request.answer(200, { user, sessions, joined: joined && joined.filter((room) => request.covers("presence", room)), complete, unanswered });
  },
});

export const joinCall = call({
  name: "join",
  method: "PUT",
  path: "/users/:user/rooms/:room",
  scope: "disconnect",
  title: "Join a user into a room",
  text: "Joins all sessions of a user into a room, on all nodes, and every later session of the user until the room is removed again. The user's token needs no right to join.",
  query: onlyTenant,
  body: null,
  status: 200,
  answer: z.object({
    sessions: z.number().int().describe("Sessions of the user that are in the room now."),
    refused: z.number().int().describe("Sessions that could not join, because they or their node are in too many rooms."),
    complete, unanswered,
  }),
  errors: ["unknown_namespace", "too_many_rooms"],
  example: { path: "/users/ann/rooms/chat:general", answer: { sessions: 2, refused: 0, complete: true, unanswered: [] } },
  async serve({ api, config }, request) {
    const [user, room] = [request.user(), request.room("join", config.roomNameBytesMax)];
    const { sessions, refused, complete, unanswered } = await api.join(user, room, { tenant: request.tenant });
    request.audit("join", { user, room, tenant: request.tenant }, { sessions, refused, unanswered });
    request.answer(200, { sessions, refused, complete, unanswered });
  },
});

export const leaveCall = call({
  name: "leave",
  method: "DELETE",
  path: "/users/:user/rooms/:room",
  scope: "disconnect",
  title: "Remove a user from a room",
  text: "Takes all sessions of a user out of a room, on all nodes, also sessions that joined it by themselves. A client whose token allows the room may join it again.",
  query: onlyTenant,
  body: null,
  status: 200,
  answer: z.object({ sessions: z.number().int().describe("Sessions that left the room."), complete, unanswered }),
  errors: [],
  example: { path: "/users/ann/rooms/chat:general", answer: { sessions: 2, complete: true, unanswered: [] } },
  async serve({ api, config }, request) {
    const [user, room] = [request.user(), request.room("join", config.roomNameBytesMax)];
    const { sessions, complete, unanswered } = await api.leave(user, room, { tenant: request.tenant });
    request.audit("leave", { user, room, tenant: request.tenant }, { sessions, unanswered });
    request.answer(200, { sessions, complete, unanswered });
  },
});

export const disconnectCall = call({
  name: "disconnect",
  method: "DELETE",
  path: "/users/:user/sessions",
  scope: "disconnect",
  title: "Disconnect a user",
  text: "Closes and ends every session of a user, on all nodes (close code 3504). With `signOut=true`, tokens and resume tokens issued until now are rejected as well.",
  query: z.strictObject({ tenant, signOut: z.enum(["true", "false"]).optional().describe("Also reject the tokens that the user has now. Default: false.") }),
  body: null,
  status: 200,
  answer: closed,
  errors: [],
  example: { path: "/users/ann/sessions?signOut=true", answer: { sessions: 2, complete: true, unanswered: [] } },
  async serve({ api }, request) {
    const user = request.user();
    const signOut = request.query.signOut === "true";
    const survey = await api.disconnect(user, { tenant: request.tenant, signOut });
    request.audit("disconnect", { user, tenant: request.tenant, signOut }, { sessions: survey.sessions, unanswered: survey.unanswered });
    request.answer(200, closedOf(survey));
  },
});

export const reconnectCall = call({
  name: "reconnect",
  method: "POST",
  path: "/users/:user/reconnect",
  scope: "disconnect",
  title: "Make a user reconnect",
  text: "Asks the clients of a user to connect again, to `url` if it is given, and closes their sockets (3001). They resume their sessions.",
  query: onlyTenant,
  body: z.strictObject({ url: z.url({ protocol: /^wss?$/ }).optional().describe("WebSocket URL that the clients connect to. Default: the one they used before.") }),
  status: 200,
  answer: closed,
  errors: [],
  example: { path: "/users/ann/reconnect", body: {}, answer: { sessions: 2, complete: true, unanswered: [] } },
  async serve({ api }, request) {
    const user = request.user();
    const { url } = request.body;
    const survey = await api.reconnect(user, { tenant: request.tenant, url });
    request.audit("reconnect", { user, tenant: request.tenant, url }, { sessions: survey.sessions, unanswered: survey.unanswered });
    request.answer(200, closedOf(survey));
  },
});

function closedOf({ sessions, complete, unanswered }: UserSurvey): object {
  return { sessions, complete, unanswered };
}

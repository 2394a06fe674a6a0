/** A room as Server-Sent Events. */
import * as z from "zod";
import { ApiError } from "../../api/error.ts";
import { call, tenant, type ApiNode } from "../call.ts";
import type { Grant } from "../../auth/grants.ts";
import { roomKey, userKey } from "../../protocol/roomkeys.ts";
import { cursorOf, positionIn } from "../cursor.ts";
import { headerOf } from "../exchange/exchange.ts";
import type { ApiRequest } from "../request.ts";
import { streamHead, unread } from "../eventstream.ts";

export const streamCall = call({
  name: "stream",
  method: "GET",
  path: "/rooms/:room/stream",
  scope: "read",
  title: "Follow a room",
  text: "Server-Sent Events. `open` is the first event, then each publication is an event with its position as `id`. A client that reconnects sends `Last-Event-ID` and gets what it missed. `gap` instead of `open`: the history no longer covers its position, and the stream begins at the newest. `end`: the reader was too slow, the node drains, or the key is revoked; connect again after `retry` milliseconds. A comment comes every 15 seconds. With `token` in place of a key, a page of `allowedOrigins` follows a room that its user may join. The stream ends when the token expires, or when the user is disconnected.",
  query: z.strictObject({ tenant, after: z.string().optional().describe("Begin after this position. `Last-Event-ID` takes precedence. Default: the newest position of the room."), token: z.string().optional().describe("Token of a client, for an EventSource: it can send no headers. Never an API key.") }),
  body: null,
  status: 200,
  answer: z.string(),
  errors: ["unknown_namespace"],
  takesToken: true,
  example: {
    path: "/rooms/chat:general/stream",
    answer: 'retry: 2000\n\nid: 7awFeLlP:44\nevent: open\ndata: {"position":"7awFeLlP:44"}\n\nid: 7awFeLlP:45\ndata: {"position":"7awFeLlP:45","sender":"","time":"2026-11-29T12:00:00.000Z","data":{"text":"hi"}}\n\n',
  },
  async serve(node, request) {
    const { api, config, streams } = node;
    const { exchange, caller } = request;
    // A client that joins a room gets its publications, and what it missed.
    const room = request.room(caller.grant === null ? "history" : "join", config.roomNameBytesMax);
    if (caller.grant !== null && asksBackend(node, roomKey(request.tenant, room))) throw new ApiError("forbidden", "hooks: the application's backend decides who connects or joins here, and it is asked for clients of the WebSocket only");
    const last = headerOf(exchange, "last-event-id");
    const given = last ?? request.query.after;
    const since = given === undefined ? null : positionIn(last === undefined ? "after" : "Last-Event-ID", given);
    const place = streams.take(caller);
    let lost: string | null = null;
    try {
      // The place comes first: a sign-out from now on ends it.
      if (caller.grant !== null) await checkSignOut(node, caller.grant);
      if (exchange.method === "HEAD") {
        place.free();
        return request.begin(streamHead).end();
      }
      let stream = api.stream(room, { tenant: request.tenant, ...(since !== null && { since }) }, unread);
      const first = await stream.next().catch((error: unknown) => {
        if (since === null || !(error instanceof ApiError) || error.code !== "unrecoverable_position") throw error;
        lost = cursorOf(since);
        stream = api.stream(room, { tenant: request.tenant }, unread);
        return stream.next();
      });
      if (first.done === true || first.value.kind !== "open") throw new ApiError("unavailable", "the room changed while it was opened; try again");
      place.begin(request.begin(streamHead), { stream, first: first.value, lost, revoked: () => revoked(node, request, room) });
    } catch (error) {
      place.free();
      throw error;
    }
  },
});

/** A stream must not go around the questions that a client's connection and join would cause. */
function asksBackend({ config, hub }: ApiNode, room: string): boolean {
  return config.hookConnect !== "" || hub.kindOf(room)?.asksJoin === true;
}

/** Another node may have signed the user out while this one got no messages of it. */
async function revoked({ hub }: ApiNode, request: ApiRequest, room: string): Promise<string | null> {
  const { grant } = request.caller;
  if (grant === null) return request.revoked("history", room);
  return (await isSignedOut(hub, grant)) ? "disconnected" : null;
}

function isSignedOut({ sessions }: ApiNode["hub"], { tenant, user, issuedAt }: Grant): Promise<boolean> {
  return new Promise((resolve) => sessions.isSignedOut(userKey(tenant, user), issuedAt, resolve));
}

/** @throws ApiError */
async function checkSignOut({ hub }: ApiNode, grant: Grant): Promise<void> {
  if (await isSignedOut(hub, grant)) throw new ApiError("unauthorized", "token: the user has been signed out since it was issued");
}

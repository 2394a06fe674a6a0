/** A room as Server-Sent Events. */
import * as z from "zod";
import { ApiError } from "../../api/error.ts";
import { idOf } from "../../auth/apikeys.ts";
import { call, tenant } from "../call.ts";
import { cursorOf, positionIn } from "../cursor.ts";
import { streamHead, unread } from "../eventstream.ts";

export const streamCall = call({
  name: "stream",
  method: "GET",
  path: "/rooms/:room/stream",
  scope: "read",
  title: "Follow a room",
  text: "Server-Sent Events. `open` is the first event, then each publication is an event with its position as `id`. A client that reconnects sends `Last-Event-ID` and gets what it missed. `gap` instead of `open`: the history no longer covers its position, and the stream begins at the newest. `end`: the reader was too slow, or the node drains; connect again after `retry` milliseconds. A comment comes every 15 seconds.",
  query: z.strictObject({ tenant, after: z.string().optional().describe("Begin after this position. `Last-Event-ID` takes precedence. Default: the newest position of the room.") }),
  body: null,
  status: 200,
  answer: z.string(),
  errors: ["unknown_namespace"],
  example: {
    path: "/rooms/chat:general/stream",
    answer: 'retry: 2000\n\nid: 7awFeLlP:44\nevent: open\ndata: {"position":"7awFeLlP:44"}\n\nid: 7awFeLlP:45\ndata: {"position":"7awFeLlP:45","sender":"","time":"2026-11-29T12:00:00.000Z","data":{"text":"hi"}}\n\n',
  },
  async serve({ api, config, streams }, request) {
    const room = request.room("history", config.roomNameBytesMax);
    const last = request.req.headers["last-event-id"];
    const given = typeof last === "string" && last !== "" ? last : request.query.after;
    const since = given === undefined ? null : positionIn(given === last ? "Last-Event-ID" : "after", given);
    if (request.req.method === "HEAD") return void request.begin(streamHead).end();
    const place = streams.take(idOf(request.caller));
    let lost: string | null = null;
    try {
      let stream = api.stream(room, { tenant: request.tenant, ...(since !== null && { since }) }, unread);
      const first = await stream.next().catch((error: unknown) => {
        if (since === null || !(error instanceof ApiError) || error.code !== "unrecoverable_position") throw error;
        lost = cursorOf(since);
        stream = api.stream(room, { tenant: request.tenant }, unread);
        return stream.next();
      });
      if (first.done === true || first.value.kind !== "open") throw new ApiError("unavailable", "the room changed while it was opened; try again");
      place.begin(request.begin(streamHead), { stream, first: first.value, lost });
    } catch (error) {
      place.free();
      throw error;
    }
  },
});

/** Reading: history of a room. */
import * as z from "zod";
import { historyLimitDefault, pageSizeMax } from "../../protocol/limits.ts";
import { roomKey } from "../../protocol/roomkeys.ts";
import { ApiError } from "../../api/error.ts";
import { b64, call, data, position, tenant, wholeNumber } from "../call.ts";
import { cursorOf, positionIn } from "../cursor.ts";
import { shownText } from "../payload.ts";
import { refusal } from "../../protocol/problems.ts";

export const publicationShape = z.object({
  position,
  sender: z.string().describe("User who published; empty: the application did."),
  time: z.iso.datetime().describe("Time of publishing, by the clock of the node that published."),
  data, b64,
});

export const historyCall = call({
  name: "history",
  method: "GET",
  path: "/rooms/:room/history",
  scope: "read",
  title: "Read the history of a room",
  text: `Reads a page of a room's publications. With \`after\` it reads forward, with \`before\` backward, with neither the newest. A position that the history no longer covers, or of another epoch, is answered \`unrecoverable_position\`: publications are missing, so begin again without it. A page has ${pageSizeMax} publications at most, and fewer if they are large. Rooms of a namespace with \`archive\` go on in the archive where the stream ends, through the same positions. Ephemeral rooms have the newest publications only, on nodes with members.`,
  query: z.strictObject({
    tenant,
    after: z.string().optional().describe("Read forward, after this position."),
    before: z.string().optional().describe("Read backward, before this position."),
    limit: wholeNumber(1).describe(`Publications to read at most. Default ${historyLimitDefault}; more than ${pageSizeMax} are read as ${pageSizeMax}.`),
    reverse: z.enum(["true", "false"]).optional().describe("Newest first. Default: oldest first."),
  }),
  body: null,
  status: 200,
  answer: z.object({
    publications: z.array(publicationShape),
    position: position.describe("Position of the newest publication of the room."),
    gap: z.boolean().optional().describe("Publications are missing within this page: their stream deleted them before they were archived. Only where the room is archived."),
    next: z.string().nullable().describe("Cursor of the next page, for `after` where this page was read forward, else for `before`. Null: this is the last page."),
  }),
  errors: ["unknown_namespace", "unrecoverable_position", "too_large"],
  example: {
    path: "/rooms/chat:general/history?limit=1",
    answer: { publications: [{ position: "7awFeLlP:44", sender: "", time: "2026-11-29T12:00:00.000Z", data: { text: "maintenance at 22:00" } }], position: "7awFeLlP:44", next: "7awFeLlP:44" },
  },
  serve({ config, hub }, request) {
    const { after, before, limit = historyLimitDefault, reverse } = request.query;
    const room = roomKey(request.tenant, request.room("history", config.roomNameBytesMax));
    if (after !== undefined && before !== undefined) throw new ApiError("bad_request", "before: give either after or before");
    const from = after !== undefined ? positionIn("after", after) : before !== undefined ? positionIn("before", before) : { epoch: "", seq: 0 };
    const direction = after !== undefined ? "since" : before !== undefined ? "before" : "newest";
    hub.history(room, { direction, ...from, limit: Math.min(limit, pageSizeMax) }, request.guarded((answer) => {
      if ("error" in answer) return request.refuse(refusal(answer.error));
      const { publications, position, more, gap } = answer.value;
      const last = direction === "since" ? publications.at(-1) : publications[0];
      const next = more ? cursorOf(last ?? from) : null;
      const page = publications.map(shownText);
      if (reverse === "true") page.reverse();
      const rest = JSON.stringify({ position: cursorOf(position), ...(gap === true && { gap }), next });
      request.answerText(200, `{"publications":[${page.join()}],${rest.slice(1)}`);
    }));
  },
});

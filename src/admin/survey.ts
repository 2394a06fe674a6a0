/**
 * `GET /survey` of the admin port: asks all nodes a question, and lists the nodes without an answer. `?kind=health`,
 * `?kind=user&user=ann&tenant=acme`, `?kind=room&room=chat:general`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import type { Question } from "../messages/messages.ts";
import type { Survey } from "../messages/survey.ts";
import { roomShape, tenantShape, userShape } from "./names.ts";
import { problemOf } from "./problem.ts";
import { answer, queryOf, Refused } from "./request.ts";

export type Ask = (question: Question) => Promise<Survey<Question["kind"]>>;

const asked = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("health") }),
  z.strictObject({ kind: z.literal("user"), user: userShape, tenant: tenantShape }),
  z.strictObject({ kind: z.literal("room"), room: roomShape, tenant: tenantShape }),
]);

/** @throws Refused */
export async function serveSurvey(req: IncomingMessage, res: ServerResponse, ask: Ask): Promise<void> {
  const query = queryOf(req.url);
  if (!["health", "user", "room"].includes(query.kind ?? "")) throw new Refused(400, "bad_request", "kind: must be health, user or room");
  const parsed = asked.safeParse(query);
  if (!parsed.success) throw new Refused(400, "bad_request", problemOf(parsed.error, "query"));
  answer(res, 200, await ask(parsed.data));
}

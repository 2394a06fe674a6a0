/**
 * `GET /survey` of the admin port: what all nodes say, and which of them say nothing. `?kind=health`,
 * `?kind=user&user=ann&tenant=acme`, `?kind=room&room=chat:general`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import type { Question } from "../messages/messages.ts";
import type { Survey } from "../survey.ts";
import { strangeHost } from "./host.ts";
import { roomShape, tenantShape, userShape } from "./names.ts";
import { answer, refuse } from "./request.ts";

export type Ask = (question: Question) => Promise<Survey<Question["kind"]>>;

const asked = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("health") }),
  z.strictObject({ kind: z.literal("user"), user: userShape, tenant: tenantShape }),
  z.strictObject({ kind: z.literal("room"), room: roomShape, tenant: tenantShape }),
]);

export async function serveSurvey(req: IncomingMessage, res: ServerResponse, ask: Ask): Promise<void> {
  const strange = strangeHost(req);
  if (strange !== null) return void refuse(res, 403, "forbidden", strange);
  const { searchParams } = new URL(req.url ?? "", "http://admin");
  const { data: question, error } = asked.safeParse(Object.fromEntries(searchParams));
  if (question === undefined) {
    const issue = error?.issues[0];
    return void refuse(res, 400, "bad_request", `${issue?.path.join(".") || "query"}: ${issue?.message ?? "malformed"}`);
  }
  answer(res, 200, await ask(question));
}

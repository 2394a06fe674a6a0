/**
 * `POST /disconnect` of the admin port: `{"user": "ann", "tenant": "acme", "signOut": true}`. The answer has the form
 * of a survey's.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import type { Survey } from "../messages/survey.ts";
import type { Audit, Caller } from "./audit.ts";
import { tenantShape, userShape } from "./names.ts";
import { answer, readCommand } from "./request.ts";

/** Ends a user's sessions on all nodes, and returns how many each had. */
export type Disconnect = (user: string, options: { readonly tenant: string; readonly signOut: boolean }) => Promise<Survey<"user">>;

const asked = z.strictObject({ user: userShape, tenant: tenantShape, signOut: z.boolean().default(false) });

/** @throws Refused */
export async function serveDisconnect(req: IncomingMessage, res: ServerResponse, disconnect: Disconnect, caller: Caller, audit: Audit): Promise<void> {
  const command = await readCommand(req, asked);
  const { user, ...options } = command;
  const closed = await disconnect(user, options);
  const { sessions, unanswered } = closed;
  audit.done(caller, "disconnect", command, { sessions, unanswered });
  answer(res, 200, closed);
}

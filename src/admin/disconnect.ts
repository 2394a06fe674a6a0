/** `POST /disconnect` of the admin port: `{"user": "ann", "tenant": "acme", "signOut": true}` is answered `{"sessions": 2}`. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import { nameProblem } from "../roomnames.ts";
import { answer, readCommand } from "./request.ts";

/** Ends a user's sessions; how many there were. */
export type Disconnect = (user: string, options: { readonly tenant: string; readonly signOut: boolean }) => number;

const nameBytesMax = 128;

const asked = z.strictObject({
  user: name("user"),
  tenant: z.union([z.literal(""), name("tenant")]).default(""),
  signOut: z.boolean().default(false),
});

function name(field: string) {
  return z.string().superRefine((value, context) => {
    const problem = nameProblem(field, value, nameBytesMax);
    if (problem !== null) context.addIssue({ code: "custom", message: problem });
  });
}

export async function serveDisconnect(req: IncomingMessage, res: ServerResponse, disconnect: Disconnect): Promise<void> {
  const command = await readCommand(req, res, asked);
  if (command === null) return;
  const { user, ...options } = command;
  answer(res, 200, { sessions: disconnect(user, options) });
}

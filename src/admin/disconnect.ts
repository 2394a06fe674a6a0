/**
 * `POST /disconnect` of the admin port: `{"user": "ann", "tenant": "acme", "signOut": true}` is answered `{"sessions": 2}`.
 *
 * Whoever reaches the admin port may do it, so no page that happens to run in such a browser must: a request that
 * carries what only browsers send is refused, and so is any but JSON, which a page could only send elsewhere after
 * asking with OPTIONS first, and a host name that an attacker may have pointed to this machine.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { z } from "zod";
import { nameProblem } from "../roomnames.ts";
import { strangeHost } from "./host.ts";

/** Ends a user's sessions; how many there were. */
export type Disconnect = (user: string, options: { readonly tenant: string; readonly signOut: boolean }) => number;

const bodyBytesMax = 4096;
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
  const forbidden = forbiddenBecause(req);
  if (forbidden !== null) return refuse(res, 403, "forbidden", forbidden);
  const type = req.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") return refuse(res, 415, "bad_request", "Content-Type: must be application/json");
  const body = await read(req);
  if (body === null) return refuse(res, 413, "too_large", `at most ${bodyBytesMax} bytes`);
  const parsed = asked.safeParse(parse(body));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return refuse(res, 400, "bad_request", `${issue?.path.join(".") || "body"}: ${issue?.message ?? "malformed"}`);
  }
  const { user, ...options } = parsed.data;
  answer(res, 200, { sessions: disconnect(user, options) });
}

function forbiddenBecause(req: IncomingMessage): string | null {
  const { origin, "sec-fetch-site": site } = req.headers;
  return origin !== undefined || site !== undefined ? "not for web pages" : strangeHost(req);
}

/** Null: it is too large. The rest of it is not read. */
async function read(req: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bodyBytesMax) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function refuse(res: ServerResponse, status: number, code: string, text: string): void {
  // What was not read of the request would be taken for the next one.
  res.setHeader("Connection", "close");
  answer(res, status, { error: { code, text } });
}

function answer(res: ServerResponse, status: number, value: object): void {
  res.writeHead(status, { "Content-Type": "application/json" }).end(`${JSON.stringify(value)}\n`);
}

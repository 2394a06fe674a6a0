/**
 * What every request to the admin port that changes something has to get past. Whoever reaches the port may make it, so
 * no page that happens to run in such a browser must: a request that carries what only browsers send is refused, and so
 * is any but JSON, which a page could only send elsewhere after asking with OPTIONS first, and a host name that an
 * attacker may have pointed to this machine.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { z } from "zod";
import { strangeHost } from "./host.ts";

const bodyBytesMax = 4096;

/** What was asked for; null: it was refused, and answered. */
export async function readCommand<T>(req: IncomingMessage, res: ServerResponse, schema: z.ZodType<T>): Promise<T | null> {
  const forbidden = forbiddenBecause(req);
  if (forbidden !== null) return refuse(res, 403, "forbidden", forbidden);
  const type = req.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") return refuse(res, 415, "bad_request", "Content-Type: must be application/json");
  const body = await read(req);
  if (body === null) return refuse(res, 413, "too_large", `at most ${bodyBytesMax} bytes`);
  const parsed = schema.safeParse(parse(body));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  return refuse(res, 400, "bad_request", `${issue?.path.join(".") || "body"}: ${issue?.message ?? "malformed"}`);
}

export function answer(res: ServerResponse, status: number, value: object): void {
  res.writeHead(status, { "Content-Type": "application/json" }).end(`${JSON.stringify(value)}\n`);
}

export function refuse(res: ServerResponse, status: number, code: string, text: string): null {
  // What was not read of the request would be taken for the next one.
  res.setHeader("Connection", "close");
  answer(res, status, { error: { code, text } });
  return null;
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

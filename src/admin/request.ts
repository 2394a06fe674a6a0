/**
 * What every request to the admin port that changes something has to get past. Whoever reaches the port may make it, so
 * no page that happens to run in such a browser must: a request that carries what only browsers send is refused, and so
 * is any but JSON, which a page could only send elsewhere after asking with OPTIONS first, and a host name that an
 * attacker may have pointed to this machine.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type * as z from "zod";
import { problemOf } from "./problem.ts";

const bodyBytesMax = 4096;

/** Why a request is not done: what it is answered, and the log says. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, text: string) {
    super(text);
    this.status = status;
    this.code = code;
  }
}

/** What was asked for. @throws Refused */
export async function readCommand<T>(req: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const { origin, "sec-fetch-site": site } = req.headers;
  if (origin !== undefined || site !== undefined) throw new Refused(403, "forbidden", "not for web pages: the request has an Origin or Sec-Fetch-Site header");
  const type = req.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") throw new Refused(415, "bad_request", "Content-Type: must be application/json");
  const parsed = schema.safeParse(parse(await read(req)));
  if (parsed.success) return parsed.data;
  throw new Refused(400, "bad_request", problemOf(parsed.error, "body"));
}

export function answer(res: ServerResponse, status: number, value: object): void {
  send(res, status, "application/json", `${JSON.stringify(value)}\n`);
}

/** With its length, which Node does not send with a head alone, and for whoever reads it: no page is to take it for a script. */
export function send(res: ServerResponse, status: number, type: string, text: string): void {
  res.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(text), "X-Content-Type-Options": "nosniff" }).end(text);
}

export function refuse(res: ServerResponse, { status, code, message: text }: Refused): void {
  // What was not read of the request would be taken for the next one.
  res.setHeader("Connection", "close");
  answer(res, status, { error: { code, text } });
}

/** What is too large is not read to its end. */
async function read(req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bodyBytesMax) throw new Refused(413, "too_large", `at most ${bodyBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(400, "bad_request", "body: is not valid JSON");
  }
}

/**
 * Reads and checks requests to the admin port that change something; writes answers. A web page in a browser that can
 * reach the port must not be able to send such a request. So headers that only browsers send are refused. Any body type
 * but JSON is refused too: a page cannot send JSON to another origin without an OPTIONS request first. The host name is
 * checked before (host.ts).
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type * as z from "zod";
import { problemOf } from "./problem.ts";

const bodyBytesMax = 4096;

/** A refused request: its answer, and the text for the log. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, text: string) {
    super(text);
    this.status = status;
    this.code = code;
  }
}

/** Reads and checks the body. @throws Refused */
export async function readCommand<T>(req: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const { origin, "sec-fetch-site": site } = req.headers;
  if (origin !== undefined || site !== undefined) throw new Refused(403, "forbidden", "web pages may not send this: the request has an Origin or Sec-Fetch-Site header");
  const type = req.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") throw new Refused(415, "bad_request", "Content-Type: must be application/json");
  const parsed = schema.safeParse(parse(await read(req)));
  if (parsed.success) return parsed.data;
  throw new Refused(400, "bad_request", problemOf(parsed.error, "body"));
}

/** The values of a query; of a name that stands twice the last. A value may contain question marks. */
export function queryOf(url = ""): Record<string, string> {
  const start = url.indexOf("?");
  return start < 0 ? {} : Object.fromEntries(new URLSearchParams(url.slice(start + 1)));
}

export function answer(res: ServerResponse, status: number, value: object): void {
  send(res, status, "application/json", `${JSON.stringify(value)}\n`);
}

/** Sends the length, which Node omits for HEAD, and nosniff, so that no page can load the answer as a script. */
export function send(res: ServerResponse, status: number, type: string, text: string): void {
  res.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(text), "X-Content-Type-Options": "nosniff" }).end(text);
}

export function refuse(res: ServerResponse, { status, code, message: text }: Refused): void {
  // The unread rest of the request would be taken for the next one.
  res.setHeader("Connection", "close");
  answer(res, status, { error: { code, text } });
}

/** Stops reading when the body is too large. */
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

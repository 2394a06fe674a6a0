/** Requests to the HTTP API, by node:http: it sends whatever headers one likes. */
import { request, type IncomingHttpHeaders } from "node:http";

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Null: it is no JSON. */
  readonly json: Record<string, unknown> | null;
}

export interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  /** A string is sent as it is, anything else as JSON. */
  readonly body?: unknown;
}

/** @param path below /api/v1 */
export function ask(port: number, path: string, { method, headers = {}, body }: Asked = {}): Promise<Answer> {
  const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
  const all = { ...(body !== undefined && { "Content-Type": "application/json" }), ...headers };
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path: `/api/v1${path}`, method: method ?? (body === undefined ? "GET" : "POST"), headers: all }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: jsonIn(text) }));
    });
    sent.on("error", reject);
    sent.end(text);
  });
}

function jsonIn(text: string): Record<string, unknown> | null {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
}

/** Reads a stream of Server-Sent Events as an EventSource does. */
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import type { Test } from "tap";

export interface StreamEvent {
  id?: string;
  event?: string;
  data?: { position: string; data?: unknown; after?: string; reason?: string };
  retry?: string;
}

export interface Followed {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly events: StreamEvent[];
  readonly lines: string[];
  /** What has come of the next event. */
  text: string;
  isOver: boolean;
  readonly request: ClientRequest;
  readonly response: IncomingMessage;
}

/** @param path below /api/v1 */
export function follow(t: Pick<Test, "teardown">, path: string, { headers = {}, at, method = "GET" }: { headers?: Record<string, string>; at: number; method?: string }): Promise<Followed> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port: at, path: `/api/v1${path}`, method, headers, agent: false }, (response) => {
      const followed: Followed = { status: response.statusCode ?? 0, headers: response.headers, events: [], lines: [], text: "", isOver: false, request: sent, response };
      response.on("data", (chunk: Buffer) => {
        const whole = followed.text + chunk.toString();
        const end = whole.lastIndexOf("\n\n") + 2;
        followed.text = end < 2 ? whole : whole.slice(end);
        if (end >= 2) followed.lines.push(...whole.slice(0, end).split("\n"));
        if (end >= 2) for (const event of eventsIn(whole.slice(0, end))) followed.events.push(event);
      });
      response.on("close", () => (followed.isOver = true));
      response.on("error", () => {});
      resolve(followed);
    });
    sent.on("error", reject);
    sent.end();
    t.teardown(() => sent.destroy());
  });
}

export function eventsIn(text: string): StreamEvent[] {
  return text.split("\n\n").slice(0, -1).filter((block) => block !== ":").map((block) => {
    const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)])) as Record<string, string>;
    const { data, ...rest } = fields;
    return { ...rest, ...(data !== undefined && { data: JSON.parse(data) as NonNullable<StreamEvent["data"]> }) };
  });
}

/** The data of the publications. */
export function dataOf({ events }: Followed): unknown[] {
  return events.filter(({ event, data }) => event === undefined && data !== undefined).map(({ data }) => data!.data);
}

/** The options of a drain, and its progress. */
import * as z from "zod";

const urlBytesMax = 2048;
const windowMsMax = 86_400_000;

/** `DrainOptions` as received from outside: from callers of the admin port, and from other nodes. */
export const drainShape = z.strictObject({
  windowMs: z.number().int().min(0).max(windowMsMax).optional(),
  url: z.string().max(urlBytesMax).refine(isWebSocketUrl, "must be a ws:// or wss:// address").optional(),
});

export interface DrainOptions {
  /** The time over which sessions are sent away, in milliseconds. Default: `drainMs`. 0: at once. */
  readonly windowMs?: number | undefined;
  /** The URL that clients reconnect to. Default: the URL they used, mostly a load balancer's. */
  readonly url?: string | undefined;
}

/** `over`: no session is left, the node exits. `serving`: no drain was requested, or the request has not arrived. */
export interface DrainProgress {
  readonly state: "serving" | "draining" | "over";
  /** Sockets at the beginning of the drain, and those that are left. */
  readonly sessions: number;
  readonly left: number;
  readonly windowMs: number;
  readonly elapsedMs: number;
}

function isWebSocketUrl(text: string): boolean {
  return URL.canParse(text) && ["ws:", "wss:"].includes(new URL(text).protocol);
}

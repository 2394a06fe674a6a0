/** What can be asked of a node that is to end, and how far it is. */
import * as z from "zod";

const urlBytesMax = 2048;
const windowMsMax = 86_400_000;

/** `DrainOptions` as strangers write them: the admin port's callers, and other nodes. */
export const drainShape = z.strictObject({
  windowMs: z.number().int().min(0).max(windowMsMax).optional(),
  url: z.string().max(urlBytesMax).refine(isWebSocketUrl, "must be a ws:// or wss:// address").optional(),
});

export interface DrainOptions {
  /** Over how long the sessions are sent away, in milliseconds; `drainMs` unless given, 0: at once. */
  readonly windowMs?: number | undefined;
  /** Where clients are sent; unless given, where they came from, which mostly is a balancer. */
  readonly url?: string | undefined;
}

/** `over`: nobody is left, the node ends. `serving`: it was not asked, or has not heard of it. */
export interface DrainProgress {
  readonly state: "serving" | "draining" | "over";
  /** Sockets there were when it began, and those that are left. */
  readonly sessions: number;
  readonly left: number;
  readonly windowMs: number;
  readonly elapsedMs: number;
}

function isWebSocketUrl(text: string): boolean {
  return URL.canParse(text) && ["ws:", "wss:"].includes(new URL(text).protocol);
}

/**
 * Which web pages may connect. Browsers send the page's origin, and let any page open a WebSocket to any host. Without
 * this check, every site that a user visits could talk to a gateway that only the user can reach.
 */
import type { Config } from "../../config/config.ts";
import { isAmong, isLoopback } from "../../config/reach.ts";
import { quoted } from "../../platform/log/quoted.ts";

/** @param origin the Origin header, "" without one: the client is no page in a browser @param host the Host header */
export function isWelcome(config: Pick<Config, "allowedOrigins" | "host">, origin: string, host: string): boolean {
  if (origin === "" || isAmong(config.allowedOrigins, origin)) return true;
  const page = parse(origin);
  if (page === null || page.host !== host) return false;
  // An attacker can let a name point to 127.0.0.1, which makes it the same host to the browser. So on loopback only
  // loopback names count.
  return !isLoopback(config.host) || isLoopback(page.hostname.replace(/^\[|\]$/g, ""));
}

/** The texts for a page that may not connect: one for the log, one for the page. Each says how to allow it. */
export function forbidden(origin: string): { readonly text: string; readonly reason: string } {
  // A value that is no origin gets no advice, and none of it goes into a close frame.
  if (!plain.test(origin)) return { text: `Origin: ${quoted(origin)} may not connect: it is not in --allowed-origins`, reason: "forbidden_origin" };
  const allow = `--allowed-origins ${origin}`;
  return {
    text: `Origin: ${quoted(origin)} may not connect: it is not the node's own (another port is another origin) and not in --allowed-origins; allow it with ${allow}`,
    reason: `forbidden_origin: allow it with ${allow}`,
  };
}

/** The form in which browsers write an origin. Short enough for the reason of a close, which has 123 bytes. */
const plain = /^https?:\/\/[a-z0-9.:[\]_-]{1,64}$/;

function parse(origin: string): URL | null {
  return URL.canParse(origin) ? new URL(origin) : null;
}

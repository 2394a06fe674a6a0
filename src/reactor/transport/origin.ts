/**
 * Which web pages may connect. Browsers send the page's origin and let any page open a WebSocket anywhere, so
 * without this check every site a user visits could talk to a gateway that only that user can reach.
 */
import { isLoopback, type Config } from "../../config/config.ts";
import { isAmong } from "../../config/origins.ts";
import { quoted } from "../../platform/log/quoted.ts";

/** @param origin the Origin header, "" where there is none: not a browser's page @param host the Host header */
export function isWelcome(config: Pick<Config, "allowedOrigins" | "host">, origin: string, host: string): boolean {
  if (origin === "" || isAmong(config.allowedOrigins, origin)) return true;
  const page = parse(origin);
  if (page === null || page.host !== host) return false;
  // A name that an attacker lets point to 127.0.0.1 is the same host to the browser: on loopback only its own names count.
  return !isLoopback(config.host) || isLoopback(page.hostname.replace(/^\[|\]$/g, ""));
}

/** What the log and the page itself are told of a page that may not connect, with what lets it in. */
export function forbidden(origin: string): { readonly text: string; readonly reason: string } {
  // Whoever sends an Origin that is none gets no advice, and nothing of it into a close frame.
  if (!plain.test(origin)) return { text: `Origin: ${quoted(origin)} may not connect: it is not in --allowed-origins`, reason: "forbidden_origin" };
  const allow = `--allowed-origins ${origin}`;
  return {
    text: `Origin: ${quoted(origin)} may not connect: it is not the node's own (another port is another origin) and not in --allowed-origins; allow it with ${allow}`,
    reason: `forbidden_origin: allow it with ${allow}`,
  };
}

/** As browsers write an origin; short enough for the reason of a close, which has 123 bytes. */
const plain = /^https?:\/\/[a-z0-9.:[\]_-]{1,64}$/;

function parse(origin: string): URL | null {
  return URL.canParse(origin) ? new URL(origin) : null;
}

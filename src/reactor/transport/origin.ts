/**
 * Which web pages may connect. Browsers send the page's origin and let any page open a WebSocket anywhere, so
 * without this check every site a user visits could talk to a gateway that only that user can reach.
 */
import { isLoopback, type Config } from "../../config/config.ts";
import { isAmong } from "../../config/origins.ts";

/** @param origin the Origin header, "" where there is none: not a browser's page @param host the Host header */
export function isWelcome(config: Pick<Config, "allowedOrigins" | "host">, origin: string, host: string): boolean {
  if (origin === "" || isAmong(config.allowedOrigins, origin)) return true;
  const page = parse(origin);
  if (page === null || page.host !== host) return false;
  // A name that an attacker lets point to 127.0.0.1 is the same host to the browser: on loopback only its own names count.
  return !isLoopback(config.host) || isLoopback(page.hostname.replace(/^\[|\]$/g, ""));
}

function parse(origin: string): URL | null {
  return URL.canParse(origin) ? new URL(origin) : null;
}

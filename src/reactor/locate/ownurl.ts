/**
 * The URL of this node where none is configured: the host that the caller used for this request, which works through
 * port mappings and proxies alike. The header is the caller's own text. So it is used only where nothing is configured,
 * only where it is a plain host and port, and only in the answer to this caller, which no cache keeps.
 */
import type { Config } from "../../config/config.ts";
import { isLoopback } from "../../config/reach.ts";

const plainHost = /^([a-z0-9][a-z0-9._-]{0,252}|\[[0-9a-f:.]{2,45}\])(:\d{1,5})?$/i;

/** @param forwardedProto the header X-Forwarded-Proto, "" without one @returns null where the header is no help */
export function urlOfHost(config: Pick<Config, "host" | "tlsCert">, host: string, forwardedProto: string): string | null {
  const name = plainHost.exec(host)?.[1];
  if (name === undefined) return null;
  // A page elsewhere can let its own name point to 127.0.0.1: see transport/origin.ts.
  if (isLoopback(config.host) && !isLoopback(name.replace(/^\[|\]$/g, ""))) return null;
  // The header can only make it wss. A caller that lies gets a URL that fails, for itself.
  const isSecure = config.tlsCert !== "" || forwardedProto.toLowerCase() === "https";
  const url = `${isSecure ? "wss" : "ws"}://${host}/ws`;
  return URL.canParse(url) ? url : null;
}

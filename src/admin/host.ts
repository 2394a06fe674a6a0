/** Checks the host name of a request to the admin port, and its origin. */
import type { IncomingMessage } from "node:http";
import { isLoopback } from "../config/config.ts";

/** On loopback, an error for a host name that is no loopback name: a web page may have pointed it here. Null: none. */
export function strangeHost({ headers, socket }: IncomingMessage): string | null {
  const host = (headers.host ?? "").replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1");
  const isLocal = isLoopback((socket.localAddress ?? "").replace(/^::ffff:/, ""));
  return isLocal && !isLoopback(host) ? `Host: ${JSON.stringify(host)} is not a loopback name of this machine` : null;
}

/**
 * An error for a request from a page of another origin, as browsers mark it. A person may still open the port in a
 * browser.
 */
export function strangePage({ headers: { "sec-fetch-site": site } }: IncomingMessage): string | null {
  return site === "cross-site" || site === "same-site" ? `Sec-Fetch-Site: ${site}, from a page of another origin` : null;
}

/** By what name the admin port was asked, and by whom. */
import type { IncomingMessage } from "node:http";
import { isLoopback } from "../config/config.ts";

/** On loopback, what is wrong with the name: another's may have been pointed here by a page. Null where nothing is. */
export function strangeHost({ headers, socket }: IncomingMessage): string | null {
  const host = (headers.host ?? "").replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1");
  const isLocal = isLoopback((socket.localAddress ?? "").replace(/^::ffff:/, ""));
  return isLocal && !isLoopback(host) ? `Host: ${JSON.stringify(host)} is no name of this machine's loopback` : null;
}

/** Of a request that a page of another origin has a browser make, what says so. Null where nothing does: a person may open the port in a browser. */
export function strangePage({ headers: { "sec-fetch-site": site } }: IncomingMessage): string | null {
  return site === "cross-site" || site === "same-site" ? `Sec-Fetch-Site: ${site}, from a page of another origin` : null;
}

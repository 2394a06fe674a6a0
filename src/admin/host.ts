/** The name by which the admin port was asked. */
import type { IncomingMessage } from "node:http";
import { isLoopback } from "../config.ts";

/** On loopback, what is wrong with the name: another's may have been pointed here by a page. Null where nothing is. */
export function strangeHost({ headers, socket }: IncomingMessage): string | null {
  const host = (headers.host ?? "").replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1");
  const isLocal = isLoopback((socket.localAddress ?? "").replace(/^::ffff:/, ""));
  return isLocal && !isLoopback(host) ? `Host: ${JSON.stringify(host)} is no name of this machine's loopback` : null;
}

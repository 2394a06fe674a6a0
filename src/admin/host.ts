/** Checks the host name of a request to the admin port, and its origin. */
import { isLoopback } from "../config/config.ts";

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** On loopback, an error for a host name that is no loopback name: a web page may have pointed it here. Null: none. */
export function strangeHost({ host: given }: Headers, localAddress: string): string | null {
  const host = (typeof given === "string" ? given : "").replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1");
  const isLocal = isLoopback(localAddress.replace(/^::ffff:/, ""));
  return isLocal && !isLoopback(host) ? `Host: ${JSON.stringify(host)} is not a loopback name of this machine` : null;
}

/**
 * An error for a request from a page of another origin, as browsers mark it. A person may still open the port in a
 * browser.
 */
export function strangePage({ "sec-fetch-site": site }: Headers): string | null {
  return site === "cross-site" || site === "same-site" ? `Sec-Fetch-Site: ${site}, from a page of another origin` : null;
}

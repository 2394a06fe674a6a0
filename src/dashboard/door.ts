/**
 * Which requests of pages may come in. The page that the node serves may do everything that its user may. A page from
 * elsewhere in the same browser must not: not with the user's cookie, and not by a name that it has pointed here.
 */
import type { IncomingMessage } from "node:http";
import { strangeHost, strangePage } from "../admin/host.ts";
import { Refused } from "../admin/request.ts";

/** @param isOpen requests need no key here. @throws Refused */
export function checkPage(req: IncomingMessage, isOpen: boolean): void {
  const { headers, method, socket } = req;
  const strange = (isOpen ? strangeHost(headers, socket.localAddress ?? "") : null) ?? strangePage(headers);
  if (strange !== null) throw new Refused(403, "forbidden", strange);
  if (method === "GET" || method === "HEAD") return;
  const { origin, host, "sec-fetch-site": site } = headers;
  if (origin === undefined) throw new Refused(403, "forbidden", "Origin: is missing; programs use the paths without /dashboard");
  if (hostOf(origin) !== (host ?? "").toLowerCase()) throw new Refused(403, "forbidden", `Origin: ${JSON.stringify(origin.slice(0, 128))} is not this port (Host: ${JSON.stringify((host ?? "").slice(0, 128))}); a proxy in front has to pass Host on`);
  if (site !== undefined && site !== "same-origin") throw new Refused(403, "forbidden", `Sec-Fetch-Site: ${site.slice(0, 32)}, not from the page of this port`);
}

/** Headers for every answer below /dashboard: it runs nothing but its own files, and is in nobody's frame. */
export const pageHeaders: readonly (readonly [name: string, value: string])[] = [
  ["Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"],
  ["X-Content-Type-Options", "nosniff"],
  ["X-Frame-Options", "DENY"],
  ["Referrer-Policy", "no-referrer"],
  ["Cross-Origin-Opener-Policy", "same-origin"],
  ["Cross-Origin-Resource-Policy", "same-origin"],
  ["Permissions-Policy", "camera=(), microphone=(), geolocation=()"],
  ["Cache-Control", "no-store"],
];

function hostOf(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}

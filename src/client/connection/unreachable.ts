/** Notices an address at which no WebSocket opens. Browsers say nothing about the reason. */
import { fluxError } from "../flux-error.ts";
import type { FluxError } from "../flux-error.ts";

/** One node may restart, and another be full. */
const failuresMin = 3;

export class Unreachable {
  #failures = 0;

  opened(): void {
    this.#failures = 0;
  }

  /** An attempt ended before its socket was open. Returns what to tell the application, once until one opens. */
  failed(url: string): FluxError | null {
    return ++this.#failures === failuresMin ? fluxError("unreachable", textOf(url)) : null;
  }
}

function textOf(text: string): string {
  const url = new URL(text, globalThis.location?.href); // browsers take addresses relative to the page
  const checks = [
    `that a node answers at ${url.host}`,
    `that ${url.pathname} is its path (a node has /ws)`,
    "that it allows the origin of this page (allowedOrigins)",
    url.protocol === "wss:" ? "that its certificate is valid" : "that this page was not loaded by https, which allows wss only",
  ];
  return `${failuresMin} attempts in a row ended before a WebSocket was open at ${url.origin}${url.pathname}. Check ${checks.join(", ")}. The client goes on trying.`;
}

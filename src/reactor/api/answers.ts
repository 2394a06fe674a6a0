/** Heads of answers, as uWS writes them. */
import { STATUS_CODES } from "node:http";
import type { HttpResponse } from "uWebSockets.js";

export function statusLine(status: number): string {
  return `${status} ${STATUS_CODES[status] ?? ""}`;
}

/** @param headers names and values in turn, each on a line. */
export function respondHead(res: HttpResponse, status: number, headers: string): void {
  res.writeStatus(statusLine(status));
  const lines = headers.split("\n");
  for (let i = 0; i + 1 < lines.length; i += 2) res.writeHeader(lines[i]!, lines[i + 1]!);
}

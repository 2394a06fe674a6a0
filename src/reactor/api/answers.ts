/** Heads of answers, as uWS writes them. */
import { STATUS_CODES } from "node:http";
import type { HttpResponse } from "uWebSockets.js";

const statusLines = new Map(Object.entries(STATUS_CODES).map(([status, text]) => [Number(status), `${status} ${text}`]));

export function statusLine(status: number): string {
  return statusLines.get(status) ?? String(status);
}

/** @param headers names and values in turn, each on a line. */
export function respondHead(res: HttpResponse, status: number, headers: string): void {
  res.writeStatus(statusLine(status));
  const lines = headers.split("\n");
  for (let i = 0; i + 1 < lines.length; i += 2) res.writeHeader(lines[i]!, lines[i + 1]!);
}

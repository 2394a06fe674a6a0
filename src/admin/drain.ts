/**
 * `/drain` of the admin port. POST `{"windowMs": 30000, "url": "wss://…"}`, both or none of them, begins a drain or joins the
 * one there is, and is answered a line of JSON about it every half second, until the last says that it is over. GET says
 * how far it is.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { DrainOptions, DrainProgress } from "../drain.ts";
import { answer, readCommand, refuse } from "./request.ts";
import { strangeHost } from "./host.ts";

export interface Drains {
  /** Sends every session away, and resolves; the node closes then. */
  begin(options: DrainOptions): Promise<void>;
  progress(): DrainProgress;
}

const everyMs = 500;
const urlBytesMax = 2048;

const asked = z.strictObject({
  windowMs: z.number().int().min(0).max(86_400_000).optional(),
  url: z.string().max(urlBytesMax).refine(isWebSocketUrl, "must be a ws:// or wss:// address").optional(),
});

export async function serveDrain(req: IncomingMessage, res: ServerResponse, drains: Drains): Promise<void> {
  if (req.method === "GET") {
    const strange = strangeHost(req);
    if (strange !== null) refuse(res, 403, "forbidden", strange);
    else answer(res, 200, drains.progress());
    return;
  }
  if (req.method !== "POST") return void res.writeHead(405, { Allow: "GET, POST" }).end("only GET and POST\n");
  const command = await readCommand(req, res, asked);
  if (command === null) return;
  let isGone = false;
  res.on("close", () => (isGone = true));
  res.writeHead(200, { "Content-Type": "application/x-ndjson" });
  const over = drains.begin(command);
  while (!isGone && drains.progress().state === "draining") {
    res.write(line(drains.progress()));
    await Promise.race([sleep(everyMs), over]);
  }
  res.end(line(drains.progress()));
}

function line(progress: DrainProgress): string {
  return `${JSON.stringify(progress)}\n`;
}

function isWebSocketUrl(text: string): boolean {
  return URL.canParse(text) && ["ws:", "wss:"].includes(new URL(text).protocol);
}

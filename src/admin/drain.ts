/**
 * `/drain` of the admin port. POST `{"windowMs": 30000, "url": "wss://…", "node": "b"}`, all or none of them, begins a drain,
 * of another node where one is named, or joins the one there is, and is answered a line of JSON about it every half
 * second, until the last says that it is over. GET says how far it is.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { drainShape, type DrainOptions, type DrainProgress } from "../messages/drainoptions.ts";
import type { Audit, Caller } from "./audit.ts";
import { readCommand, Refused } from "./request.ts";

export interface NodeDrain {
  /** Sends every session away, and resolves; the node closes then. */
  begin(options: DrainOptions): Promise<void>;
  progress(): DrainProgress;
}

/** That of this node, and by its id that of any; null where there is no such node, unavailable where it cannot be told. */
export interface Drains extends NodeDrain {
  of(node: string): NodeDrain | null | "unavailable";
}

const everyMs = 500;
const nodeBytesMax = 256;

const asked = drainShape.extend({ node: z.string().max(nodeBytesMax).optional() });

/** @throws Refused */
export async function serveDrain(req: IncomingMessage, res: ServerResponse, drains: Drains, caller: Caller, audit: Audit): Promise<void> {
  const command = await readCommand(req, asked);
  const { node, ...options } = command;
  const drain = node === undefined ? drains : drains.of(node);
  if (drain === null) throw new Refused(404, "not_found", `there is no node ${JSON.stringify(node)} here: GET /nodes tells which there are`);
  if (drain === "unavailable") throw new Refused(503, "unavailable", `Redis is away, and node ${JSON.stringify(node)} cannot be told: ask on its own admin port, or when Redis is back`);
  const isJoined = drain === drains && drain.progress().state === "draining";
  let isGone = false;
  res.on("close", () => (isGone = true));
  const over = drain.begin(options);
  audit.done(caller, "drain", command, isJoined ? { joined: "the drain that was under way" } : { begun: true });
  res.writeHead(200, { "Content-Type": "application/x-ndjson" });
  while (!isGone && drain.progress().state === "draining") {
    res.write(line(drain.progress()));
    await Promise.race([sleep(everyMs), over]);
  }
  res.end(line(drain.progress()));
}

function line(progress: DrainProgress): string {
  return `${JSON.stringify(progress)}\n`;
}

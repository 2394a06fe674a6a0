/**
 * `/drain` of the admin port. POST takes `{"windowMs": 30000, "url": "wss://…", "node": "b"}`, where all fields are
 * optional. It begins a drain of this node, or of the named one, or joins a drain under way. The answer is a line of
 * JSON with the progress every half second, until the last one with `over`. GET answers the progress once.
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

/**
 * The drain of this node, and of any node by its id. Null: unknown node. unavailable: the node cannot be reached now.
 */
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
  if (drain === null) throw new Refused(404, "not_found", `unknown node ${JSON.stringify(node)}: GET /nodes lists all nodes`);
  if (drain === "unavailable") throw new Refused(503, "unavailable", `Redis is unavailable, so node ${JSON.stringify(node)} cannot be reached: drain it on its own admin port, or retry later`);
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

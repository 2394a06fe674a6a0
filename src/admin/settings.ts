/**
 * `/settings` of the admin port. POST takes `{"node": "b", "weight": 2}` and changes settings of that node, or of this
 * one, until the node exits. The answer is what the node has then. GET answers the settings of this node.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import { settingsShape, type NodeSettings, type SettingsChange } from "../placement/settings.ts";
import type { Audit, Caller } from "./audit.ts";
import { answer, readCommand, Refused } from "./request.ts";

export interface Settings {
  /** Those of this node. */
  readonly own: NodeSettings & { readonly node: string };
  /**
   * Changes those of any node, and resolves with what it has then. unknown: no such node, or it is down. unavailable:
   * Redis is. unanswered: the node did not answer. MUST NOT reject.
   */
  change(node: string, change: SettingsChange): Promise<NodeSettings | "unknown" | "unavailable" | "unanswered">;
}

const nodeCharsMax = 256;
const asked = settingsShape.extend({ node: z.string().max(nodeCharsMax).optional() });
const names = Object.keys(settingsShape.shape).join(", ");

/** @throws Refused */
export async function serveSettings(req: IncomingMessage, res: ServerResponse, settings: Settings, caller: Caller, audit: Audit): Promise<void> {
  const command = await readCommand(req, asked);
  const { node = settings.own.node, ...change } = command;
  if (Object.keys(change).length === 0) throw new Refused(400, "bad_request", `body: changes nothing; the settings are: ${names}`);
  const changed = await settings.change(node, change);
  const name = JSON.stringify(node);
  switch (changed) {
    case "unknown": throw new Refused(404, "not_found", `unknown node ${name}, or it is down: GET /nodes lists all nodes`);
    case "unavailable": throw new Refused(503, "unavailable", `Redis is unavailable, so node ${name} cannot be reached: use its own admin port, or retry later`);
    case "unanswered": throw new Refused(503, "unavailable", `node ${name} did not answer, and may have changed or not: it is unreachable, has just restarted, or is of an older release; GET /nodes shows its weight; retry, or use its own admin port`);
  }
  audit.done(caller, "settings", command, changed);
  answer(res, 200, { node, ...changed });
}

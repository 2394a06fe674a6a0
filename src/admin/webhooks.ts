/**
 * `/webhooks` of the admin port: GET lists the endpoints with their oldest dead letters, POST sends letters once more.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import * as z from "zod";
import type { DeadLetter } from "../facts/facts.ts";
import type { WebhookQueue } from "../metrics/webhooks.ts";
import type { Audit, Caller } from "./audit.ts";
import { problemOf } from "./problem.ts";
import { answer, queryOf, readCommand, Refused } from "./request.ts";

export interface FailedEvents {
  readonly endpoint: string;
  /** It has answered 410. */
  readonly isDisabled: boolean;
  readonly count: number;
  readonly letters: readonly DeadLetter[];
}

export interface Replayed {
  readonly told: number;
  readonly left: number;
  /** Why it ended before the last; "" where it did not. */
  readonly problem: string;
}

export interface WebhookControl {
  /** Events that wait on this node, and those that were refused. */
  queue(): WebhookQueue;
  failed(max: number): Promise<readonly FailedEvents[]>;
  /** Null: there is no such endpoint. */
  replay(endpoint: string, max: number): Promise<Replayed | null>;
}

const maxDefault = 100;
const max = z.int().min(0).max(1000);
const query = z.strictObject({ max: z.string().regex(/^\d{1,4}$/).transform(Number).pipe(max).optional() });
const asked = z.strictObject({ endpoint: z.string().max(64), max: max.optional() });

/** @throws Refused */
export async function serveFailed(req: IncomingMessage, res: ServerResponse, webhooks: WebhookControl | null): Promise<void> {
  const parsed = query.safeParse(queryOf(req.url));
  if (!parsed.success) throw new Refused(400, "bad_request", problemOf(parsed.error, "query"));
  const control = existing(webhooks);
  const endpoints = await inTime(control.failed(parsed.data.max ?? maxDefault));
  answer(res, 200, { endpoints, queue: control.queue() });
}

/** @throws Refused */
export async function serveReplay(req: IncomingMessage, res: ServerResponse, webhooks: WebhookControl | null, caller: Caller, audit: Audit): Promise<void> {
  const command = await readCommand(req, asked);
  const { endpoint, max: most = maxDefault } = command;
  const replayed = await inTime(existing(webhooks).replay(endpoint, most));
  if (replayed === null) throw new Refused(404, "not_found", `no endpoint ${JSON.stringify(endpoint)} in the option webhooks of this node: GET /webhooks lists them`);
  audit.done(caller, "webhooks", command, replayed);
  answer(res, 200, { endpoint, ...replayed });
}

function existing(webhooks: WebhookControl | null): WebhookControl {
  if (webhooks === null) throw new Refused(404, "not_found", "this node has no webhooks: see the option webhooks");
  return webhooks;
}

function inTime<T>(work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    throw new Refused(503, "unavailable", `the dead letters cannot be read now: ${String(error)}`);
  });
}

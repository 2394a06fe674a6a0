/** Checks what an embedding program passes. The limits are those of clients. Each function throws an ApiError. */
import * as z from "zod";
import { nameBytesMax, nameProblem, roomNameProblem } from "../config/roomnames.ts";
import { drainShape } from "../messages/drainoptions.ts";
import { roomsPerPageMax } from "../messages/survey.ts";
import { keyCharsMax, pageSizeMax } from "../protocol/limits.ts";
import { Format } from "../protocol/messages.ts";
import { inboxName } from "../protocol/roomkeys.ts";
import { payloadProblem } from "../reactor/payload.ts";
import { ApiError } from "./error.ts";

const afterCharsMax = 4096;

const tenant = z.string().optional();
const key = z.string().max(keyCharsMax).refine((text) => text.isWellFormed(), "contains half of a surrogate pair (invalid Unicode)").optional();
const position = z.object({ epoch: z.string().max(keyCharsMax), seq: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER) });
const timeoutMs = z.number().min(0).optional();
/** Of publications that wait to be read from a stream. */
export const streamQueueMax = 10_000;

/** An unknown option is refused: it is a typing error. */
export const shapes = {
  publish: z.strictObject({ key, tenant, exclude: z.string().regex(/^[\w-]{1,64}$/, "must be the identifier of a session").optional() }),
  send: z.strictObject({ key, tenant }),
  history: z
    .strictObject({ tenant, since: position.optional(), before: position.optional(), limit: z.number().int().min(1).optional() })
    .refine(({ since, before }) => since === undefined || before === undefined, "set only one of since and before"),
  members: z.strictObject({ tenant, after: z.string().max(afterCharsMax).optional(), limit: z.number().int().min(0).optional() }),
  user: z.strictObject({ tenant }),
  disconnect: z.strictObject({ tenant, signOut: z.boolean().optional(), timeoutMs }),
  reconnect: z.strictObject({ tenant, url: z.string().optional(), timeoutMs }),
  rooms: z.strictObject({ tenant, prefix: z.string().optional(), cursor: z.string().optional(), limit: z.number().int().min(1).max(roomsPerPageMax).optional() }),
  stream: z.strictObject({ tenant, since: position.optional(), queueMax: z.number().int().min(1).max(streamQueueMax).optional() }),
};

export function checked<T>(shape: z.ZodType<T>, options: unknown): T {
  const { data, error } = shape.safeParse(options);
  if (error === undefined) return data;
  const issue = error.issues[0];
  throw badRequest(`${issue?.path.join(".") || "options"}: ${issue?.message}`);
}

export function checkRoom(room: unknown, bytesMax: number): string {
  if (typeof room !== "string") throw badRequest("room: must be a string");
  const problem = roomNameProblem(room, bytesMax);
  if (problem !== null) throw badRequest(problem);
  // Without a user it would be nobody's inbox.
  if (room === inboxName) throw new ApiError("forbidden", `${inboxName} belongs to one user: use send`);
  return room;
}

/** Part of a room's name, or nothing. */
export function checkPrefix(name: string, bytesMax: number): void {
  const problem = name === "" ? null : roomNameProblem(name, bytesMax);
  if (problem !== null) throw badRequest(problem);
}

/** Empty for none. */
export function checkUrl(url: string | undefined): string {
  if (url === undefined) return "";
  const { data, error } = drainShape.safeParse({ url });
  if (error !== undefined) throw badRequest(`url: ${error.issues[0]?.message}`);
  return data.url ?? "";
}

export function checkUser(user: unknown): string {
  return checkName("user", user, nameBytesMax);
}

/** Names are part of keys, and keys keep tenants apart: a control character in a name would reach another tenant. */
export function checkTenant(tenant: string | undefined): string {
  return tenant === undefined || tenant === "" ? "" : checkName("tenant", tenant, nameBytesMax);
}

function checkName(field: string, name: unknown, bytesMax: number): string {
  if (typeof name !== "string") throw badRequest(`${field}: must be a string`);
  const problem = nameProblem(field, name, bytesMax);
  if (problem !== null) throw badRequest(problem);
  return name;
}

/** @param limit of the options; a larger one than a page holds is that of a page. */
export function pageLimit(limit: number | undefined, preset: number, max = pageSizeMax): number {
  return Math.min(limit ?? preset, max);
}

export interface Payload {
  readonly payload: Uint8Array;
  readonly format: number;
}

/** A Uint8Array is sent as bytes, anything else as JSON. */
export function payloadOf(data: unknown, bytesMax: number): Payload {
  const format = data instanceof Uint8Array ? Format.BINARY : Format.JSON;
  const payload = data instanceof Uint8Array ? data : jsonOf(data);
  if (payload.length > bytesMax) throw new ApiError("too_large", `data: at most ${bytesMax} bytes (frameBytesMax)`);
  const problem = payloadProblem(payload, format, true);
  if (problem !== null) throw badRequest(problem);
  return { payload, format };
}

/** JSON that is text already. */
export function jsonPayload(text: string, bytesMax: number): Payload {
  const payload = utf8.encode(text);
  if (payload.length > bytesMax) throw new ApiError("too_large", `data: at most ${bytesMax} bytes (frameBytesMax)`);
  const problem = payloadProblem(payload, Format.JSON, false);
  if (problem !== null) throw badRequest(problem);
  return { payload, format: Format.JSON };
}

const utf8 = new TextEncoder();

function jsonOf(data: unknown): Uint8Array {
  // JSON would make an empty object of them.
  if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer || ArrayBuffer.isView(data)) throw badRequest("data: give bytes as a Uint8Array");
  let text: string | undefined;
  try {
    text = JSON.stringify(data);
  } catch (error) {
    throw badRequest(`data: cannot be written as JSON${error instanceof Error ? `: ${error.message}` : ""}`);
  }
  if (text === undefined) throw badRequest(`data: JSON cannot express ${typeof data}`);
  return utf8.encode(text);
}

function badRequest(text: string): ApiError {
  return new ApiError("bad_request", text);
}

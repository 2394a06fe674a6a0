/** The backend's answers: from JSON to a verdict. Everything in them is checked: a name out of them becomes a key. */
import * as z from "zod";
import type { ErrorCode } from "../errors.ts";
import { nameProblem, roomNameProblem, type KindOf } from "../config/roomnames.ts";
import { hookRoomsBytesMax, hookRoomsMax, type Allowed, type Denied, type HookName } from "../link/hooks.ts";
import { inboxName } from "../protocol/roomkeys.ts";
import { Format } from "../protocol/messages.ts";

export interface VerdictLimits {
  readonly kindOf: KindOf;
  readonly roomNameBytesMax: number;
  readonly frameBytesMax: number;
}

/** A verdict, and how long the same question gets it again. */
export interface Answered {
  readonly verdict: Allowed | Denied;
  readonly maxAgeMs: number;
}

/** A verdict that is remembered longer would outlive what the backend knew. */
const ageMsMax = 86_400_000;
const userBytesMax = 128;
/** A close frame has 125 bytes. */
const reasonBytesMax = 100;

/** Close codes for the application: those below 4500 let the client reconnect. The SDK uses 4000 to 4099 itself. */
const closeMin = 4100;
const closeMax = 4999;
export const closeDefault = 4500;

/** Error codes that a verdict may name. */
const codes = ["forbidden", "rate_limited", "bad_request", "too_large", "unavailable"] as const satisfies readonly ErrorCode[];

const shape = z.object({
  allow: z.boolean(),
  maxAgeMs: z.int().min(0).max(ageMsMax).optional(),
  code: z.union([z.int().min(closeMin).max(closeMax), z.enum(codes)]).optional(),
  reason: z.string().optional(),
  user: z.string().optional(),
  rooms: z.array(z.string()).max(hookRoomsMax).optional(),
  data: z.unknown().optional(),
  b64: z.base64().optional(),
});
type Shape = z.infer<typeof shape>;

const noRooms: string[] = [];

/** The verdict in an answer, or what is wrong with it. @param now milliseconds since 1970 */
export function readVerdict(hook: HookName, body: string, limits: VerdictLimits, now: number): Answered | string {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return "its answer is not JSON";
  }
  const parsed = shape.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return `its answer: ${issue?.path.join(".") || "verdict"}: ${issue?.message ?? "malformed"}`;
  }
  const { allow, maxAgeMs = 0 } = parsed.data;
  const verdict = allow ? allowed(hook, parsed.data, limits, now) : denied(hook, parsed.data);
  return typeof verdict === "string" ? `its answer: ${verdict}` : { verdict, maxAgeMs };
}

function denied(hook: HookName, { code, reason = "" }: Shape): Denied | string {
  if (typeof code === "number" && hook !== "connect") return `code: a close code, which only connect may name; elsewhere ${codes.join(", ")}`;
  if (typeof code === "string" && hook === "connect") return `code: connect closes the socket, with a number from ${closeMin} to ${closeMax}`;
  const text = shortened(reason.replace(/[\u0000-\u001f\u007f]/g, " ").toWellFormed());
  const error = typeof code === "string" ? code : "forbidden";
  return { kind: "denied", close: typeof code === "number" ? code : closeDefault, error, reason: text };
}

function allowed(hook: HookName, { maxAgeMs, user = "", rooms = noRooms, data, b64 }: Shape, limits: VerdictLimits, now: number): Allowed | string {
  const isConnect = hook === "connect";
  const until = maxAgeMs === undefined ? 0 : now + maxAgeMs;
  if (user !== "" && !isConnect) return "user: only connect may name one";
  const userProblem = user === "" ? null : nameProblem("user", user, userBytesMax);
  if (userProblem !== null) return userProblem;
  if (rooms.length > 0 && !isConnect && hook !== "refresh") return "rooms: only connect and refresh may name some";
  const roomProblem = problemOfRooms(rooms, limits);
  if (roomProblem !== null) return roomProblem;
  const hasData = data !== undefined || b64 !== undefined;
  if (hasData && hook !== "publish") return "data, b64: only publish may replace them";
  if (data !== undefined && b64 !== undefined) return "data, b64: name only one";
  const payload = data !== undefined ? Buffer.from(JSON.stringify(data)) : b64 !== undefined ? Buffer.from(b64, "base64") : null;
  if (payload !== null && payload.length > limits.frameBytesMax) return `data: larger than frameBytesMax, ${limits.frameBytesMax} bytes`;
  return { kind: "allowed", until, user, rooms, payload, format: data !== undefined ? Format.JSON : Format.BINARY };
}

function problemOfRooms(rooms: readonly string[], { kindOf, roomNameBytesMax }: VerdictLimits): string | null {
  let bytes = 0;
  for (const room of rooms) {
    const problem = roomNameProblem(room, roomNameBytesMax);
    if (problem !== null) return `rooms: ${problem}`;
    if (room === inboxName) return `rooms: ${inboxName} is the client's own`;
    if (kindOf(room) === null) return `rooms: no namespace covers ${JSON.stringify(room)}`;
    bytes += Buffer.byteLength(room);
  }
  return bytes > hookRoomsBytesMax ? `rooms: names of more than ${hookRoomsBytesMax} bytes together` : null;
}

function shortened(text: string): string {
  let short = text.slice(0, reasonBytesMax);
  while (Buffer.byteLength(short) > reasonBytesMax) short = short.slice(0, -1);
  return short.toWellFormed();
}

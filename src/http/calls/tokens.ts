/** Tokens for clients. */
import * as z from "zod";
import { checkUser } from "../../api/checks.ts";
import { ApiError } from "../../api/error.ts";
import type { ApiCaller } from "../../auth/apikeys.ts";
import { allows, rightNames, type Right } from "../../auth/grants.ts";
import { call, onlyTenant } from "../call.ts";

const lifetimeDefault = 3_600;

type Rules = Readonly<Record<string, readonly Right[]>>;

export const tokenCall = call({
  name: "createToken",
  method: "POST",
  path: "/tokens",
  scope: "tokens",
  title: "Create a token for a client",
  text: "Creates a token with which a client connects as this user, signed with `authSecret`. It is off unless the option `apiTokens` is on. Without `rooms` the user may use every room, as its namespace allows. A key that covers some rooms only must name rooms that it covers.",
  query: onlyTenant,
  body: z.strictObject({
    user: z.string().describe("Name of the user."),
    rooms: z.record(z.string(), z.array(z.enum(rightNames))).optional().describe("Rights by pattern of room names: `{\"chat:*\": [\"join\", \"publish\"]}`."),
    send: z.boolean().optional().describe("May send direct messages. Default: true."),
    limits: z.strictObject({ commandsPerSecond: z.number().int().min(1).optional(), rooms: z.number().int().min(0).optional() }).optional().describe("Limits of the user's sessions, in place of the node's."),
    expiresIn: z.number().int().min(1).optional().describe(`Lifetime in seconds. Default ${lifetimeDefault}, or \`apiTokenMaxMs\` if that is less. More than \`apiTokenMaxMs\` is refused.`),
  }),
  status: 201,
  answer: z.object({ token: z.string(), expiresAt: z.iso.datetime() }),
  errors: [],
  example: {
    path: "/tokens",
    body: { user: "ann", rooms: { "chat:*": ["join", "publish", "history"] }, expiresIn: 600 },
    answer: { token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4ifQ.8gC", expiresAt: "2026-11-29T12:10:00.000Z" },
  },
  serve({ config, makeToken }, request) {
    const { rooms, send, limits, expiresIn } = request.body;
    if (makeToken === null) throw new ApiError("forbidden", "this node makes no tokens: the option apiTokens is off");
    const user = checkUser(request.body.user);
    const secondsMax = Math.floor(config.apiTokenMaxMs / 1_000);
    if (expiresIn !== undefined && expiresIn > secondsMax) throw new ApiError("bad_request", `expiresIn: at most ${secondsMax} seconds (apiTokenMaxMs)`);
    checkRooms(request.caller, rooms);
    const made = makeToken({ user, tenant: request.tenant, rooms, send, limits, lifetimeSeconds: expiresIn ?? Math.min(lifetimeDefault, secondsMax) });
    if ("problem" in made) throw new ApiError("bad_request", made.problem);
    const expiresAt = new Date(made.expiresAt * 1_000).toISOString();
    request.audit("token", { user, ...(request.tenant !== "" && { tenant: request.tenant }), ...(rooms !== undefined && { rooms: Object.keys(rooms) }) }, { expiresAt });
    request.answer(201, { token: made.token, expiresAt });
  },
});

/**
 * A caller gives no rights that it does not have. A pattern is covered where it matches as if it were a name: a `*` in
 * it can only match a `*` of the caller's pattern. @throws ApiError
 */
function checkRooms(caller: ApiCaller, rooms: Rules | undefined): void {
  if (caller.rooms === null) return;
  if (rooms === undefined) throw new ApiError("forbidden", "rooms: is missing; the credential covers some rooms only, so name rooms that it covers");
  for (const [pattern, rights] of Object.entries(rooms)) {
    const missing = rights.find((right) => !allows(caller, right, pattern));
    if (missing !== undefined) throw new ApiError("forbidden", `rooms: the credential does not cover ${missing} in ${JSON.stringify(pattern.slice(0, 64))}`);
  }
}

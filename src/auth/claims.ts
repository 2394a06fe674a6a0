/** Reads, checks and bounds the claims of a token, and makes the grant. Unknown claims are ignored. */
import type { JWTPayload } from "jose";
import * as z from "zod";
import { rightNames, type Grant } from "./grants.ts";
import { nameBytesMax, nameProblem } from "../config/roomnames.ts";

/** No provider's tokens are nearly this long. Longer tokens are rejected unread. */
export const tokenBytesMax = 8192;
export const patternsMax = 100;
const patternBytesMax = 256;
const perSecondMax = 1_000_000;
const roomsMax = 100_000;
/** Seconds since 1970 up to the year 9999. Larger values are milliseconds, or a mistake. */
const secondsMax = 253_402_300_799;

const seconds = z.number().min(0).max(secondsMax);
const name = text(nameBytesMax);

const claims = z.object({
  sub: name,
  tenant: z.union([z.literal(""), name]).default(""),
  iat: seconds.optional(),
  exp: seconds.optional(),
  rooms: z
    .record(text(patternBytesMax), z.array(z.enum(rightNames)).max(rightNames.length))
    .refine((rooms) => Object.keys(rooms).length <= patternsMax, `at most ${patternsMax} patterns`)
    .optional(),
  send: z.boolean().default(true),
  limits: z
    .object({
      commandsPerSecond: z.number().int().min(1).max(perSecondMax).optional(),
      rooms: z.number().int().min(0).max(roomsMax).optional(),
    })
    .default({}),
});

/**
 * Names become part of keys and logs, so they contain no control characters and have the length limits of other names.
 * `superRefine` is avoided: V8 puts 200 bytes per value into its old space, where garbage is collected late.
 */
function text(bytesMax: number) {
  const problemOf = (value: unknown) => nameProblem("name", String(value), bytesMax);
  return z.string().refine((value) => problemOf(value) === null, { error: ({ input }) => problemOf(input)?.slice("name: ".length) });
}

export type Read = { readonly grant: Grant } | { readonly problem: string };

export function grantOf(payload: JWTPayload, tokenHash = ""): Read {
  const parsed = claims.safeParse(payload);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return { problem: `${issue?.path.join(".") || "claims"}: ${issue?.message}` };
  }
  const { sub, tenant, iat, exp, rooms, send, limits } = parsed.data;
  const grant: Grant = {
    user: sub,
    tenant,
    tokenHash,
    issuedAt: Math.floor((iat ?? 0) * 1000),
    expiresAt: Math.floor((exp ?? 0) * 1000),
    rooms: rooms === undefined ? null : Object.entries(rooms).map(([pattern, rights]) => ({ pattern, rights })),
    send,
    commandsPerSecond: limits.commandsPerSecond ?? null,
    roomsMax: limits.rooms ?? null,
    hook: null,
  };
  return { grant };
}

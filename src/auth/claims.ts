/** Reads, checks and bounds the claims of a token, and makes the grant. Unknown claims are ignored. */
import type { JWTPayload } from "jose";
import { rightNames, type Grant } from "./grants.ts";
import { nameBytesMax, nameProblem } from "../config/roomnames.ts";
import { array, boolean, check, entries, number, object, oneOf, optional, string, whole, wrong, type Read } from "../protocol/checks.ts";

/** No provider's tokens are nearly this long. Longer tokens are rejected unread. */
export const tokenBytesMax = 8192;
export const patternsMax = 100;
const patternBytesMax = 256;
const perSecondMax = 1_000_000;
const roomsMax = 100_000;
/** Seconds since 1970 up to the year 9999. Larger values are milliseconds, or a mistake. */
const secondsMax = 253_402_300_799;

const seconds = optional(number(0, secondsMax));
const name = named(nameBytesMax);

const claims = object({
  sub: name,
  tenant: optional((value) => (value === "" ? "" : name(value))),
  iat: seconds,
  exp: seconds,
  rooms: optional(entries(named(patternBytesMax), array(oneOf(rightNames), rightNames.length), patternsMax)),
  send: optional(boolean),
  limits: optional(object({ commandsPerSecond: optional(whole(1, perSecondMax)), rooms: optional(whole(0, roomsMax)) })),
});

/** Names become part of keys and logs, so they contain no control characters and have the length limits of other names. */
function named(bytesMax: number): Read<string> {
  return (value) => {
    const problem = nameProblem("name", string(value), bytesMax);
    return problem === null ? (value as string) : wrong(problem.slice("name: ".length));
  };
}

export type GrantOrProblem = { readonly grant: Grant } | { readonly problem: string };

export function grantOf(payload: JWTPayload, tokenHash = ""): GrantOrProblem {
  const checked = check(claims, payload, "claims");
  if ("problem" in checked) return checked;
  const { sub, tenant = "", iat, exp, rooms, send = true, limits } = checked.value;
  const grant: Grant = {
    user: sub,
    tenant,
    tokenHash,
    issuedAt: Math.floor((iat ?? 0) * 1000),
    expiresAt: Math.floor((exp ?? 0) * 1000),
    rooms: rooms === undefined ? null : rooms.map(([pattern, rights]) => ({ pattern, rights })),
    send,
    commandsPerSecond: limits?.commandsPerSecond ?? null,
    roomsMax: limits?.rooms ?? null,
    hook: null,
  };
  return { grant };
}

/**
 * Resume tokens prove that a client had a session on this gateway, of which user, and with which grant. A node needs
 * nothing else where the session store is unavailable. Format: `base64url(JSON).base64url(HMAC)`, with SHA-256 and a
 * secret that all nodes share. Creating and checking take microseconds and never wait: every ready carries a token, and
 * a storm of reconnects begins with checking them.
 */
import * as z from "zod";
import { rightNames, type Grant } from "./grants.ts";
import { Mac } from "./mac.ts";

export interface ResumeClaims {
  readonly session: string;
  /** Generation of the socket that received the token: see sessions/sessions.ts. */
  readonly generation: number;
  /** Grant of the session when this token was made. */
  readonly grant: Grant;
}

/** No node makes tokens nearly this long: a grant is bounded by the token it comes from, the rooms of hooks by `hookRoomsBytesMax`. */
const tokenCharsMax = 65_536;

/** Null for the limits that most grants have. */
const bounds = z.nullable(
  z.object({
    rooms: z.nullable(z.array(z.object({ pattern: z.string(), rights: z.array(z.enum(rightNames)) }))),
    send: z.boolean(),
    commandsPerSecond: z.nullable(z.number()),
    roomsMax: z.nullable(z.number()),
  }),
);
const unbounded = { rooms: null, send: true, commandsPerSecond: null, roomsMax: null };
const hook = z.tuple([z.string(), z.number(), z.array(z.string())]);
/** Tokens of earlier versions have no generation. Those of sessions without a hook's verdict end there. */
const claims = z.tuple([z.string().min(1).max(64), z.string(), z.string(), z.string(), z.number(), z.number(), bounds, z.int().min(0).optional(), hook.optional()]);

export class ResumeTokens {
  readonly #mac: Mac;

  constructor(secret: string) {
    this.#mac = new Mac(Buffer.from(secret));
  }

  make(session: string, generation: number, { user, tenant, tokenHash, issuedAt, expiresAt, rooms, send, commandsPerSecond, roomsMax, hook }: Grant): string {
    const bounded = rooms !== null || !send || commandsPerSecond !== null || roomsMax !== null;
    const fields = [session, user, tenant, tokenHash, issuedAt, expiresAt, bounded ? { rooms, send, commandsPerSecond, roomsMax } : null, generation, ...(hook === null ? [] : [[hook.from, hook.until, hook.rooms]])];
    const body = Buffer.from(JSON.stringify(fields)).toString("base64url");
    return `${body}.${this.#mac.signText(body)}`;
  }

  /** Null: not signed with this secret. The caller checks the expiry. */
  read(token: string): ResumeClaims | null {
    const dot = token.indexOf(".");
    if (token.length > tokenCharsMax || dot < 0) return null;
    const body = token.slice(0, dot);
    if (!this.#mac.isSignature(body, token.slice(dot + 1))) return null;
    const parsed = claims.safeParse(parse(Buffer.from(body, "base64url").toString()));
    if (!parsed.success) return null;
    const [session, user, tenant, tokenHash, issuedAt, expiresAt, bound, generation = 0, hooked] = parsed.data;
    const hook = hooked === undefined ? null : { from: hooked[0], until: hooked[1], rooms: hooked[2] };
    return { session, generation, grant: { user, tenant, tokenHash, issuedAt, expiresAt, ...(bound ?? unbounded), hook } };
  }
}

/** Undefined for invalid JSON: a holder of the secret may sign anything, and it must not crash a reactor. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Resume tokens: that a client had a session on this gateway, whose it was, and what it might do. They are all that is
 * needed where the store of sessions is away. `base64url(JSON).base64url(HMAC)`, the HMAC is SHA-256 with a secret that
 * the nodes share. Made and checked in microseconds and without waiting, since every ready carries
 * one and a storm of reconnects begins with checking them.
 */
import * as z from "zod";
import { rightNames, type Grant } from "./grants.ts";
import { Mac } from "./mac.ts";

export interface ResumeClaims {
  readonly session: string;
  /** Of the socket that was given it: see sessions/sessions.ts. */
  readonly generation: number;
  /** Of the token the session had when this one was made. */
  readonly grant: Grant;
}

/** No token that a node makes comes near it: grants are bounded by the token they come from. */
const tokenCharsMax = 65_536;

/** Null where there is nothing that most grants do not say. */
const bounds = z.nullable(
  z.object({
    rooms: z.nullable(z.array(z.object({ pattern: z.string(), rights: z.array(z.enum(rightNames)) }))),
    send: z.boolean(),
    commandsPerSecond: z.nullable(z.number()),
    roomsMax: z.nullable(z.number()),
  }),
);
const unbounded = { rooms: null, send: true, commandsPerSecond: null, roomsMax: null };
/** Those that an earlier version has made say nothing of the generation. */
const claims = z.tuple([z.string().min(1).max(64), z.string(), z.string(), z.string(), z.number(), z.number(), bounds, z.int().min(0).optional()]);

export class ResumeTokens {
  readonly #mac: Mac;

  constructor(secret: string) {
    this.#mac = new Mac(Buffer.from(secret));
  }

  make(session: string, generation: number, { user, tenant, tokenHash, issuedAt, expiresAt, rooms, send, commandsPerSecond, roomsMax }: Grant): string {
    const bounded = rooms !== null || !send || commandsPerSecond !== null || roomsMax !== null;
    const fields = [session, user, tenant, tokenHash, issuedAt, expiresAt, bounded ? { rooms, send, commandsPerSecond, roomsMax } : null, generation];
    const body = Buffer.from(JSON.stringify(fields)).toString("base64url");
    return `${body}.${this.#mac.sign(body).toString("base64url")}`;
  }

  /** Null: it was not made with this secret. Whether it has expired is the caller's to see. */
  read(token: string): ResumeClaims | null {
    const dot = token.indexOf(".");
    if (token.length > tokenCharsMax || dot < 0) return null;
    const body = token.slice(0, dot);
    if (!this.#mac.isSignature(body, token.slice(dot + 1))) return null;
    const parsed = claims.safeParse(parse(Buffer.from(body, "base64url").toString()));
    if (!parsed.success) return null;
    const [session, user, tenant, tokenHash, issuedAt, expiresAt, bound, generation = 0] = parsed.data;
    return { session, generation, grant: { user, tenant, tokenHash, issuedAt, expiresAt, ...(bound ?? unbounded) } };
  }
}

/** Undefined where it is not JSON: who knows the secret may have signed anything, and must not stop a reactor with it. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

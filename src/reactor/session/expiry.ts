/** Token expiry: warns a session in time to send a new token, and closes it when none has come. */
import type { Grant } from "../../auth/grants.ts";
import type { Context } from "../context.ts";
import { closeSession, sendFrame } from "../outgoing.ts";

/** Short enough to warn for a token of 2 s too: one look falls into the last fifth of its lifetime. */
const lookMs = 250;
const warnedShare = 0.8;

export class Expiry {
  readonly #context: Context;
  #timer: NodeJS.Timeout | null = null;

  constructor(context: Context) {
    this.#context = context;
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), lookMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  #look(): void {
    const { sessions } = this.#context;
    const time = Date.now();
    for (let slot = 0; slot < sessions.end; slot++) {
      const due = sessions.tokenDueAt[slot]!;
      if (due === 0 || due > time) continue;
      const session = sessions.at(slot);
      if (session?.state !== "ready") continue;
      const { expiresAt: expires } = session.grant!;
      if (expires <= time) {
        closeSession(this.#context, session, "token_expired");
        continue;
      }
      sessions.tokenDueAt[slot] = expires;
      sendFrame(this.#context, session, { id: 0, expiring: { expires } });
    }
  }
}

/**
 * When the session is warned: `tokenWarningMs` before its token expires, but never in the first part of the token's
 * lifetime. Otherwise a token with a short lifetime would be asked for as soon as it arrives. 0: the token never
 * expires.
 */
export function warningAt({ issuedAt, expiresAt }: Pick<Grant, "issuedAt" | "expiresAt">, tokenWarningMs: number, now = Date.now()): number {
  if (expiresAt === 0) return 0;
  // Without an issue time in the token, its lifetime counts from now.
  const from = issuedAt === 0 ? now : issuedAt;
  return Math.max(expiresAt - tokenWarningMs, from + warnedShare * (expiresAt - from));
}

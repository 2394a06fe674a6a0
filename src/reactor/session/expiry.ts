/** Tokens that run out: their sessions are warned in time to bring a new one, and closed when none has come. */
import type { Grant } from "../../auth/grants.ts";
import type { Context } from "../context.ts";
import { closeSession, sendFrame } from "../outgoing.ts";

/** A token of 2 s is warned of as well: a look falls into the last fifth of its lifetime. */
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
 * When the session is warned: `tokenWarningMs` before its token expires, but not before so much of the token's lifetime
 * is over, or a token that lives shorter than that would be asked for as soon as it is there. 0: it never expires.
 */
export function warningAt({ issuedAt, expiresAt }: Pick<Grant, "issuedAt" | "expiresAt">, tokenWarningMs: number, now = Date.now()): number {
  if (expiresAt === 0) return 0;
  // Of a token that does not say when it was issued, the lifetime is counted from now.
  const from = issuedAt === 0 ? now : issuedAt;
  return Math.max(expiresAt - tokenWarningMs, from + warnedShare * (expiresAt - from));
}

/** Tokens that run out: their sessions are warned in time to bring a new one, and closed when none has come. */
import type { Context } from "./context.ts";
import { closeSession, sendFrame } from "./outgoing.ts";

const lookMs = 1000;

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
    const { sessions, config } = this.#context;
    const time = Date.now();
    const warnBefore = time + config.tokenWarningMs;
    for (let slot = 0; slot < sessions.end; slot++) {
      const expires = sessions.expiresAt[slot]!;
      if (expires === 0 || expires > warnBefore) continue;
      const session = sessions.at(slot);
      if (session?.state !== "ready") continue;
      if (expires <= time) closeSession(this.#context, session, "token_expired");
      else if (sessions.warned[slot] === 0) {
        sessions.warned[slot] = 1;
        sendFrame(this.#context, session, { id: 0, expiring: { expires } });
      }
    }
  }
}

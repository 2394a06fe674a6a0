/** Fetches a new token for the session before the old one expires. */
import type { ClientFrame, Refreshed } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Backoff, Cancel, Clock } from "../clock.ts";
import type { OnReply } from "./commands.ts";
import { fluxError, FluxError } from "../flux-error.ts";
import type { Tokens } from "./tokens.ts";

export type RefresherOwner = {
  tokens: Tokens;
  clock: Clock;
  random: () => number;
  backoff: Backoff;
  send(command: ClientFrame, onReply: OnReply): void;
  onRefreshed(refreshed: Refreshed): void;
  onError(error: FluxError): void;
};

export class Refresher {
  readonly #owner: RefresherOwner;
  #cancelRetry: Cancel | null = null;
  /** Grows with every socket: work started for an earlier one is dropped. */
  #round = 0;
  #isRunning = false;
  /** Expiry for which the provider already gave an accepted token. Asked again, it would give the same. */
  #answered: number | null = null;

  constructor(owner: RefresherOwner) {
    this.#owner = owner;
  }

  /**
   * Asks the provider until the node accepts a token, or the socket is lost.
   * @param expires expiry of the current token, in milliseconds since 1970
   */
  start(expires: number): void {
    if (this.#isRunning || this.#answered === expires) return;
    this.#isRunning = true;
    void this.#try(this.#round, expires, 0);
  }

  /** The socket is lost. */
  stop(): void {
    this.#round++;
    this.#isRunning = false;
    this.#cancelRetry?.();
    this.#cancelRetry = null;
  }

  /** Rejects with a FluxError. */
  refresh(token: string): Promise<Refreshed> {
    this.#owner.tokens.set(token);
    return new Promise((resolve, reject) => {
      this.#owner.send({ refresh: { token } }, (answer) => {
        if ("error" in answer) return reject(answer.error);
        const refreshed = answer.reply.refreshed ?? {};
        this.#owner.onRefreshed(refreshed);
        resolve(refreshed);
      });
    });
  }

  async #try(round: number, expires: number, attempt: number): Promise<void> {
    const { tokens, clock, random, backoff, onError } = this.#owner;
    try {
      const token = await tokens.fetch(attempt === 0 ? "expiring" : "refused");
      if (this.#round !== round) return;
      await this.refresh(token);
      this.#answered = expires;
      this.#isRunning = false;
    } catch (error) {
      if (this.#round !== round) return;
      onError(error instanceof FluxError ? error : fluxError("no_token", `the token provider failed: ${String(error)}`));
      this.#cancelRetry = clock.after(backoffMs(attempt, backoff, random), () => void this.#try(round, expires, attempt + 1));
    }
  }
}

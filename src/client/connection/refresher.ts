/** Fetches a new token for the session before the old one expires. */
import type { ClientFrame, Refreshed } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Backoff, Cancel, Clock } from "../clock.ts";
import type { OnReply } from "./commands.ts";
import { fluxError, FluxError } from "../flux-error.ts";
import type { Tokens } from "./tokens.ts";
import { problemOf } from "../values.ts";

export type RefresherOwner = {
  tokens: Tokens;
  clock: Clock;
  random: () => number;
  backoff: Backoff;
  send(command: ClientFrame, onReply: OnReply): void;
  onRefreshed(refreshed: Refreshed): void;
  onError(error: FluxError): void;
};

/** Least time between two tokens, and before a provider that gave the same one is asked again. */
const floorMs = 5000;
/** Longest wait for the middle of a token's time. */
const pauseMsMax = 60_000;

export class Refresher {
  readonly #owner: RefresherOwner;
  #cancelRetry: Cancel | null = null;
  /** Grows with every socket: work started for an earlier one is dropped. */
  #round = 0;
  #isRunning = false;
  /** What the node warned of meanwhile: expiry and time until then. */
  #next: [expires: number, leftMs: number] | null = null;
  /** The node refused the last token of the provider. */
  #isRefused = false;
  /** Expiry for which the provider already gave an accepted token. Asked again, it would give the same. */
  #answered: number | null = null;
  /** When the provider last gave a token. */
  #gaveAt = -Infinity;

  constructor(owner: RefresherOwner) {
    this.#owner = owner;
  }

  /**
   * Asks the provider until the node accepts a token, or the socket is lost. Where tokens live so short that each is
   * warned of at once, the next one is asked for in the middle of that time.
   * @param expires expiry of the current token, in milliseconds since 1970 @param leftMs until then
   */
  start(expires: number, leftMs: number): void {
    if (this.#answered === expires) return;
    if (this.#isRunning) return void (this.#next = [expires, leftMs]);
    this.#isRunning = true;
    const waitMs = this.#gaveAt + Math.max(floorMs, Math.min(leftMs / 2, pauseMsMax)) - this.#owner.clock.now();
    if (waitMs > 0) this.#later(waitMs, expires, 0);
    else void this.#try(this.#round, expires, 0);
  }

  #later(waitMs: number, expires: number, attempt: number): void {
    const round = this.#round;
    this.#cancelRetry = this.#owner.clock.after(waitMs, () => void this.#try(round, expires, attempt));
  }

  /** The socket is lost. */
  stop(): void {
    this.#round++;
    this.#isRunning = this.#isRefused = false;
    this.#next = null;
    this.#cancelRetry?.();
    this.#cancelRetry = null;
  }

  /** Rejects with a FluxError. */
  refresh(token: string): Promise<Refreshed> {
    const { tokens } = this.#owner;
    const problem = problemOf({ token });
    if (problem !== null) return Promise.reject(fluxError("bad_request", problem));
    tokens.set(token);
    return new Promise((resolve, reject) => {
      this.#owner.send({ refresh: { token } }, (answer) => {
        // A node that could not check it now may take it later, as may the next socket's.
        if ("error" in answer) {
          if (!answer.error.retryable) tokens.takeBack(token);
          return reject(answer.error);
        }
        tokens.tell(token);
        const refreshed = answer.reply.refreshed ?? {};
        this.#owner.onRefreshed(refreshed);
        resolve(refreshed);
      });
    });
  }

  async #try(round: number, expires: number, attempt: number): Promise<void> {
    const { tokens, clock, random, backoff, onError } = this.#owner;
    try {
      const token = await tokens.fetch(this.#isRefused ? "refused" : "expiring");
      if (this.#round !== round) return;
      this.#gaveAt = clock.now();
      // The provider has kept the token, and so has the node.
      if (token === tokens.told) return this.#later(Math.max(floorMs, backoffMs(attempt, backoff, random)), expires, attempt + 1);
      await this.refresh(token);
      this.#answered = expires;
      this.#isRunning = this.#isRefused = false;
      const next = this.#next;
      this.#next = null;
      if (next !== null) this.start(...next);
    } catch (error) {
      if (this.#round !== round) return;
      this.#isRefused = error instanceof FluxError && !error.retryable;
      onError(error instanceof FluxError ? error : fluxError("no_token", `the token provider failed: ${String(error)}`));
      // Else a listener has left the session.
      if (this.#round === round) this.#later(backoffMs(attempt, backoff, random), expires, attempt + 1);
    }
  }
}

/** Holds the token, asks the provider for new ones, and knows whether asking again can help. */
import type { Clock } from "../clock.ts";
import { problemOf } from "../values.ts";

/**
 * Reason for a new token. `connect`: the first one. `expiring`: the current one expires soon. `expired`, `refused`: the node
 * rejected the previous one.
 */
export type TokenReason = "connect" | "expiring" | "expired" | "refused";

/** Function that returns a token. */
export type TokenProvider = (reason: TokenReason) => string | Promise<string>;

export class Tokens {
  readonly #provider: TokenProvider | null;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #current: string | null;
  #reason: TokenReason = "connect";
  #refused: string | null = null;
  /** The last token that hello gave, or that a node took later. */
  #told: string | null = null;
  #fetching: Promise<string> | null = null;
  /** Questions to the provider, and the last of them that was answered. */
  #asked = 0;
  #answered = 0;

  constructor(token: string | TokenProvider, clock: Clock, timeoutMs: number) {
    this.#provider = typeof token === "string" ? null : token;
    this.#current = typeof token === "string" ? token : null;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** The current token; null where there is none that the node might accept: call fetch(). */
  get current(): string | null {
    return this.#current;
  }

  get hasProvider(): boolean {
    return this.#provider !== null;
  }

  /**
   * Asks the provider, one request at a time. Rejects with the provider's error, or where it does not answer in time. A
   * late answer counts, unless there is a newer token.
   */
  fetch(reason = this.#reason): Promise<string> {
    const provider = this.#provider;
    if (provider === null) return Promise.resolve(this.#current ?? "");
    return (this.#fetching ??= new Promise<string>((resolve, reject) => {
      const number = ++this.#asked;
      const cancel = this.#clock.after(this.#timeoutMs, () => reject(new Error("no answer within connectTimeoutMs")));
      const answered = (token: string) => {
        const isNewer = number > this.#answered;
        if (isNewer && this.refusalOf(token) === null) this.#current = token;
        if (isNewer) this.#answered = number;
        resolve(this.#current ?? token);
      };
      ask(provider, reason).then(answered, reject).finally(cancel);
    }).finally(() => (this.#fetching = null)));
  }

  /** Sets a token that the application got by other means. */
  set(token: string): void {
    this.#current = token;
    this.#answered = this.#asked;
  }

  get told(): string | null {
    return this.#told;
  }

  tell(token: string): void {
    this.#told = token;
  }

  /** The node does not take this token: the last one that it took stays in use. */
  takeBack(token: string): void {
    this.#refused = token;
    this.#reason = "refused";
    if (this.#current === token) this.#current = this.#told;
  }

  /** The node rejected the token that it was given. False: there is no provider to ask for another. */
  refuse(reason: TokenReason): boolean {
    if (this.#provider === null) return false;
    this.#refused = this.#told;
    if (this.#current === this.#told) this.#current = null; // else no node has seen the newer one
    this.#reason = reason;
    return true;
  }

  /** How the node has rejected this same token before, or null. */
  refusalOf(token: string): TokenReason | null {
    return token === this.#refused && (token !== "" || this.#reason === "refused") ? this.#reason : null;
  }
}

/** A provider may throw before it returns a promise, and return anything. */
async function ask(provider: TokenProvider, reason: TokenReason): Promise<string> {
  const token: unknown = await provider(reason);
  if (typeof token !== "string" || problemOf(token) !== null) throw new Error("it returned no token");
  return token;
}

/** Holds the token, asks the provider for new ones, and knows whether asking again can help. */

/**
 * Reason for a new token. `connect`: the first one. `expiring`: the current one expires soon. `expired`, `refused`: the node
 * rejected the previous one.
 */
export type TokenReason = "connect" | "expiring" | "expired" | "refused";

/** Function that returns a token. */
export type TokenProvider = (reason: TokenReason) => string | Promise<string>;

export class Tokens {
  readonly #provider: TokenProvider | null;
  #current: string | null;
  #reason: TokenReason = "connect";
  #refused: string | null = null;
  #fetching: Promise<string> | null = null;

  constructor(token: string | TokenProvider) {
    this.#provider = typeof token === "string" ? null : token;
    this.#current = typeof token === "string" ? token : null;
  }

  /** The current token; null where there is none that the node might accept: call fetch(). */
  get current(): string | null {
    return this.#current;
  }

  get hasProvider(): boolean {
    return this.#provider !== null;
  }

  /** Asks the provider, one request at a time. Rejects with the provider's error. */
  fetch(reason = this.#reason): Promise<string> {
    if (this.#provider === null) return Promise.resolve(this.#current ?? "");
    this.#fetching ??= ask(this.#provider, reason)
      .then((token) => (this.#current = token))
      .finally(() => (this.#fetching = null));
    return this.#fetching;
  }

  /** Sets a token that the application got by other means. */
  set(token: string): void {
    this.#current = token;
  }

  /** The node rejected the current token. False: there is no provider to ask for another. */
  refuse(reason: TokenReason): boolean {
    if (this.#provider === null) return false;
    this.#refused = this.#current;
    this.#current = null;
    this.#reason = reason;
    return true;
  }

  /** Whether the node has rejected this same token before. */
  isRefused(token: string): boolean {
    return this.#reason === "refused" && token === this.#refused;
  }
}

/** A provider may throw before it returns a promise. */
async function ask(provider: TokenProvider, reason: TokenReason): Promise<string> {
  return provider(reason);
}

/** Where the token comes from, and whether asking for another can help. */

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

  /** Null: there is none that the node might take; fetch() asks for one. */
  get current(): string | null {
    return this.#current;
  }

  get hasProvider(): boolean {
    return this.#provider !== null;
  }

  /** Asks for one, but not twice at a time. Rejects with what the provider threw. */
  fetch(reason = this.#reason): Promise<string> {
    if (this.#provider === null) return Promise.resolve(this.#current ?? "");
    this.#fetching ??= ask(this.#provider, reason)
      .then((token) => (this.#current = token))
      .finally(() => (this.#fetching = null));
    return this.#fetching;
  }

  /** The application has one by other means. */
  set(token: string): void {
    this.#current = token;
  }

  /** The node did not take the one we have. False: there is nobody to ask for another. */
  refuse(reason: TokenReason): boolean {
    if (this.#provider === null) return false;
    this.#refused = this.#current;
    this.#current = null;
    this.#reason = reason;
    return true;
  }

  /** It is the one that the node did not take, again. */
  isRefused(token: string): boolean {
    return this.#reason === "refused" && token === this.#refused;
  }
}

/** Providers may throw before there is a promise. */
async function ask(provider: TokenProvider, reason: TokenReason): Promise<string> {
  return provider(reason);
}

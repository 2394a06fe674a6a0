/**
 * What this reactor knows of nodes that clients could not reach. The main thread looks (node/looks.ts), once for all
 * reactors and clients.
 */

export interface LooksOptions {
  /** Has the main thread look at a node. */
  ask(node: string): void;
  readonly now?: () => number;
}

/** A result is used this long before the next question makes another look. */
const freshMs = 1_000;
/** Callers that wait for looks. Others are answered from the last look. */
const waitingMax = 1_000;

export class ReactorLooks {
  readonly #options: LooksOptions;
  readonly #now: () => number;
  #refusing: ReadonlySet<string> = new Set();
  readonly #waiting = new Map<string, (() => void)[]>();
  readonly #lookedAt = new Map<string, number>();
  #waiters = 0;

  constructor(options: LooksOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** The last look found that this node refuses connections. */
  refuses(node: string): boolean {
    return this.#refusing.size > 0 && this.#refusing.has(node);
  }

  /**
   * Calls back when the node has been looked at, in half a second at most. Calls back at once where a fresh result is
   * known, and where too many wait. @param node a node that exists: the names that clients send are not kept
   */
  look(node: string, then: () => void): void {
    const isFresh = this.#now() - (this.#lookedAt.get(node) ?? -Infinity) < freshMs;
    if (isFresh || this.#waiters >= waitingMax) return then();
    const waiting = this.#waiting.get(node);
    this.#waiters++;
    if (waiting !== undefined) return void waiting.push(then);
    this.#waiting.set(node, [then]);
    this.#options.ask(node);
  }

  /** The main thread has looked at `node`. @param refusing all nodes that refuse */
  looked(node: string, refusing: readonly string[]): void {
    this.#refusing = new Set(refusing);
    const now = this.#now();
    for (const [known, at] of this.#lookedAt) if (now - at >= freshMs) this.#lookedAt.delete(known);
    this.#lookedAt.set(node, now);
    const waiting = this.#waiting.get(node) ?? [];
    this.#waiting.delete(node);
    this.#waiters -= waiting.length;
    for (const then of waiting) then();
  }
}

/**
 * Disconnects that are said late, and again: what another node had to keep while Redis was away. They are meant for the
 * sessions that a user had then. One that has begun since stays, or a user who has come back would be sent away once more.
 */
import type { SessionHere } from "../../sessions/sessions.ts";

export interface Came extends SessionHere {
  /** By the clock of `performance.now()`. */
  readonly cameAt: number;
}

/** Those that have a socket here, also those whose hello is not answered yet. */
export interface CameHere {
  here(): Came[];
  end(sessions: readonly Came[]): void;
}

export class LateDisconnects {
  readonly #sessions: CameHere;
  /** Users who are to be disconnected, and since when. */
  readonly #due = new Map<string, number>();

  constructor(sessions: CameHere) {
    this.#sessions = sessions;
  }

  /** The user was disconnected so long ago. */
  disconnect(userKey: string, agoMs: number): void {
    // All sessions are gone through: once for all that come together.
    if (this.#due.size === 0) setImmediate(() => this.#end());
    this.#due.set(userKey, Math.max(performance.now() - agoMs, this.#due.get(userKey) ?? 0));
  }

  #end(): void {
    const over = this.#sessions.here().filter(({ userKey, cameAt }) => cameAt <= (this.#due.get(userKey) ?? -1));
    this.#due.clear();
    this.#sessions.end(over);
  }
}

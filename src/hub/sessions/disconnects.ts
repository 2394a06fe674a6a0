/**
 * Disconnects that arrive late, and maybe twice: another node kept them while Redis was unavailable. They apply to the
 * sessions that the user had at that time. A session that began later stays. Otherwise a user who has reconnected would
 * be disconnected once more.
 */
import type { SessionHere } from "../../sessions/sessions.ts";

export interface Came extends SessionHere {
  /** By the clock of `performance.now()`. */
  readonly cameAt: number;
}

/** Sessions with a socket here, including those whose hello is not answered yet. */
export interface CameHere {
  here(): Came[];
  end(sessions: readonly Came[]): void;
}

export class LateDisconnects {
  readonly #sessions: CameHere;
  /** Users to disconnect, and since when. */
  readonly #due = new Map<string, number>();

  constructor(sessions: CameHere) {
    this.#sessions = sessions;
  }

  /** The user was disconnected so long ago. */
  disconnect(userKey: string, agoMs: number): void {
    // Ending searches all sessions, so it runs once for all disconnects that arrive together.
    if (this.#due.size === 0) setImmediate(() => this.#end());
    this.#due.set(userKey, Math.max(performance.now() - agoMs, this.#due.get(userKey) ?? 0));
  }

  #end(): void {
    const over = this.#sessions.here().filter(({ userKey, cameAt }) => cameAt <= (this.#due.get(userKey) ?? -1));
    this.#due.clear();
    this.#sessions.end(over);
  }
}

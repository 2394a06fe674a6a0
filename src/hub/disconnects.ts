/**
 * Disconnects that are said late, and again: what another node had to keep while Redis was away. They are meant for the
 * sessions that a user had then. One that has begun since stays, or a user who has come back would be sent away once more.
 */
import { now } from "../link/clock.ts";
import type { SessionHere, SessionsHere } from "../sessions/sessions.ts";

/** Longer than it takes until the marks of disconnected users are looked up again (sessions/ended.ts). */
const rememberedMs = 360_000;
const rememberedMax = 100_000;

export class LateDisconnects {
  readonly #sessions: SessionsHere;
  /** When those came that came lately, by their life, the first of them first. Whoever is not here came before. */
  readonly #came = new Map<string, number>();
  /** Users who are to be disconnected, and since when. */
  readonly #due = new Map<string, number>();

  constructor(sessions: SessionsHere) {
    this.#sessions = sessions;
  }

  began({ life }: Pick<SessionHere, "life">): void {
    const at = now();
    this.#came.set(life, at);
    for (const [first, cameAt] of this.#came) {
      if (at - cameAt < rememberedMs && this.#came.size <= rememberedMax) return;
      this.#came.delete(first);
    }
  }

  ended({ life }: Pick<SessionHere, "life">): void {
    this.#came.delete(life);
  }

  /** The user was disconnected so long ago. */
  disconnect(userKey: string, agoMs: number): void {
    // Nobody remembers who came since. Meanwhile the store was asked who is disconnected.
    if (agoMs >= rememberedMs) return;
    // All sessions are gone through: once for all that come together.
    if (this.#due.size === 0) setImmediate(() => this.#end());
    this.#due.set(userKey, Math.max(now() - agoMs, this.#due.get(userKey) ?? 0));
  }

  #end(): void {
    const over = this.#sessions.here().filter(({ userKey, life }) => (this.#came.get(life) ?? 0) <= (this.#due.get(userKey) ?? -1));
    this.#due.clear();
    this.#sessions.end(over);
  }
}

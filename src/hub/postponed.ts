/**
 * Joins that wait because their reactor is behind, or the broker is away: rooms of resumed sessions, which were told that
 * they are in them. They are refused nothing, so what bounds them is what each session was in.
 */
import type { JoinRecord } from "../link/records.ts";
import type { Reactor } from "./rooms.ts";

export class Postponed {
  readonly #waiting: { reactor: Reactor; join: JoinRecord }[] = [];
  readonly #again: (reactor: Reactor, join: JoinRecord) => void;
  readonly #pauseMs: number;
  #timer: NodeJS.Timeout | null = null;

  /** @param again may add it once more. @param pauseMs until they are looked at again */
  constructor(pauseMs: number, again: (reactor: Reactor, join: JoinRecord) => void) {
    this.#pauseMs = pauseMs;
    this.#again = again;
  }

  add(reactor: Reactor, join: JoinRecord): void {
    this.#waiting.push({ reactor, join });
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      for (const one of this.#waiting.splice(0)) this.#again(one.reactor, one.join);
    }, this.#pauseMs).unref();
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}

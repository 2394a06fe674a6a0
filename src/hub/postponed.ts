/**
 * Joins that wait while their reactor lags or the broker is unavailable. They belong to resumed sessions, which were
 * told that they are in these rooms, or to rooms of the application. None is refused while its session has its socket, so the bound is the number of
 * rooms of the sessions that are here.
 */
import type { JoinRecord } from "../link/records.ts";
import type { AttachedReactor } from "./rooms.ts";

export class Postponed {
  readonly #waiting: { reactor: AttachedReactor; join: JoinRecord }[] = [];
  readonly #again: (reactor: AttachedReactor, join: JoinRecord) => void;
  readonly #pauseMs: number;
  #timer: NodeJS.Timeout | null = null;

  /** @param again may add it once more. @param pauseMs until they are tried again */
  constructor(pauseMs: number, again: (reactor: AttachedReactor, join: JoinRecord) => void) {
    this.#pauseMs = pauseMs;
    this.#again = again;
  }

  add(reactor: AttachedReactor, join: JoinRecord): void {
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

/** Asks the store, with a deadline for each answer, and notes when it has been unavailable. */
import { answerMs } from "./leases.ts";
import type { Timers } from "./timers.ts";

export class Asking {
  readonly #timers: Timers;
  #isAway = true;
  #backAt = 0;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** For so long every answer came, but hints. A node that has just started counts like one whose store has just come back. */
  get calmMs(): number {
    return this.#isAway ? 0 : this.#timers.now() - this.#backAt;
  }

  away(): void {
    this.#isAway = true;
  }

  /** Undefined: the outcome is unknown. What comes after the deadline is ignored. */
  ask<T>(call: () => Promise<T>): Promise<T | undefined> {
    return this.#ask(call, (isAnswered) => {
      if (!isAnswered) this.#isAway = true;
      else if (this.#isAway) [this.#isAway, this.#backAt] = [false, this.#timers.now()];
    });
  }

  /**
   * The same for what nothing depends on, and whose silence says nothing of the store: NATS places a consumer of one
   * replica on a server that is cut off, too.
   */
  askForHint<T>(call: () => Promise<T>): Promise<T | undefined> {
    return this.#ask(call, () => undefined);
  }

  #ask<T>(call: () => Promise<T>, settled: (isAnswered: boolean) => void): Promise<T | undefined> {
    return new Promise((resolve) => {
      const settle = (answer: T | undefined, isAnswered: boolean): void => {
        cancel();
        settled(isAnswered);
        resolve(answer);
      };
      let isOver = false;
      const once = (answer: T | undefined, isAnswered: boolean): void => {
        if (!isOver) settle(answer, isAnswered);
        isOver = true;
      };
      const cancel = this.#timers.after(answerMs, () => once(undefined, false));
      call().then((answer) => once(answer, true), () => once(undefined, false));
    });
  }
}

/** A thread that can be frozen. What happens meanwhile waits, in order. */
import { answerTurns, type SimulatedClock, type SimulatedEvent } from "./clock.ts";

export class SimulatedThread {
  readonly #clock: SimulatedClock;
  readonly #waiting: SimulatedEvent[] = [];
  #until = 0;
  #isEnded = false;

  constructor(clock: SimulatedClock) {
    this.#clock = clock;
  }

  at(time: number, run: () => void): SimulatedEvent {
    return this.#clock.at(time, run, this);
  }

  /** False: it does not run now. */
  takes(event: SimulatedEvent): boolean {
    if (this.#isEnded) return false;
    if (this.#until <= this.#clock.now && this.#waiting.length === 0) return true;
    this.#waiting.push(event);
    return false;
  }

  freeze(until: number): void {
    if (until <= this.#until) return;
    this.#until = until;
    this.#clock.at(until, () => this.#goOn());
  }

  wake(): void {
    this.#until = 0;
    this.#clock.at(this.#clock.now, () => this.#goOn());
  }

  end(): void {
    this.#isEnded = true;
    this.#waiting.length = 0;
  }

  /** One by one: each may freeze it again, and what it settles is followed first. */
  #goOn(): void {
    if (this.#until > this.#clock.now) return;
    this.#waiting.shift()?.run?.();
    this.#clock.turns = answerTurns;
    if (this.#waiting.length > 0) this.#clock.at(this.#clock.now, () => this.#goOn());
  }
}

/**
 * Stops asking a backend that does not answer. It opens after several failures: then nothing is asked for a pause, and
 * nobody waits. After the pause one question is a trial. Its answer closes the breaker; its failure makes the pause
 * longer.
 */
const inARow = 5;
/** Of the last `seen` questions so many failures open it as well: a backend that answers every other question. */
const seen = 20;
const failuresMax = 10;
const pauseMs = 1000;
const pauseMsMax = 8000;

export type BreakerState = "closed" | "open" | "trial";

export class Breaker {
  readonly #clock: () => number;
  #state: BreakerState = "closed";
  /** The last questions, a bit each: 1 for a failure. */
  #history = 0;
  #pauseMs = pauseMs;
  #until = 0;

  /** @param clock milliseconds; replaced in tests */
  constructor(clock = () => performance.now()) {
    this.#clock = clock;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Whether to ask now. In a pause's end one caller gets true, and its question is the trial. */
  admits(): boolean {
    if (this.#state === "closed") return true;
    if (this.#state === "trial" || this.#clock() < this.#until) return false;
    this.#state = "trial";
    return true;
  }

  /** True: this closed it. Also an answer to a question from before it opened does. */
  succeeded(): boolean {
    const isNews = this.#state !== "closed";
    this.#history = isNews ? 0 : this.#shifted(0);
    this.#state = "closed";
    this.#pauseMs = pauseMs;
    return isNews;
  }

  /** True: this opened it, from closed. */
  failed(): boolean {
    // Late failures of questions from before it opened.
    if (this.#state === "open") return false;
    if (this.#state === "trial") {
      this.#pauseMs = Math.min(2 * this.#pauseMs, pauseMsMax);
      this.#open();
      return false;
    }
    this.#history = this.#shifted(1);
    const isRow = (this.#history & (2 ** inARow - 1)) === 2 ** inARow - 1;
    if (!isRow && ones(this.#history) < failuresMax) return false;
    this.#open();
    return true;
  }

  /** The question that was admitted is not asked after all. */
  withdrawn(): void {
    if (this.#state === "trial") this.#open();
  }

  #open(): void {
    this.#state = "open";
    this.#until = this.#clock() + this.#pauseMs;
  }

  #shifted(bit: 0 | 1): number {
    return ((this.#history << 1) | bit) & (2 ** seen - 1);
  }
}

function ones(bits: number): number {
  let count = 0;
  for (let left = bits; left !== 0; left &= left - 1) count++;
  return count;
}

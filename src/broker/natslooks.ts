/** Looking at all streams again for a reason that may come often: at once, and then once in a time at most. */
const lookAgainMs = 2_000;

export class Looks {
  readonly #look: () => void;
  #timer: NodeJS.Timeout | null = null;
  #lookedAt = -Infinity;

  constructor(look: () => void) {
    this.#look = look;
  }

  ask(): void {
    if (this.#timer !== null) return;
    const inMs = Math.max(0, this.#lookedAt + lookAgainMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#lookedAt = performance.now();
      this.#look();
    }, inMs).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}

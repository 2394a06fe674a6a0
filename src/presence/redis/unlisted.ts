/**
 * What went off a node's lists lately. It may have gone off those of a Redis that was restarted with what it had been told
 * some time ago: there it is still in the room, and the list would not lead to it.
 */
/** While Redis is away nothing passes: of more than these the first are forgotten. */
const namesMaxDefault = 100_000;

export class Unlisted {
  readonly #namesMax: number;
  #recent = new Set<string>();
  #older = new Set<string>();

  constructor(namesMax = namesMaxDefault) {
    this.#namesMax = namesMax;
  }

  add(name: string): void {
    this.#recent.add(name);
    for (const first of this.#recent) {
      if (this.#recent.size <= this.#namesMax) return;
      this.#recent.delete(first);
    }
  }

  /** Some come twice. */
  names(): string[] {
    return [...this.#recent, ...this.#older];
  }

  /** Redis has answered, and would have been found to be another since this was called before. */
  pass(): void {
    this.#older = this.#recent;
    this.#recent = new Set();
  }
}

/**
 * Names that recently went off a node's lists. A Redis that restarts with older data may still have the member in the
 * room, but not the name on the list.
 */
/** While Redis is unavailable no name leaves this set. Above this number the first are dropped. */
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

  has(name: string): boolean {
    return this.#recent.has(name) || this.#older.has(name);
  }

  /** Names can be there twice. */
  names(): string[] {
    return [...this.#recent, ...this.#older];
  }

  /** Call this after Redis has answered. A restart since the last call would have been noticed by now. */
  pass(): void {
    this.#older = this.#recent;
    this.#recent = new Set();
  }
}

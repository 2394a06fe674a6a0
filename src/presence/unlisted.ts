/**
 * What went off a node's lists lately. It may have gone off those of a Redis that was restarted with what it had been told
 * some time ago: there it is still in the room, and the list would not lead to it.
 */
export class Unlisted {
  #recent = new Set<string>();
  #older = new Set<string>();

  add(name: string): void {
    this.#recent.add(name);
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

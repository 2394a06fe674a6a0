import type { StorageLike } from "../../src/client/index.ts";

/** A tab's storage. A copy is what a duplicated tab gets. */
export class MemoryStorage implements StorageLike {
  readonly #items: Map<string, string>;

  constructor(from?: MemoryStorage) {
    this.#items = new Map(from === undefined ? [] : from.#items);
  }

  getItem(key: string): string | null {
    return this.#items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.#items.set(key, value);
  }

  removeItem(key: string): void {
    this.#items.delete(key);
  }

  get keys(): string[] {
    return [...this.#items.keys()];
  }
}

/**
 * Texts by id, each for a time and all up to a number: how sessions are kept in memory. One string a session, because
 * a hundred thousand of them wait here for sockets that mostly never come back.
 *
 * `lru-cache` was refused: with a `ttl` it takes 81 bytes an entry beside id and text where this takes 76 (100,000 entries,
 * Node 20), 44 of them for its whole maximum at once, which is ten times what most nodes have. Its expiry looks at all
 * entries, where here the first that lives on ends the search.
 */
export interface TableOptions {
  readonly ttlMs: number;
  readonly max: number;
  readonly clock: () => number;
  /** Told of every id that goes because of its time or the number. */
  readonly onForgotten?: (id: string) => void;
}

interface Row {
  text: string;
  /** Whole milliseconds: V8 keeps any other number in an object of its own. */
  until: number;
}

/** At the bound this share goes at once: finding the front of a Map steps over everything that was deleted there. */
const batchShare = 1 / 64;

export class Table {
  // All rows live equally long, so the order of writing is the order in which they expire.
  readonly #rows = new Map<string, Row>();
  readonly #options: TableOptions;

  constructor(options: TableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#rows.size;
  }

  put(id: string, text: string): void {
    const until = Math.ceil(this.#options.clock() + this.#options.ttlMs);
    const row = this.#rows.get(id) ?? { text, until };
    row.text = text;
    row.until = until;
    this.#rows.delete(id);
    this.#rows.set(id, row);
    if (this.#rows.size > this.#options.max) this.#forgetOldest(Math.ceil(this.#options.max * batchShare));
  }

  /** In place of what is there, which lives no longer for it. */
  replace(id: string, text: string): void {
    const row = this.#rows.get(id);
    if (row !== undefined) row.text = text;
  }

  /** Begins its time anew; false for an id that is not there. */
  keep(id: string): boolean {
    const text = this.get(id);
    if (text !== null) this.put(id, text);
    return text !== null;
  }

  get(id: string): string | null {
    const row = this.#rows.get(id);
    return row !== undefined && row.until > this.#options.clock() ? row.text : null;
  }

  /** Every id there is, the longest unwritten first. */
  ids(): string[] {
    return [...this.#rows.keys()];
  }

  delete(id: string): void {
    this.#rows.delete(id);
  }

  /** Whatever begins like this; its ids. Looks at every row: it is rarely asked for, and an index would be there for every session. */
  deleteAll(prefix: string): string[] {
    const ids: string[] = [];
    for (const [id, { text }] of this.#rows) if (text.startsWith(prefix)) ids.push(id);
    for (const id of ids) this.#rows.delete(id);
    return ids;
  }

  expire(): void {
    const now = this.#options.clock();
    for (const [id, { until }] of this.#rows) {
      if (until > now) return;
      this.#forget(id);
    }
  }

  clear(): void {
    this.#rows.clear();
  }

  #forgetOldest(count: number): void {
    for (const id of this.#rows.keys()) {
      if (count-- <= 0) return;
      this.#forget(id);
    }
  }

  #forget(id: string): void {
    this.#rows.delete(id);
    this.#options.onForgotten?.(id);
  }
}

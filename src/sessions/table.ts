/**
 * Texts by id, with a TTL and a bound: the sessions in memory. Each session is one string, since a hundred thousand of
 * them may wait here for clients that never return.
 *
 * Why not `lru-cache`: with a `ttl` it takes 81 bytes an entry beside id and text where this takes 76 (100,000 entries,
 * Node 20). It allocates 44 of them for its maximum at once, which is ten times what most nodes use. Its expiry looks
 * at all entries; here the first unexpired one ends the search.
 */
export interface TableOptions {
  readonly ttlMs: number;
  readonly max: number;
  readonly clock: () => number;
  /** Called with every id that expires or is evicted. */
  readonly onForgotten?: (id: string) => void;
}

interface Row {
  text: string;
  /** Whole milliseconds: V8 stores any other number as a separate object. */
  until: number;
}

/**
 * At the bound this share is evicted at once: finding the front of a Map steps over everything that was deleted there.
 */
const batchShare = 1 / 64;

export class Table {
  // All rows have the same TTL, so the order of writing is the order of expiry.
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

  /** Replaces the text of a row, and keeps its expiry. */
  replace(id: string, text: string): void {
    const row = this.#rows.get(id);
    if (row !== undefined) row.text = text;
  }

  /** Renews the TTL of a row; false for an unknown id. */
  keep(id: string): boolean {
    const text = this.get(id);
    if (text !== null) this.put(id, text);
    return text !== null;
  }

  get(id: string): string | null {
    const row = this.#rows.get(id);
    return row !== undefined && row.until > this.#options.clock() ? row.text : null;
  }

  /** All ids, the longest unwritten first. */
  ids(): string[] {
    return [...this.#rows.keys()];
  }

  delete(id: string): void {
    this.#rows.delete(id);
  }

  /**
   * Deletes all texts with this prefix and returns their ids. It looks at every row: it is rare, and an index would
   * cost memory for every session.
   */
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

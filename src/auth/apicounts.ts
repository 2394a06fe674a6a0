/** What callers of the HTTP API did, by a label for metrics. The number of labels is bounded, whatever keys there are. */

/** Names of keys that get a label of their own, in the order of their first request. */
const namesMax = 100;
const others = "other";

export interface CallerCounts {
  requests: number;
  publications: number;
  limited: number;
}

export class ApiCounts {
  unauthorized = 0;
  readonly #byKey = new Map<string, CallerCounts>();
  #names = 0;

  of({ kind, name }: { readonly kind: string; readonly name: string }): CallerCounts {
    const label = kind === "key" ? name : kind;
    const known = this.#byKey.get(label);
    if (known !== undefined) return known;
    if (kind !== "key") return this.#add(label);
    if (this.#names >= namesMax) return this.#byKey.get(others) ?? this.#add(others);
    this.#names++;
    return this.#add(label);
  }

  list(): ({ readonly key: string } & CallerCounts)[] {
    return [...this.#byKey].map(([key, counts]) => ({ key, ...counts }));
  }

  #add(label: string): CallerCounts {
    const counts = { requests: 0, publications: 0, limited: 0 };
    this.#byKey.set(label, counts);
    return counts;
  }
}

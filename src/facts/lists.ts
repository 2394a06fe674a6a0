/**
 * The lists of facts of one process: pure state, without files and timers. Numbers rise over all subjects and never
 * come twice, so that a number alone says which facts are older. Each start of a node begins an epoch; facts keep the
 * epoch in which they happened.
 */
import { bytesOfFact, deadLettersMax, factsMax, type DeadLetter, type Fact, type FactPage, type FactsUsage, type Subject } from "./facts.ts";

export interface FactListsOptions {
  /** Endpoints that are told of the subject: what all of them know is deleted. */
  endpointsOf(subject: Subject): readonly string[];
}

interface List {
  facts: Fact[];
  /** By endpoint, how many were deleted that it was not told, since it last heard of it. */
  readonly lost: Map<string, number>;
  /** By endpoint, up to which number it was told. */
  readonly told: Map<string, number>;
}

export interface Epoch {
  readonly name: string;
  /** Its first number. */
  readonly from: number;
}

export class FactLists {
  readonly #options: FactListsOptions;
  readonly #lists = new Map<Subject, List>();
  readonly #letters = new Map<string, Map<string, DeadLetter>>();
  readonly #off = new Map<string, string>();
  /** In order; the last is this process's. */
  #epochs: Epoch[] = [];
  #last = 0;
  #events = 0;
  #bytes = 0;

  constructor(options: FactListsOptions) {
    this.#options = options;
  }

  usage(): FactsUsage {
    return { events: this.#events, bytes: this.#bytes };
  }

  subjects(): readonly Subject[] {
    return [...this.#lists.keys()];
  }

  /** The number of the next fact. */
  get next(): number {
    return this.#last + 1;
  }

  /** Again: changes nothing. */
  begin(epoch: Epoch): void {
    if (this.#epochs.some(({ name }) => name === epoch.name)) return;
    this.#epochs.push(epoch);
    this.#epochs.sort((a, b) => a.from - b.from);
    this.#last = Math.max(this.#last, epoch.from - 1);
  }

  add(subject: Subject, fact: Fact): void {
    const { endpointsOf } = this.#options;
    const list = this.#listOf(subject);
    if (list.facts.length >= factsMax) {
      const { n } = list.facts[0]!;
      for (const endpoint of endpointsOf(subject)) if ((list.told.get(endpoint) ?? 0) < n) list.lost.set(endpoint, (list.lost.get(endpoint) ?? 0) + 1);
      this.#cut(list, 1);
    }
    this.#insert(list, list.facts.length, fact);
  }

  /** A fact that was stored. A journal may hold it twice, and not in order: see `all`. */
  restore(subject: Subject, fact: Fact): void {
    const list = this.#listOf(subject);
    const at = toldIn(list, fact.n);
    if (list.facts[at - 1]?.n !== fact.n) this.#insert(list, at, fact);
  }

  /** What was stored about an endpoint and a list. @param cut up to which number facts were deleted */
  restoreTold(endpoint: string, subject: Subject, n: number, cut: number): void {
    const list = this.#listOf(subject);
    list.told.set(endpoint, Math.max(n, list.told.get(endpoint) ?? 0));
    this.#cut(list, toldIn(list, cut));
  }

  /** Everything stored was restored: facts that no endpoint wants any more are deleted, and epochs without facts. */
  restored(): void {
    for (const [subject, list] of this.#lists) this.#trim(subject, list);
    const used = new Set([...this.#lists.values()].flatMap(({ facts }) => facts.map(({ n }) => this.#epochOf(n))));
    this.#epochs = this.#epochs.filter((epoch) => used.has(epoch));
  }

  /** Facts of one epoch: those of the next come with the next page. */
  page(endpoint: string, subject: Subject, max: number): FactPage {
    const list = this.#lists.get(subject);
    if (list === undefined) return { epoch: this.#epochOf(this.#last).name, facts: [], through: 0, waiting: 0, bytes: 0, lost: 0, heldMs: 0 };
    const skip = toldIn(list, list.told.get(endpoint) ?? 0);
    const lost = list.lost.get(endpoint) ?? 0;
    list.lost.delete(endpoint);
    const found = list.facts.slice(skip, skip + max);
    const epoch = this.#epochOf(found[0]?.n ?? this.#last);
    const facts = found.filter(({ n }) => this.#epochOf(n) === epoch);
    const bytes = facts.reduce((sum, fact) => sum + bytesOfFact(fact), 0);
    return { epoch: epoch.name, facts, through: facts.at(-1)?.n ?? 0, waiting: list.facts.length - skip, bytes, lost, heldMs: 0 };
  }

  count(endpoint: string, subject: Subject): number {
    const list = this.#lists.get(subject);
    return list === undefined ? 0 : list.facts.length - toldIn(list, list.told.get(endpoint) ?? 0);
  }

  /** The endpoint was told everything up to this number. @returns how many still wait for it, and up to which number facts were deleted */
  told(endpoint: string, subject: Subject, n: number): { readonly left: number; readonly cut: number } {
    const list = this.#lists.get(subject);
    if (list === undefined) return { left: 0, cut: 0 };
    list.told.set(endpoint, Math.max(n, list.told.get(endpoint) ?? 0));
    const cut = this.#trim(subject, list);
    return { left: this.count(endpoint, subject), cut };
  }

  bury(endpoint: string, letter: DeadLetter): void {
    const all = this.#letters.get(endpoint) ?? new Map<string, DeadLetter>();
    this.#letters.set(endpoint, all);
    if (!all.has(letter.id)) all.set(letter.id, letter);
    for (const id of all.keys()) {
      if (all.size <= deadLettersMax) break;
      all.delete(id);
    }
  }

  buried(endpoint: string, max: number): { readonly count: number; readonly letters: readonly DeadLetter[] } {
    const all = this.#letters.get(endpoint);
    return { count: all?.size ?? 0, letters: [...(all?.values() ?? [])].slice(0, max) };
  }

  unbury(endpoint: string, ids: readonly string[]): void {
    for (const id of ids) this.#letters.get(endpoint)?.delete(id);
  }

  disabled(endpoint: string): string {
    return this.#off.get(endpoint) ?? "";
  }

  disable(endpoint: string, url: string): void {
    if (url === "") this.#off.delete(endpoint);
    else this.#off.set(endpoint, url);
  }

  /** Everything, piece by piece. Each is read when it is taken, so facts added meanwhile may be among them or not. */
  *all(): Generator<
    | { readonly kind: "epoch"; readonly epoch: Epoch }
    | { readonly kind: "fact"; readonly subject: Subject; readonly fact: Fact }
    | { readonly kind: "told"; readonly subject: Subject; readonly endpoint: string; readonly n: number }
    | { readonly kind: "letter"; readonly endpoint: string; readonly letter: DeadLetter }
    | { readonly kind: "off"; readonly endpoint: string; readonly url: string }
  > {
    for (const epoch of this.#epochs) yield { kind: "epoch", epoch };
    for (const [subject, list] of this.#lists) {
      for (const [endpoint, n] of list.told) yield { kind: "told", subject, endpoint, n };
      // The list may be cut meanwhile: by number.
      for (let n = 0; ; ) {
        const fact = list.facts[toldIn(list, n)];
        if (fact === undefined) break;
        n = fact.n;
        yield { kind: "fact", subject, fact };
      }
    }
    for (const [endpoint, letters] of this.#letters) for (const letter of letters.values()) yield { kind: "letter", endpoint, letter };
    for (const [endpoint, url] of this.#off) yield { kind: "off", endpoint, url };
  }

  clear(): void {
    this.#lists.clear();
    this.#letters.clear();
    this.#off.clear();
    this.#events = this.#bytes = 0;
  }

  #epochOf(number: number): Epoch {
    for (let i = this.#epochs.length - 1; i > 0; i--) if (this.#epochs[i]!.from <= number) return this.#epochs[i]!;
    return this.#epochs[0] ?? noEpoch;
  }

  #listOf(subject: Subject): List {
    let list = this.#lists.get(subject);
    if (list === undefined) this.#lists.set(subject, (list = { facts: [], lost: new Map(), told: new Map() }));
    return list;
  }

  #insert(list: List, at: number, fact: Fact): void {
    if (at === list.facts.length) list.facts.push(fact);
    else list.facts.splice(at, 0, fact);
    this.#last = Math.max(this.#last, fact.n);
    this.#events++;
    this.#bytes += bytesOfFact(fact);
  }

  #trim(subject: Subject, list: List): number {
    const known = Math.min(...this.#options.endpointsOf(subject).map((endpoint) => list.told.get(endpoint) ?? 0));
    const done = toldIn(list, known);
    const cut = list.facts[done - 1]?.n ?? 0;
    this.#cut(list, done);
    if (list.facts.length === 0) this.#lists.delete(subject);
    return cut;
  }

  #cut(list: List, count: number): void {
    for (let i = 0; i < count; i++) this.#bytes -= bytesOfFact(list.facts[i]!);
    list.facts.splice(0, count);
    this.#events -= count;
  }
}

const noEpoch: Epoch = { name: "", from: 1 };

/** How many facts at the front have numbers up to this. */
function toldIn({ facts }: List, n: number): number {
  let [low, high] = [0, facts.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (facts[middle]!.n <= n) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The facts of one node, in memory. They are lost with the process, like the members they tell of. */
import { randomId } from "../platform/ids.ts";
import { deadLettersMax, factsMax, type DeadLetter, type Fact, type FactKind, type Facts, type Subject } from "./facts.ts";

export interface MemoryFactsOptions {
  /** Endpoints that are told of the subject: what all of them know is deleted. */
  endpointsOf(subject: Subject): readonly string[];
  /** Facts of all subjects together. */
  totalMax?: number;
  readonly clock?: () => number;
}

export interface MemoryFacts extends Facts {
  /** Adds a fact. Presence calls it with each change. */
  add(subject: Subject, fact: { readonly kind: FactKind; readonly users?: number; readonly member?: string; readonly session?: string }): void;
  readonly size: number;
}

const totalMaxDefault = 1_000_000;

interface List {
  facts: Fact[];
  /** By endpoint, how many were deleted that it was not told, since it last heard of it. */
  readonly lost: Map<string, number>;
  /** By endpoint, up to which number it was told. */
  readonly told: Map<string, number>;
}

export function createMemoryFacts({ endpointsOf, totalMax = totalMaxDefault, clock = Date.now }: MemoryFactsOptions): MemoryFacts {
  const lists = new Map<Subject, List>();
  /** One epoch and one counter for all: no number comes twice, also where a subject's list was deleted meanwhile. */
  const epoch = randomId(9);
  let last = 0;
  const letters = new Map<string, Map<string, DeadLetter>>();
  const off = new Map<string, string>();
  let size = 0;

  function dropOldest(subject: Subject, list: List): void {
    lose(subject, list, list.facts.shift()!.n);
    size--;
  }

  function lose(subject: Subject, { told, lost }: List, n: number): void {
    for (const endpoint of endpointsOf(subject)) if ((told.get(endpoint) ?? 0) < n) lost.set(endpoint, (lost.get(endpoint) ?? 0) + 1);
  }

  function trim(subject: Subject, list: List): void {
    const known = Math.min(...endpointsOf(subject).map((endpoint) => list.told.get(endpoint) ?? 0));
    const left = list.facts.findIndex(({ n }) => n > known);
    const told = left < 0 ? list.facts.length : left;
    list.facts.splice(0, told);
    size -= told;
    if (list.facts.length === 0) lists.delete(subject);
  }

  return {
    isVolatile: true,

    get size() {
      return size;
    },

    add(subject, { kind, users = 0, member = "", session = "" }) {
      let list = lists.get(subject);
      if (list === undefined) lists.set(subject, (list = { facts: [], lost: new Map(), told: new Map() }));
      if (list.facts.length >= factsMax || (size >= totalMax && list.facts.length > 0)) dropOldest(subject, list);
      else if (size >= totalMax) return lose(subject, list, Infinity);
      list.facts.push({ n: ++last, kind, at: clock(), users, member, session });
      size++;
    },

    async claim(endpoint, subject, { max }) {
      const list = lists.get(subject);
      if (list === undefined) return { epoch, facts: [], through: 0, waiting: 0, lost: 0, heldMs: 0 };
      const waiting = waitingIn(list, list.told.get(endpoint) ?? 0);
      const lost = list.lost.get(endpoint) ?? 0;
      list.lost.delete(endpoint);
      const page = waiting.slice(0, max);
      return { epoch, facts: page, through: page.at(-1)?.n ?? 0, waiting: waiting.length, lost, heldMs: 0 };
    },

    async told(endpoint, subject, { n }) {
      const list = lists.get(subject);
      if (list === undefined) return 0;
      const known = Math.max(n, list.told.get(endpoint) ?? 0);
      list.told.set(endpoint, known);
      trim(subject, list);
      return waitingIn(list, known).length;
    },

    async bury(endpoint, letter) {
      const all = letters.get(endpoint) ?? new Map<string, DeadLetter>();
      letters.set(endpoint, all);
      if (!all.has(letter.id)) all.set(letter.id, letter);
      for (const id of all.keys()) {
        if (all.size <= deadLettersMax) break;
        all.delete(id);
      }
    },

    async buried(endpoint, max) {
      const all = letters.get(endpoint);
      return { count: all?.size ?? 0, letters: [...(all?.values() ?? [])].slice(0, max) };
    },

    async unbury(endpoint, ids) {
      for (const id of ids) letters.get(endpoint)?.delete(id);
    },

    async disabled(endpoint) {
      return off.get(endpoint) ?? "";
    },

    async disable(endpoint, url) {
      if (url === "") off.delete(endpoint);
      else off.set(endpoint, url);
    },

    async stop() {
      lists.clear();
      letters.clear();
    },
  };
}

/** Facts after this number. */
function waitingIn({ facts }: List, known: number): readonly Fact[] {
  const first = facts.findIndex(({ n }) => n > known);
  return first < 0 ? [] : first === 0 ? facts : facts.slice(first);
}

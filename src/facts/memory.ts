/** The facts of one node, in memory. They are lost with the process, like the members they tell of. */
import { randomId } from "../platform/ids.ts";
import type { DeadLetter, FactKind, Facts, FactsUsage, Subject } from "./facts.ts";
import { FactLists, type FactListsOptions } from "./lists.ts";

export interface MemoryFactsOptions extends FactListsOptions {
  readonly clock?: () => number;
}

/** What has happened, without number and time. */
export interface NewFact {
  readonly kind: FactKind;
  readonly users?: number;
  readonly member?: string;
  readonly session?: string;
}

/** Facts that one process keeps. */
export interface OwnedFacts extends Facts {
  /** Adds a fact. Presence calls it with each change. */
  add(subject: Subject, fact: NewFact): void;
  usage(): FactsUsage;
}

/** Called after each change. */
export interface FactChanges {
  added(subject: Subject, n: number, fact: { readonly at: number } & Required<NewFact>): void;
  /** @param cut up to which number facts were deleted; 0 for none */
  told(endpoint: string, subject: Subject, n: number, cut: number): void;
  buried(endpoint: string, letter: DeadLetter): void;
  unburied(endpoint: string, ids: readonly string[]): void;
  disabled(endpoint: string, url: string): void;
}

export function createMemoryFacts(options: MemoryFactsOptions): OwnedFacts {
  const lists = new FactLists(options);
  lists.begin({ name: randomId(9), from: 1 });
  return ownFacts(lists, null, options.clock);
}

/** @param changes null: nobody keeps them */
export function ownFacts(lists: FactLists, changes: FactChanges | null, clock = Date.now): OwnedFacts {
  return {
    usage: () => lists.usage(),
    subjects: () => lists.subjects(),

    add(subject, { kind, users = 0, member = "", session = "" }) {
      const fact = { n: lists.next, kind, at: clock(), users, member, session };
      lists.add(subject, fact);
      changes?.added(subject, fact.n, fact);
    },

    async claim(endpoint, subject, { max }) {
      return lists.page(endpoint, subject, max);
    },

    async count(endpoint, subjects) {
      return subjects.map((subject) => lists.count(endpoint, subject));
    },

    async told(endpoint, subject, { n }) {
      const { left, cut } = lists.told(endpoint, subject, n);
      changes?.told(endpoint, subject, n, cut);
      return left;
    },

    async bury(endpoint, letter) {
      lists.bury(endpoint, letter);
      changes?.buried(endpoint, letter);
    },

    async buried(endpoint, max) {
      return lists.buried(endpoint, max);
    },

    async unbury(endpoint, ids) {
      lists.unbury(endpoint, ids);
      changes?.unburied(endpoint, ids);
    },

    async disabled(endpoint) {
      return lists.disabled(endpoint);
    },

    async disable(endpoint, url) {
      lists.disable(endpoint, url);
      changes?.disabled(endpoint, url);
    },

    async stop() {
      lists.clear();
    },
  };
}

/** The subjects with facts that one teller knows of, and sums over them that cost nothing to read. */
import type { Subject } from "../facts/facts.ts";

/** What this node knows of a subject with facts. */
export interface Known {
  readonly subject: Subject;
  state: "ready" | "busy" | "later";
  /** There may be more facts than were read. */
  again: boolean;
  /** A dead node whose claim is free, until this node has claimed once, and when it was found dead. */
  gone: { readonly node: string; readonly at: number } | undefined;
  /** Attempts that failed. */
  readonly attempts: number;
  /** Facts that wait, as far as this node has looked. */
  readonly waiting: number;
  /** Bytes of one of them, in the mean. */
  readonly bytesEach: number;
  /** When the oldest fact happened, or was first heard of. */
  since: number;
}

type Writable = { -readonly [K in keyof Known]: Known[K] };

/** Of a fact that was not read yet. */
const bytesGuessed = 150;
export const parkedAttempts = 5;
/** The oldest of all is looked for so often at most. */
const oldestMs = 1_000;

export class KnownSubjects {
  readonly #known = new Map<Subject, Known>();
  readonly #steady: () => number;
  #events = 0;
  #bytes = 0;
  #parked = 0;
  #oldest = Infinity;
  #oldestAt = -Infinity;

  /** @param steady milliseconds */
  constructor(steady: () => number) {
    this.#steady = steady;
  }

  get size(): number {
    return this.#known.size;
  }

  get events(): number {
    return this.#events;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get parked(): number {
    return this.#parked;
  }

  /** When the oldest fact happened, a second old at most; Infinity for none. */
  oldest(): number {
    if (this.#known.size === 0) return Infinity;
    const now = this.#steady();
    if (now - this.#oldestAt < oldestMs) return this.#oldest;
    this.#oldestAt = now;
    this.#oldest = Infinity;
    for (const { since } of this.#known.values()) if (since < this.#oldest) this.#oldest = since;
    return this.#oldest;
  }

  get(subject: Subject): Known | undefined {
    return this.#known.get(subject);
  }

  has(subject: Subject): boolean {
    return this.#known.has(subject);
  }

  values(): IterableIterator<Known> {
    return this.#known.values();
  }

  add(subject: Subject, since: number): Known {
    const known: Known = { subject, state: "later", again: false, gone: undefined, attempts: 0, waiting: 1, bytesEach: bytesGuessed, since };
    if (this.#known.size === 0) this.#oldestAt = -Infinity;
    this.#known.set(subject, known);
    this.#sum(known, 1);
    return known;
  }

  delete(known: Known): void {
    if (this.#known.delete(known.subject)) this.#sum(known, -1);
  }

  set(known: Known, change: { readonly waiting?: number; readonly bytesEach?: number; readonly attempts?: number }): void {
    const isCounted = this.#known.get(known.subject) === known;
    if (isCounted) this.#sum(known, -1);
    Object.assign(known as Writable, change);
    if (isCounted) this.#sum(known, 1);
  }

  #sum({ waiting, bytesEach, attempts }: Known, sign: 1 | -1): void {
    this.#events += sign * waiting;
    this.#bytes += sign * waiting * bytesEach;
    if (attempts >= parkedAttempts) this.#parked += sign;
  }
}

/** Who is on the way in: hellos that the store is being asked about, and sign-outs that they have to meet. */
import { allOf, withOne, withoutOne, type Held } from "../../platform/held.ts";

/** By user, sessions whose hello has reached the hub and is not answered yet. */
export class Arrivals<S extends { readonly userKey: string }> {
  readonly #byUser = new Map<string, Held<S>>();

  add(session: S): void {
    this.#byUser.set(session.userKey, withOne(this.#byUser.get(session.userKey) ?? null, session));
  }

  /** One that is not among them is ignored. */
  remove(session: S): void {
    const known = this.#byUser.get(session.userKey);
    if (known === undefined) return;
    const left = withoutOne(known, session);
    if (left === null) this.#byUser.delete(session.userKey);
    else this.#byUser.set(session.userKey, left);
  }

  of(userKey: string): S[] {
    return allOf(this.#byUser.get(userKey) ?? null);
  }

  *all(): Generator<S> {
    for (const held of this.#byUser.values()) yield* allOf(held);
  }
}

const signedOutMax = 10_000;

/**
 * The newest sign-outs that this node was told of. The store has all of them. But its answer may have been on its way
 * when a user was signed out, a node of a Redis Cluster hears of a sign-out before it is written, and a Redis that is
 * unavailable answers nothing.
 */
export class SignedOut {
  readonly #max: number;
  // Insertion order; a user who is signed out again moves to the end.
  readonly #times = new Map<string, number>();

  constructor(max = signedOutMax) {
    this.#max = max;
  }

  /** Milliseconds since 1970; 0 where none is known. */
  at(userKey: string): number {
    return this.#times.get(userKey) ?? 0;
  }

  note(userKey: string, time: number): void {
    const newest = Math.max(time, this.at(userKey));
    this.#times.delete(userKey);
    this.#times.set(userKey, newest);
    if (this.#times.size <= this.#max) return;
    for (const first of this.#times.keys()) return void this.#times.delete(first);
  }
}

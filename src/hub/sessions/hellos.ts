/** Hellos that wait for the store's answer, and the sign-outs that apply to them. */
import { allOf, withOne, withoutOne, type Held } from "../../platform/held.ts";

/** By user, sessions whose hello has reached the hub and is not answered yet. */
export class Hellos<S extends { readonly userKey: string }> {
  readonly #byUser = new Map<string, Held<S>>();

  add(session: S): void {
    this.#byUser.set(session.userKey, withOne(this.#byUser.get(session.userKey) ?? null, session));
  }

  /** Ignores a session that is not among them. */
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
 * The newest sign-outs that this node was told of. The store has all of them, but three cases need this memory. The
 * store's answer may be older than the sign-out. A node of a Redis Cluster hears of a sign-out before it is written. An
 * unavailable Redis gives no answer.
 */
export class SignedOut {
  readonly #max: number;
  // In insertion order; a user who is signed out again moves to the end.
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

  all(): IterableIterator<[userKey: string, time: number]> {
    return this.#times.entries();
  }
}

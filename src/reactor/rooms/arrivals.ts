/**
 * Members on their way into rooms, or back into them. The hub names each by a number. A session may have 100,000
 * members, so two questions have an index per session: whether it has any arrival, and which of them wait for its
 * socket to drain.
 */
import type { Arrival, Session } from "../session/session.ts";

interface OfSession {
  count: number;
  /** Null for none, the usual case. */
  held: Set<Arrival> | null;
}

export class Arrivals {
  readonly #byNumber = new Map<number, Arrival>();
  readonly #bySession = new Map<Session, OfSession>();

  get(number: number): Arrival | undefined {
    return this.#byNumber.get(number);
  }

  /** Whether the session has any arrival. */
  has(session: Session): boolean {
    return this.#bySession.has(session);
  }

  add(arrival: Arrival): void {
    this.#byNumber.set(arrival.number, arrival);
    const { session } = arrival.member;
    const own = this.#bySession.get(session);
    if (own === undefined) this.#bySession.set(session, { count: 1, held: null });
    else own.count++;
  }

  remove(arrival: Arrival): void {
    if (!this.#byNumber.delete(arrival.number)) return;
    const { session } = arrival.member;
    const own = this.#bySession.get(session)!;
    own.held?.delete(arrival);
    if (--own.count === 0) this.#bySession.delete(session);
  }

  /** Marks an arrival as waiting for its session's socket to drain. */
  hold(arrival: Arrival): void {
    const own = this.#bySession.get(arrival.member.session);
    if (own === undefined || !this.#byNumber.has(arrival.number)) return;
    own.held ??= new Set();
    own.held.add(arrival);
  }

  /** Returns the waiting arrivals of the session, and clears their mark. */
  release(session: Session): Iterable<Arrival> {
    const own = this.#bySession.get(session);
    if (own?.held == null) return [];
    const { held } = own;
    own.held = null;
    return held;
  }
}

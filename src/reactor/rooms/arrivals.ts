/**
 * Members on their way into rooms, or back into them. The hub names each by a number. A session may have 100,000
 * members, so two questions are answered per session: whether it has any arrival, and which of them wait for its socket
 * to drain.
 *
 * Each connect passes through here, and most of the time few are under way. A Map that is emptied again and again makes
 * a new table each time. Once V8 has moved the Map to its old space, it puts these tables there too, where they stay
 * until the next full collection: 200 bytes for each session that came. So arrivals have places in an array.
 */
import type { Arrival, Session } from "../session/session.ts";

/** A power of two. Numbers rise by one, so those under way rarely share a place. */
const places = 1024;

export class Arrivals {
  readonly #byPlace = new Array<Arrival | null>(places).fill(null);
  /** Those whose place was taken. */
  readonly #others = new Map<number, Arrival>();

  get(number: number): Arrival | undefined {
    const there = this.#byPlace[placeOf(number)]!;
    return there !== null && there.number === number ? there : this.#others.get(number);
  }

  /** Whether the session has any arrival. */
  has({ arriving }: Session): boolean {
    return arriving !== null;
  }

  add(arrival: Arrival): void {
    const { number, member: { session } } = arrival;
    const place = placeOf(number);
    if (this.#byPlace[place] === null) this.#byPlace[place] = arrival;
    else this.#others.set(number, arrival);
    if (session.arriving === null) session.arriving = { count: 1, held: null };
    else session.arriving.count++;
  }

  remove(arrival: Arrival): void {
    const { number, member: { session } } = arrival;
    const place = placeOf(number);
    if (this.#byPlace[place] === arrival) this.#byPlace[place] = null;
    else if (!this.#others.delete(number)) return;
    const own = session.arriving!;
    own.held?.delete(arrival);
    if (--own.count === 0) session.arriving = null;
  }

  /** Marks an arrival as waiting for its session's socket to drain. */
  hold(arrival: Arrival): void {
    const { number, member: { session: { arriving } } } = arrival;
    if (arriving === null || this.get(number) !== arrival) return;
    arriving.held ??= new Set();
    arriving.held.add(arrival);
  }

  /** Returns the waiting arrivals of the session, and clears their mark. */
  release({ arriving }: Session): Iterable<Arrival> {
    if (arriving === null || arriving.held === null) return [];
    const { held } = arriving;
    arriving.held = null;
    return held;
  }
}

function placeOf(number: number): number {
  return number & (places - 1);
}

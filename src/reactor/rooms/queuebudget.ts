/**
 * What may wait in the queues of all sockets of a reactor together. uWS bounds the queue of each, and a thousand readers
 * that do not read would have a thousand of those bounds: more than a small machine has.
 *
 * What is published may wait for every member, so it is counted with all of them, until that would be too much: then the
 * queues are looked at, and only where they are long indeed does anything else happen (fanout.ts).
 *
 * A queue counts with the largest message it took until it is empty, not with what is left of it: uWS keeps the memory
 * that it grew to.
 */
import type { Counters } from "../../link/counters.ts";
import type { Session, ReactorSessions } from "../session/session.ts";

/** What the longest queues are cut back to: else the next message would find them full again. */
const relievedShare = 0.5;

export class QueueBudget {
  readonly #bytesMax: number;
  readonly #sessions: ReactorSessions;
  readonly #counters: Counters;
  /** Bytes that waited when they were counted last, and all that may have been added since. */
  #waiting = 0;
  /** Published in this turn of the loop: uWS may only have noted it, so a count does not see it yet. */
  #inTurn = 0;
  #relieving = false;

  constructor(bytesMax: number, sessions: ReactorSessions, counters: Counters) {
    this.#bytesMax = bytesMax;
    this.#sessions = sessions;
    this.#counters = counters;
  }

  /** Whether so much may wait besides what does. */
  takes(bytes: number): boolean {
    if (!this.#fits(bytes)) {
      this.#waiting = this.#count();
      if (!this.#fits(bytes)) return false;
    }
    this.#inTurn += bytes;
    return true;
  }

  /** One socket has not taken these bytes at once. Called from inside uWS too, so the queues are cut a little later. */
  add(session: Session, bytes: number): void {
    this.addNow(session, bytes);
    if (this.#relieving || this.#fits(0)) return;
    this.#relieving = true;
    setImmediate(() => {
      this.#relieving = false;
      this.#waiting = this.#count();
      if (!this.#fits(0)) this.relieve();
    });
  }

  /** A turn of the loop begins: what was noted in the one before has been handed over. */
  turn(): void {
    this.#waiting += this.#inTurn;
    this.#inTurn = 0;
  }

  /**
   * Drops the sockets with the longest queues until the others have room. There is no close frame: it would have to wait
   * behind the queue. Their clients come back and recover.
   */
  relieve(): void {
    const queued: { session: Session; bytes: number }[] = [];
    let sum = this.#inTurn;
    for (const session of this.#sessions.open()) {
      const bytes = heldBy(session);
      if (bytes > 0) queued.push({ session, bytes });
      sum += bytes;
    }
    queued.sort((a, b) => b.bytes - a.bytes);
    for (const { session, bytes } of queued) {
      if (sum <= this.#bytesMax * relievedShare) break;
      sum -= bytes;
      this.#counters.add("queuesCut", 1);
      session.socket?.close();
    }
    this.#waiting = Math.max(0, sum - this.#inTurn);
  }

  /** Makes room for so much, or half of what there may be, where there is less. */
  makeRoom(bytes: number): void {
    if (this.#fits(bytes)) return;
    this.#waiting = this.#count();
    if (!this.#fits(bytes)) this.relieve();
  }

  /** Whether one socket may be sent so much now. */
  takesNow(bytes: number): boolean {
    return this.#fits(bytes);
  }

  /** How many pages of this size may be on their way to sockets: half of what may wait. */
  pagesMax(pageBytes: number): number {
    return Math.max(1, Math.floor(this.#bytesMax / 2 / pageBytes));
  }

  /** One socket has not taken these bytes at once, and nothing is to be done about it here. */
  addNow(session: Session, bytes: number): void {
    this.#waiting += bytes;
    session.queueHeld = Math.max(session.queueHeld, bytes);
  }

  #fits(bytes: number): boolean {
    return this.#waiting + this.#inTurn + bytes <= this.#bytesMax;
  }

  #count(): number {
    let sum = 0;
    const { end } = this.#sessions;
    for (let slot = 0; slot < end; slot++) {
      const session = this.#sessions.at(slot);
      if (session !== null) sum += heldBy(session);
    }
    return sum;
  }
}

/** Bytes of memory that the session's queue takes. */
function heldBy(session: Session): number {
  const bytes = session.socket?.getBufferedAmount() ?? 0;
  session.queueHeld = bytes === 0 ? 0 : Math.max(bytes, session.queueHeld);
  return session.queueHeld;
}

/**
 * Pages that the hub has been asked for: what it answers has to be kept until the socket takes it, and a crowd of readers that
 * are behind asks at once. The others wait for their turn.
 */
export class PagesAsked<T> {
  readonly #max: number;
  readonly #write: (who: T) => boolean;
  readonly #asked = new Set<T>();
  readonly #waiting = new Set<T>();

  /** @param write asks for a page, or returns false where it is not wanted any more. */
  constructor(max: number, write: (who: T) => boolean) {
    this.#max = max;
    this.#write = write;
  }

  ask(who: T): void {
    if (this.#asked.size >= this.#max) this.#waiting.add(who);
    else if (this.#write(who)) this.#asked.add(who);
  }

  /** Its page is here, or it has gone. */
  done(who: T): void {
    this.#waiting.delete(who);
    if (!this.#asked.delete(who)) return;
    for (const next of this.#waiting) {
      if (this.#asked.size >= this.#max) return;
      this.#waiting.delete(next);
      if (this.#write(next)) this.#asked.add(next);
    }
  }
}

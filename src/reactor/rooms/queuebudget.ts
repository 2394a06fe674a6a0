/**
 * Bounds the bytes queued for all sockets of a reactor together. uWS bounds the queue of each socket. A thousand
 * lagging readers would hold a thousand of those bounds, more memory than a small machine has.
 *
 * A publish may wait for every member, so its bytes count once per member. When that sum exceeds the bound, the real
 * queues are measured. Only if they exceed it too, something else happens (fanout.ts).
 *
 * Until it is empty, a queue counts with the largest size it had, not with what is left: uWS keeps the memory it grew
 * to.
 */
import type { Counters } from "../../link/counters.ts";
import type { Session, ReactorSessions } from "../session/session.ts";

/** The longest queues are cut to this share of the bound. Otherwise the next message would exceed it again. */
const relievedShare = 0.5;

export class QueueBudget {
  readonly #bytesMax: number;
  readonly #sessions: ReactorSessions;
  readonly #counters: Counters;
  /** Bytes that waited at the last count, plus all that may have been added since. */
  #waiting = 0;
  /** Bytes published in this turn of the loop. uWS may only have noted them, so a count does not see them yet. */
  #inTurn = 0;
  #relieving = false;

  constructor(bytesMax: number, sessions: ReactorSessions, counters: Counters) {
    this.#bytesMax = bytesMax;
    this.#sessions = sessions;
    this.#counters = counters;
  }

  /** Whether so many bytes may wait besides those that already do. */
  takes(bytes: number): boolean {
    if (!this.#fits(bytes)) {
      this.#waiting = this.#count();
      if (!this.#fits(bytes)) return false;
    }
    this.#inTurn += bytes;
    return true;
  }

  /** Counts bytes that one socket queued. uWS may be calling this, so queues are cut a little later. */
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

  /** Call this when a turn of the loop begins: uWS has handed over what it noted in the turn before. */
  turn(): void {
    this.#waiting += this.#inTurn;
    this.#inTurn = 0;
  }

  /**
   * Drops the sockets with the longest queues until the others have room. They get no close frame, which would wait
   * behind the queue. Their clients reconnect and recover.
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

  /** Makes room for so many bytes. Where half of the bound is less, it makes room for that. */
  makeRoom(bytes: number): void {
    if (this.#fits(bytes)) return;
    this.#waiting = this.#count();
    if (!this.#fits(bytes)) this.relieve();
  }

  /** Whether one socket may be sent so many bytes now. */
  takesNow(bytes: number): boolean {
    return this.#fits(bytes);
  }

  /** How many pages of this size may be on their way to sockets: half of the bound. */
  pagesMax(pageBytes: number): number {
    return Math.max(1, Math.floor(this.#bytesMax / 2 / pageBytes));
  }

  /** Counts bytes that one socket queued, and cuts no queue. */
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

/** Bytes of memory that the session's queue holds. */
function heldBy(session: Session): number {
  const bytes = session.socket?.getBufferedAmount() ?? 0;
  session.queueHeld = bytes === 0 ? 0 : Math.max(bytes, session.queueHeld);
  return session.queueHeld;
}

/**
 * Pages that the hub has been asked for. The node has to hold each page until the socket takes it. Many lagging readers
 * ask at once, so only some requests are under way and the others wait.
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

  /** Call this when the page has arrived, or is not wanted any more. */
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

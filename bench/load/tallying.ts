/** Checks the deliveries of every socket of a thread: each sender's counter must grow by one. */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { micros, since, stamp } from "./clock.ts";
import type { Tally } from "./orders.ts";

export class TallyEar {
  readonly #shared: Uint32Array;
  #lastOf: Uint32Array = new Uint32Array(0);
  #now = 0;
  #measureFrom = 0;
  #lost = 0;
  #disordered = 0;
  #unchained = 0;
  #latency: RecordableHistogram = createHistogram();

  constructor(shared: Uint32Array) {
    this.#shared = shared;
  }

  /** Grows to this many sockets. */
  makeRoom(sockets: number): void {
    const larger = new Uint32Array(sockets);
    larger.set(this.#lastOf);
    this.#lastOf = larger;
  }

  /** The following payloads were read from the kernel now. */
  chunk(): void {
    this.#now = stamp(micros());
  }

  delivered(socket: number, counter: number, sentAt: number, chained: boolean): void {
    this.#shared[0]!++;
    if (!chained) this.#unchained++;
    const expected = this.#lastOf[socket]! + 1;
    if (counter === expected) this.#lastOf[socket] = counter;
    else this.#outOfStep(socket, counter, expected);
    // Stamps wrap: a time before `measureFrom` looks like a very late one.
    if (since(this.#measureFrom, sentAt) < 2 ** 31) this.#latency.record(since(sentAt, this.#now) || 1);
  }

  measure(from: number): void {
    this.#measureFrom = stamp(from);
    this.#latency = createHistogram();
  }

  /** @param upTo last message published: messages missing at the end show no gap by themselves */
  tally(upTo: number): Tally {
    let behind = 0;
    for (const last of this.#lastOf) behind += Math.max(0, upTo - last);
    return {
      delivered: this.#shared[0]!,
      lost: this.#lost + behind,
      disordered: this.#disordered,
      unchained: this.#unchained,
      latency: this.#latency,
    };
  }

  #outOfStep(socket: number, counter: number, expected: number): void {
    if (counter > expected) {
      this.#lost += counter - expected;
      this.#lastOf[socket] = counter;
    } else this.#disordered++;
  }
}

/**
 * Checks the deliveries of every socket of a thread: each counter must follow the one before. Where several publishers
 * send in turn, a server may swap messages of two of them. Of each publisher the counters grow by their number.
 */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { micros, since, stamp } from "./clock.ts";
import type { Tally } from "./orders.ts";

export class TallyEar {
  readonly #shared: Uint32Array;
  #sockets = 0;
  #publishers = 1;
  /** Last counter by socket and publisher. */
  #lastOf: Int32Array = new Int32Array(0);
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
    this.#sockets = sockets;
    const larger = this.#beforeTheFirst();
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
    const at = socket * this.#publishers + ((counter - 1) % this.#publishers);
    const expected = this.#lastOf[at]! + this.#publishers;
    if (counter === expected) this.#lastOf[at] = counter;
    else this.#outOfStep(at, counter, expected);
    // Stamps wrap: a time before `measureFrom` looks like a very late one.
    if (since(this.#measureFrom, sentAt) < 2 ** 31) this.#latency.record(since(sentAt, this.#now) || 1);
  }

  /** @param publishers that send in turn; more than one only before anything was delivered */
  measure(from: number, publishers = 1): void {
    this.#measureFrom = stamp(from);
    this.#latency = createHistogram();
    if (publishers === this.#publishers) return;
    this.#publishers = publishers;
    this.#lastOf = this.#beforeTheFirst();
  }

  /** @param upTo last message published: messages missing at the end show no gap by themselves */
  tally(upTo: number): Tally {
    let behind = 0;
    for (const last of this.#lastOf) behind += Math.floor(Math.max(0, upTo - last) / this.#publishers);
    return {
      delivered: this.#shared[0]!,
      lost: this.#lost + behind,
      disordered: this.#disordered,
      unchained: this.#unchained,
      latency: this.#latency,
    };
  }

  /** As if each publisher had sent a message before its first. */
  #beforeTheFirst(): Int32Array {
    return Int32Array.from({ length: this.#sockets * this.#publishers }, (_, i) => (i % this.#publishers) + 1 - this.#publishers);
  }

  #outOfStep(at: number, counter: number, expected: number): void {
    if (counter > expected) {
      this.#lost += (counter - expected) / this.#publishers;
      this.#lastOf[at] = counter;
    } else this.#disordered++;
  }
}

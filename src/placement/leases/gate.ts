/**
 * Whether this node may deliver for a partition now, in memory that all its threads share. The main thread may be
 * stalled while its lease ends. So every reactor looks here before each delivery from an inbox:
 *
 *     const gate = new Gate(shared, partitions);
 *     if (gate.allows(partition, claim)) socket.send(…); else …  // tell the hub: refused
 *
 *     [i32 serve until, ms][i32 claim of each partition; 0: not held]
 *
 * `performance.now()` begins at another moment in each thread, so times here are of the clock below it, which all
 * threads share. They are 32 bits of milliseconds: differences are right for 24 days, and the main thread takes all
 * claims away when the time is over.
 */
const untilAt = 0;
const claimsAt = 1;

export function createGate(partitions: number): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * (claimsAt + partitions));
}

/** The main thread's. */
export class GateWriter {
  readonly #words: Int32Array;
  readonly #offset: number;

  /** @param offset of the clock that `until` is given in, to the clock that the threads share */
  constructor(shared: SharedArrayBuffer, offset = clockOffset().least) {
    this.#words = new Int32Array(shared);
    this.#offset = offset;
  }

  /** Deliveries are allowed until then. @param until by `performance.now()` of this thread */
  serve(until: number): void {
    Atomics.store(this.#words, untilAt, Math.floor(until + this.#offset) | 0);
  }

  hold(partition: number, claim: number): void {
    Atomics.store(this.#words, claimsAt + partition, claim);
  }

  /** From now on no thread begins a delivery for it. */
  drop(partition: number): void {
    Atomics.store(this.#words, claimsAt + partition, 0);
  }

  dropAll(): void {
    for (let i = claimsAt; i < this.#words.length; i++) Atomics.store(this.#words, i, 0);
  }
}

/** Any thread's. */
export class Gate {
  readonly #words: Int32Array;
  readonly #partitions: number;
  readonly #now: () => number;
  readonly #offset: number;

  /** @param offset of `now` to the clock that the threads share */
  constructor(shared: SharedArrayBuffer, partitions: number, now: () => number = () => performance.now(), offset = clockOffset().most) {
    this.#words = new Int32Array(shared);
    this.#partitions = partitions;
    this.#now = now;
    this.#offset = offset;
  }

  /**
   * Whether a delivery that begins now is this node's to make. @param claim came with the message: one of an earlier
   * claim is not delivered, though the node may hold the partition again
   */
  allows(partition: number, claim: number): boolean {
    if (claim === 0 || partition >= this.#partitions) return false;
    // The time first: a thread that is frozen in between then finds the claim gone. A later time is of another claim.
    const left = (Atomics.load(this.#words, untilAt) - Math.ceil(this.#now() + this.#offset)) | 0;
    return left > 0 && Atomics.load(this.#words, claimsAt + partition) === claim;
  }
}

/**
 * What to add to this thread's `performance.now()` for the clock that all threads share (`process.hrtime`, in ms): at
 * least, and at most. The reader adds the most and the writer the least, so an error makes a node stop early.
 */
function clockOffset(): { readonly least: number; readonly most: number } {
  let [least, most] = [-Infinity, Infinity];
  for (let i = 0; i < 20; i++) {
    const before = performance.now();
    const [seconds, nanoseconds] = process.hrtime();
    const after = performance.now();
    const shared = seconds * 1_000 + nanoseconds / 1e6;
    least = Math.max(least, shared - after);
    most = Math.min(most, shared - before);
  }
  return { least, most };
}

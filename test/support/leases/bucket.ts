/** A bucket on the store's leader: what is stored there, its clock, and what an old read may still show. */
import type { BucketInfo, StoredRecord, Written } from "../../../src/placement/leases/leases.ts";
import type { Random, SimulatedClock } from "./clock.ts";

interface Entry extends StoredRecord {
  /** By the leader's clock. */
  readonly at: number;
}

const conflict: Written = { kind: "conflict" };

export class SimulatedBucket {
  readonly #clock: SimulatedClock;
  readonly #maxAgeMs: number;
  /** Every write, oldest first. */
  #log: Entry[] = [];
  #newest = new Map<string, Entry>();
  #last = 0;
  #life = 1;
  #madeAt: number;
  /** What the leader's clock is ahead of time. */
  ahead = 0;
  onWrite: (record: StoredRecord) => void = () => {};

  /** @param ageMs it was made so long ago */
  constructor(clock: SimulatedClock, maxAgeMs: number, ageMs: number) {
    this.#clock = clock;
    this.#maxAgeMs = maxAgeMs;
    this.#madeAt = clock.now - ageMs;
  }

  /** Counts the times that it was made. */
  get life(): number {
    return this.#life;
  }

  create(key: string, value: string): Written {
    return this.find(key) === null ? this.#write(key, value) : conflict;
  }

  update(key: string, value: string, revision: number): Written {
    return this.find(key)?.revision === revision ? this.#write(key, value) : conflict;
  }

  find(key: string): StoredRecord | null {
    const entry = this.#newest.get(key);
    return entry === undefined || this.#isExpired(entry) ? null : entry;
  }

  findAll(): StoredRecord[] {
    return [...this.#newest.values()].filter((entry) => !this.#isExpired(entry));
  }

  /** Of a leader that has been replaced and does not know it. */
  findOld(key: string, random: Random): StoredRecord | null {
    const entries = this.#log.filter((entry) => entry.key === key);
    return entries[entries.length - 1 - random.below(5)] ?? null;
  }

  info(): BucketInfo {
    return { created: String(this.#life), ageMs: Math.max(0, this.#leaderNow() - this.#madeAt), lastRevision: this.#last };
  }

  wipe(): void {
    [this.#log, this.#newest, this.#last] = [[], new Map(), 0];
    this.#life++;
    this.#madeAt = this.#leaderNow();
  }

  /** The last writes are lost. */
  setBack(writes: number): void {
    this.#log.splice(Math.max(0, this.#log.length - writes));
    this.#newest = new Map(this.#log.map((entry) => [entry.key, entry]));
    this.#last = this.#log.at(-1)?.revision ?? 0;
  }

  #leaderNow(): number {
    return this.#clock.now + this.ahead;
  }

  #isExpired(entry: Entry): boolean {
    return this.#maxAgeMs > 0 && this.#leaderNow() - entry.at >= this.#maxAgeMs;
  }

  #write(key: string, value: string): Written {
    const entry = { key, value, revision: ++this.#last, at: this.#leaderNow() };
    this.#log.push(entry);
    this.#newest.set(key, entry);
    this.onWrite(entry);
    return { kind: "written", revision: entry.revision };
  }
}

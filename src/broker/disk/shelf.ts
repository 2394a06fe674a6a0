/**
 * Offsets on disk of a room's stored publications. Their seqs are consecutive and end with the room's head, so an entry
 * needs no seq. Four numbers an entry, in a ring buffer.
 */
import type { Segment } from "../../disk/segment.ts";

const stride = 4;
const capacityMin = 4;

export class Shelf {
  #entries = new Float64Array(0);
  /** Files that entries point to, by number. */
  readonly #segments: ReadonlyMap<number, Segment>;
  #first = 0;
  #count = 0;

  constructor(segments: ReadonlyMap<number, Segment>) {
    this.#segments = segments;
  }

  get count(): number {
    return this.#count;
  }

  push(segment: Segment, at: number, length: number, payloadBytes: number, time: number): void {
    if (this.#count === this.#capacity) this.#grow();
    const slot = this.#slot(this.#count++);
    this.#entries[slot] = segment.id * 2 ** 32 + at;
    this.#entries[slot + 1] = length;
    this.#entries[slot + 2] = payloadBytes;
    this.#entries[slot + 3] = time;
    segment.liveBytes += length;
  }

  dropFirst(): void {
    const segment = this.segment(0);
    if (segment !== undefined) segment.liveBytes -= this.length(0);
    this.#first = (this.#first + 1) % this.#capacity;
    this.#count--;
    if (this.#count === 0) this.#entries = new Float64Array(0);
  }

  /** Entry `i` was copied to another place. */
  move(i: number, segment: Segment, at: number): void {
    const from = this.segment(i);
    if (from !== undefined) from.liveBytes -= this.length(i);
    this.#entries[this.#slot(i)] = segment.id * 2 ** 32 + at;
    segment.liveBytes += this.length(i);
  }

  segment(i: number): Segment | undefined {
    return this.#segments.get(Math.floor(this.#entries[this.#slot(i)]! / 2 ** 32));
  }

  at(i: number): number {
    return this.#entries[this.#slot(i)]! % 2 ** 32;
  }

  length(i: number): number {
    return this.#entries[this.#slot(i) + 1]!;
  }

  payloadBytes(i: number): number {
    return this.#entries[this.#slot(i) + 2]!;
  }

  time(i: number): number {
    return this.#entries[this.#slot(i) + 3]!;
  }

  get #capacity(): number {
    return this.#entries.length / stride;
  }

  #slot(i: number): number {
    return ((this.#first + i) % this.#capacity) * stride;
  }

  #grow(): void {
    const entries = new Float64Array(Math.max(capacityMin, this.#capacity * 2) * stride);
    for (let i = 0; i < this.#count; i++) {
      const slot = this.#slot(i);
      entries.set(this.#entries.subarray(slot, slot + stride), i * stride);
    }
    this.#entries = entries;
    this.#first = 0;
  }
}

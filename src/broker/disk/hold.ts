/**
 * Keeps files of the journal until the archive has what is in them. Time and space bound that: a PostgreSQL that is
 * unavailable for long never makes this node refuse publishers.
 */
import type { Segment } from "../../disk/segment.ts";

/** A place in the journal: the number of a file, and a byte in it. */
export function placeOf(segment: number, at: number): number {
  return segment * 2 ** 32 + at;
}

export function segmentOf(place: number): number {
  return Math.floor(place / 2 ** 32);
}

export function byteOf(place: number): number {
  return place % 2 ** 32;
}

export class Hold {
  readonly #lagMaxMs: number;
  #place = 0;

  /** @param lagMaxMs age at which a file is deleted, archived or not */
  constructor(lagMaxMs: number) {
    this.#lagMaxMs = lagMaxMs;
  }

  /** Everything before this place is archived. At first nothing is known to be. */
  archived(place: number): void {
    this.#place = place;
  }

  waits(segment: Segment): boolean {
    return segment.id >= segmentOf(this.#place);
  }

  keeps(segment: Segment, now: number): boolean {
    return this.waits(segment) && segment.newestAt + this.#lagMaxMs > now;
  }
}

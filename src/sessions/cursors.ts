/** Up to where each device has read its user's inbox, in memory: for a time, and up to a number, the quietest go first. */
// `lru-cache` was refused: 113 bytes an entry where this takes 85 (100,000 entries, Node 20), 28 of them for its maximum at
// once. The journal also reads the order in which cursors were moved.
import type { Position } from "../broker/broker.ts";

/** What the seam promises. */
export const cursorTtlMs = 30 * 86_400_000;
/** Neither a user's name nor a tenant's may hold a control character, so a user's key ends here. */
const separator = "\u001e";

interface Cursor extends Position {
  readonly at: number;
}

export function cursorKey(user: string, device: string): string {
  return `${user}${separator}${device}`;
}

/** Whether a cursor moves from `known` to `position`. */
export function advances(known: Position | null, position: Position): boolean {
  return known === null || known.epoch !== position.epoch || known.seq < position.seq;
}

export class Cursors {
  // The one that was moved longest ago comes first.
  readonly #cursors = new Map<string, Cursor>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#cursors.size;
  }

  get(key: string): Position | null {
    const cursor = this.#cursors.get(key);
    return cursor === undefined ? null : { epoch: cursor.epoch, seq: cursor.seq };
  }

  set(key: string, { epoch, seq }: Position, at: number): void {
    this.#cursors.delete(key);
    this.#cursors.set(key, { epoch, seq, at });
    if (this.#cursors.size > this.#max) this.#dropFirst();
  }

  /** The keys of every cursor there is, the one that was moved longest ago first. */
  keys(): string[] {
    return [...this.#cursors.keys()];
  }

  find(key: string): Cursor | undefined {
    return this.#cursors.get(key);
  }

  expire(now: number): void {
    for (const { at } of this.#cursors.values()) {
      if (at + cursorTtlMs > now) return;
      this.#dropFirst();
    }
  }

  clear(): void {
    this.#cursors.clear();
  }

  #dropFirst(): void {
    for (const key of this.#cursors.keys()) {
      this.#cursors.delete(key);
      return;
    }
  }
}

/** How many rooms have how many members on this node, counted as members come and go: a look at a million rooms would take the main thread too long. */

/** Upper bounds. One more slot counts larger rooms. */
const bounds = [0, 1, 10, 100, 1_000, 10_000] as const;

export class RoomSizes {
  readonly bounds = bounds;
  readonly counts: number[] = Array.from({ length: bounds.length + 1 }, () => 0);

  /** A new room, without members. */
  added(): void {
    this.counts[0]!++;
  }

  removed(members: number): void {
    this.counts[slotOf(members)]!--;
  }

  changed(before: number, after: number): void {
    this.counts[slotOf(before)]!--;
    this.counts[slotOf(after)]!++;
  }
}

function slotOf(members: number): number {
  let slot = 0;
  while (slot < bounds.length && members > bounds[slot]!) slot++;
  return slot;
}

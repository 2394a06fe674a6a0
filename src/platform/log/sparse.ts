/**
 * Log lines that strangers can cause: the first of each reason is written, then at most one in a while, with the number
 * of those that were left out. So the log says what happens and cannot be filled.
 */
const everyMs = 60_000;
/** Reasons are few and named in the code; this is for a mistake. */
const reasonsMax = 64;

export class Sparse {
  readonly #said = new Map<string, { at: number; unsaid: number }>();
  readonly #clock: () => number;

  constructor(clock = () => performance.now()) {
    this.#clock = clock;
  }

  /**
   * How many lines of this reason were left out since the last one, where a line is due; else null.
   * @param more that came with this one, and are left out with it where none is due
   */
  due(reason: string, more = 0): number | null {
    const now = this.#clock();
    const said = this.#said.get(reason);
    if (said !== undefined && now - said.at < everyMs) {
      said.unsaid += 1 + more;
      return null;
    }
    if (said === undefined && this.#said.size >= reasonsMax) return null;
    this.#said.set(reason, { at: now, unsaid: 0 });
    return said?.unsaid ?? 0;
  }
}

/**
 * Limits log lines that clients can cause. The first line of each reason is written, then at most one per minute, with
 * the number of lines left out. So the log stays informative and cannot be flooded.
 */
const everyMs = 60_000;
/** There are few reasons, all named in the code. The limit catches a bug. */
const reasonsMax = 64;

export class Sparse {
  readonly #said = new Map<string, { at: number; unsaid: number }>();
  readonly #clock: () => number;

  constructor(clock = () => performance.now()) {
    this.#clock = clock;
  }

  /**
   * The number of lines of this reason left out since the last one, if a line is due; else null.
   * @param more lines that came with this one, and are left out too where none is due
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

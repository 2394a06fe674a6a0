/** Why sockets were closed and refused in the last minute and the last 15: totals that only grow, remembered every 10 s. */
import type { Said } from "./answers.ts";

/** What is known of a reason: its close code, or 0, and its total. */
export interface ReasonTotal {
  readonly reason: string;
  readonly code: number;
  readonly total: number;
}

/** What the log said last of a reason. */
export interface ReasonText {
  readonly text: string;
  readonly hint: string;
  readonly client: string;
}

const stepMs = 10_000;
const stepsOfMinute = 6;
const stepsKept = 90;

export class Reasons {
  readonly #read: () => readonly ReasonTotal[];
  readonly #textOf: (reason: string) => ReasonText | null;
  /** The oldest first. */
  readonly #before: ReadonlyMap<string, number>[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(read: () => readonly ReasonTotal[], textOf: (reason: string) => ReasonText | null) {
    this.#read = read;
    this.#textOf = textOf;
    this.#timer = setInterval(() => this.take(), stepMs).unref();
    this.take();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  take(): void {
    this.#before.push(new Map(this.#read().map(({ reason, total }) => [reason, total])));
    if (this.#before.length > stepsKept) this.#before.shift();
  }

  /** Those of the last 15 minutes, the most frequent of the last minute first. */
  list(): Said<"reasons"> {
    const oldest = this.#before[0]!;
    const minute = this.#before[Math.max(0, this.#before.length - stepsOfMinute)]!;
    const since = (from: ReadonlyMap<string, number>, { reason, total }: ReasonTotal) => Math.max(0, total - (from.get(reason) ?? 0));
    const all = this.#read().map((one) => ({ ...one, minute: since(minute, one), quarter: since(oldest, one) }));
    return all.filter(({ quarter }) => quarter > 0).sort((a, b) => b.minute - a.minute || b.quarter - a.quarter).map(({ reason, code, minute, quarter }) => {
      const { text = "", hint = "", client = "" } = this.#textOf(reason) ?? {};
      return { reason, code, minute, quarter, text, hint, client };
    });
  }
}

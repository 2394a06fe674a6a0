/** Ends sessions in Redis that were not resumed in time: those that lost their socket on this node or on a dead one. */
import { Due } from "../due.ts";

export interface ExpiriesOptions {
  /** Resolves with the time until the user's next session is due, 0 for none; null where unknown. MUST NOT reject. */
  endSessions(user: string): Promise<number | null>;
  /** The user has no session that waits to be resumed. */
  over(user: string): void;
}

/** Sessions are looked at this long after their end. */
const lateMs = 5;
/** All that wait are looked through so often. */
const roundMs = 500;

export class Expiries {
  readonly #options: ExpiriesOptions;
  /** Users, and when their next session is due. */
  readonly #due = new Map<string, number>();
  readonly #ready: Due<string>;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(options: ExpiriesOptions) {
    this.#options = options;
    this.#ready = new Due(0, (user) => this.#end(user));
  }

  has(user: string): boolean {
    return this.#due.has(user) || this.#ready.has(user);
  }

  /** Looks at the user after this time, or before where that was to be done anyway. */
  put(user: string, ms: number): void {
    if (this.#stopped || this.#due.has(user)) return;
    this.#due.set(user, performance.now() + ms + lateMs);
    this.#timer ??= setInterval(() => this.#turn(), roundMs).unref();
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#due.clear();
    this.#ready.clear();
  }

  #turn(): void {
    const now = performance.now();
    for (const [user, at] of this.#due) {
      if (at > now) continue;
      this.#due.delete(user);
      this.#ready.put(user);
    }
    if (this.#due.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  async #end(user: string): Promise<void> {
    const ms = await this.#options.endSessions(user);
    if (this.#stopped) return;
    if (ms === null) this.put(user, 1_000);
    else if (ms > 0) this.put(user, ms);
    else if (!this.#due.has(user)) this.#options.over(user);
  }
}

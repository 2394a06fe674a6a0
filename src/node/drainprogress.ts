/** A node on its way out: how far it is with sending its sessions away. The reactors do it, each for its own. */
import type { DrainOptions, DrainProgress } from "../messages/drainoptions.ts";
import type { Counters } from "../link/counters.ts";
import type { Logger } from "../platform/log/log.ts";
import type { NodeState } from "../link/threads.ts";
import type { Reactors } from "./reactors.ts";

export interface DrainParts {
  readonly state: NodeState;
  readonly reactors: Reactors;
  readonly counters: readonly Counters[];
  readonly drainMs: number;
  /** Tells the other nodes. */
  announce(): Promise<void>;
  readonly log: Logger;
}

export class Drain {
  readonly #parts: DrainParts;
  #began: { readonly at: number; readonly sessions: number; readonly windowMs: number } | null = null;
  #overAt: number | null = null;
  #done: Promise<void> | null = null;

  constructor(parts: DrainParts) {
    this.#parts = parts;
  }

  /** Resolves when no session is left. A second call joins the first, whatever it asks for. */
  begin(options: DrainOptions = {}): Promise<void> {
    return (this.#done ??= this.#run(options));
  }

  async #run({ windowMs = this.#parts.drainMs, url = "" }: DrainOptions): Promise<void> {
    const { state, reactors, announce, log } = this.#parts;
    // First of all, so that whoever balances load sends nobody here any more.
    state.leaving = true;
    this.#began = { at: performance.now(), sessions: this.#left, windowMs };
    log.info({ sessions: this.#left, windowMs, ...(url !== "" && { url }) }, "draining: sessions are sent away");
    // Not waited for: whoever cannot be told now hears of it later, and the sessions have to go all the same.
    announce().catch((error: unknown) => log.error({ err: error }, "other nodes could not be told that this one is draining"));
    await reactors.drain(windowMs, url);
    this.#overAt = performance.now();
    log.info({ left: this.#left }, "drained");
  }

  progress(): DrainProgress {
    if (this.#began === null) {
      return { state: "serving", sessions: this.#left, left: this.#left, windowMs: this.#parts.drainMs, elapsedMs: 0 };
    }
    const { at, sessions, windowMs } = this.#began;
    const elapsedMs = Math.round((this.#overAt ?? performance.now()) - at);
    return { state: this.#overAt === null ? "draining" : "over", sessions, left: this.#left, windowMs, elapsedMs };
  }

  get #left(): number {
    return this.#parts.counters.reduce((sum, one) => sum + one.sockets, 0);
  }
}

/** The drain of this node and its progress. Each reactor disconnects its own sessions. */
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
  /** Announces the drain to the other nodes. */
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

  /** Resolves when no session is left. A second call joins the first and ignores its own options. */
  begin(options: DrainOptions = {}): Promise<void> {
    return (this.#done ??= this.#run(options));
  }

  /** Called once, when a drain begins. */
  onBegin: (windowMs: number) => void = () => {};

  /** Called once, after that: gives what only this node may do to other nodes, with the sessions that depend on it. */
  handOver: () => Promise<void> = async () => {};

  async #run({ windowMs = this.#parts.drainMs, url = "" }: DrainOptions): Promise<void> {
    const { state, reactors, announce, log } = this.#parts;
    // First of all, so that load balancers send no more clients here.
    state.leaving = true;
    this.#began = { at: performance.now(), sessions: this.#left, windowMs };
    this.onBegin(windowMs);
    log.info({ sessions: this.#left, windowMs, ...(url !== "" && { url }) }, "draining: the node disconnects its sessions");
    // Not awaited: the drain goes on even if the other nodes cannot hear of it now.
    announce().catch((error: unknown) => log.error({ err: error }, "draining: the announcement to other nodes failed; they may send clients here until the next heartbeat"));
    await this.handOver();
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

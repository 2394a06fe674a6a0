/**
 * Keeps a node from being killed for its memory: above a share of its limit it takes no more sockets, and those it has go
 * on. It takes them again a little below, or it would open and close its door with every collection of garbage.
 */
import type { Config } from "./config.ts";
import type { Logger } from "./log.ts";
import { memoryLimit, memoryUsed } from "./memory.ts";
import type { NodeState } from "./threads.ts";

const lookMs = 1000;
/** So many points below the share at which it stopped. */
const belowPercent = 5;

export interface MemoryGuardOptions {
  readonly limitBytes: number;
  readonly highPercent: number;
  /** What is used, for tests. */
  readonly used?: () => number;
  /** It is short of memory now, or no longer. */
  onChange(short: boolean, usedBytes: number): void;
}

/** The guard of a node, which is not ready while it is short of memory. */
export function guardMemory({ memoryLimitBytes: limitBytes, memoryHighPercent: highPercent }: Config, state: NodeState, log: Logger): MemoryGuard {
  const onChange = (short: boolean, usedBytes: number) => {
    state.shortOfMemory = short;
    if (short) log.warn({ usedBytes, limitBytes }, `more than ${highPercent} % of the memory is used: no more sockets are taken`);
    else log.info({ usedBytes, limitBytes }, "there is memory again: sockets are taken");
  };
  return new MemoryGuard({ limitBytes, highPercent, onChange });
}

export class MemoryGuard {
  readonly #options: MemoryGuardOptions;
  readonly #used: () => number;
  #short = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: MemoryGuardOptions) {
    this.#options = options;
    // What else is in the container counts only against the container's own limit.
    const ofContainer = options.limitBytes === memoryLimit();
    this.#used = options.used ?? (ofContainer ? memoryUsed : () => process.memoryUsage.rss());
  }

  get short(): boolean {
    return this.#short;
  }

  usedBytes(): number {
    return this.#used();
  }

  start(): void {
    this.#timer = setInterval(() => this.look(), lookMs).unref();
    this.look();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  look(): void {
    const { limitBytes, highPercent, onChange } = this.#options;
    const used = this.#used();
    const mark = this.#short ? Math.max(highPercent - belowPercent, highPercent / 2) : highPercent;
    const short = used > (limitBytes * mark) / 100;
    if (short === this.#short) return;
    this.#short = short;
    onChange(short, used);
  }
}

/**
 * Keeps a node from being killed for its memory. Above a mark it takes no more sockets, and those it has go on; it takes
 * them again a little below, or it would open and close its door with every collection of garbage. Where half of the
 * reserve is gone as well, publishes are refused.
 *
 * The mark leaves a reserve for what is under way. Between two looks no more sockets are taken than the memory below
 * the mark is enough for, so that neither the rate of connects nor a main thread that is late can use the reserve up.
 */
import { getHeapStatistics } from "node:v8";
import type { Config } from "../config/config.ts";
import type { Counters } from "../link/counters.ts";
import type { Logger } from "../platform/log/log.ts";
import { memoryLimit, memoryUsed, processMemoryUsed } from "../platform/heap.ts";
import { planMemory } from "../platform/memoryplan.ts";
import type { NodeState } from "../link/threads.ts";

const mib = 2 ** 20;
/** It looks this often at most and at least, and in between so that memory which is used up as fast as this is noticed. */
const lookMsMin = 20;
const lookMsMax = 1000;
const growthBytesPerMs = mib / 4;
/** What one socket is counted with before it is there: an idle one has a quarter of it, and in a heap a half. */
const socketBytes = 16 * 1024;
const socketHeapBytes = 4 * 1024;
/** What a socket that has not said hello yet will take besides: its session, its place in a room, and the garbage of both. */
const sessionBytes = 8 * 1024;
const creditMax = 2 ** 30;
/** So many points below the mark at which it stopped. */
const belowPercent = 5;
/** Share of a heap's limit above which it counts as full: V8 ends the process at the limit. */
const heapShare = 0.9;

export interface Heap {
  readonly usedBytes: number;
  readonly limitBytes: number;
}

export interface MemoryGuardOptions {
  readonly limitBytes: number;
  readonly highPercent: number;
  /** Left for what is under way, where `highPercent` leaves less. Default: nothing. */
  readonly reserveBytes?: number;
  /** What is used, for tests. */
  readonly used?: () => number;
  /** The heaps of all threads. Default: none is looked at. */
  readonly heaps?: () => readonly Heap[];
  /** It is short of memory now, or no longer. */
  onChange(short: boolean, usedBytes: number): void;
  /** What sockets that have come will take when they have said hello and joined. Default: nothing. */
  readonly underWay?: () => number;
  /** Frees what can be freed: called while it is short, every `collectMs`. */
  collect?(): void;
  /** After each look: how many sockets may be taken until the next, and whether publishes have to be refused. */
  onLook?(credit: number, tight: boolean): void;
}

/** How often garbage is collected while the node is short of memory, which stops each thread for a moment. */
const collectMs = 2000;

/** The guard of a node, which is not ready while it is short of memory. */
export function guardMemory(config: Config, state: NodeState, counters: readonly Counters[], collect: () => void, log: Logger): MemoryGuard {
  const { memoryLimitBytes: limitBytes, memoryHighPercent: highPercent } = config;
  return new MemoryGuard({
    limitBytes, highPercent,
    reserveBytes: planMemory(config).reserveBytes,
    heaps: () => heapsOf(counters),
    underWay: () => counters.reduce((sum, of) => sum + of.get("handshake"), 0) * sessionBytes,
    collect,
    onChange: (short, usedBytes) => {
      state.shortOfMemory = short;
      if (short) log.warn({ usedBytes, limitBytes }, "short of memory: the node takes no more sockets until it uses less");
      else log.info({ usedBytes, limitBytes }, "there is memory again: sockets are taken");
    },
    onLook: (credit, tight) => {
      state.socketCredit = credit;
      if (tight !== state.outOfMemory && tight) log.warn({ limitBytes }, "nearly out of memory: publishes are refused until the node uses less");
      state.outOfMemory = tight;
    },
  });
}

/** A reactor's as it was at its last look at it, a tenth of a second ago. */
function heapsOf(counters: readonly Counters[]): Heap[] {
  const { used_heap_size: usedBytes, heap_size_limit: limitBytes } = getHeapStatistics();
  const reactors = counters.map((of) => ({ usedBytes: of.get("heapBytes"), limitBytes: of.get("heapLimitBytes") }));
  // One that has only begun has not looked yet.
  return [{ usedBytes, limitBytes }, ...reactors.filter((heap) => heap.limitBytes > 0)];
}

export class MemoryGuard {
  readonly #options: MemoryGuardOptions;
  readonly #used: () => number;
  /** Above this no more sockets are taken. */
  readonly #markBytes: number;
  readonly #reserveBytes: number;
  #short = false;
  #tight = false;
  #collectedAt = -Infinity;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: MemoryGuardOptions) {
    this.#options = options;
    const { limitBytes, highPercent, reserveBytes = 0 } = options;
    this.#markBytes = Math.max(0, Math.min((limitBytes * highPercent) / 100, limitBytes - reserveBytes));
    this.#reserveBytes = limitBytes - this.#markBytes;
    // What else is in the container counts only against the container's own limit.
    const ofContainer = limitBytes === memoryLimit();
    this.#used = options.used ?? (ofContainer ? memoryUsed : processMemoryUsed);
  }

  get short(): boolean {
    return this.#short;
  }

  usedBytes(): number {
    return this.#used();
  }

  start(): void {
    this.stop();
    const headroom = this.look();
    this.#timer = setTimeout(() => this.start(), lookInMs(headroom)).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** @returns the bytes below the mark. */
  look(): number {
    const { limitBytes, highPercent, heaps, onChange, onLook, collect, underWay } = this.#options;
    const used = this.#used();
    const again = Math.max(highPercent - belowPercent, highPercent / 2) / highPercent;
    const share = this.#short ? again : 1;
    const planned = used + (underWay?.() ?? 0);
    const headroom = this.#markBytes - planned;
    const heapRoom = Math.min(Infinity, ...(heaps?.() ?? []).map((heap) => heap.limitBytes * heapShare * share - heap.usedBytes));
    const short = planned > this.#markBytes * share || heapRoom < 0;
    const credit = short ? 0 : Math.min(creditMax, headroom / socketBytes, heapRoom / socketHeapBytes);
    // Less than half of the reserve is left; it is over when three quarters are.
    this.#tight = used > limitBytes - this.#reserveBytes * (this.#tight ? 0.75 : 0.5);
    onLook?.(Math.max(0, Math.floor(credit)), this.#tight);
    if (short !== this.#short) {
      this.#short = short;
      onChange(short, used);
    }
    const time = performance.now();
    if (short && time - this.#collectedAt > collectMs) {
      this.#collectedAt = time;
      collect?.();
    }
    return headroom;
  }
}

/** The nearer to the mark, the sooner. */
export function lookInMs(headroomBytes: number): number {
  return Math.max(lookMsMin, Math.min(lookMsMax, headroomBytes / growthBytesPerMs));
}

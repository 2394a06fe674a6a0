/**
 * Keeps the kernel from killing the node for its memory. Above a mark the node takes no new sockets and keeps those it
 * has. It takes new ones again a little below the mark, so that a garbage collection does not flip the state. When half
 * of the reserve is used up too, the node rejects publishes.
 *
 * The mark leaves a reserve for work in progress. Between two checks the node takes only as many sockets as fit below
 * the mark. So neither fast connects nor a delayed main thread can use up the reserve.
 */
import { getHeapStatistics } from "node:v8";
import type { Config } from "../config/config.ts";
import type { Counters } from "../link/counters.ts";
import type { Logger } from "../platform/log/log.ts";
import { memoryLimit, memoryUsed, processMemoryUsed } from "../platform/heap.ts";
import { planMemory } from "../platform/memoryplan.ts";
import type { NodeState } from "../link/threads.ts";

const mib = 2 ** 20;
/**
 * Bounds of the interval between checks. In between, the interval shrinks so that memory growing this fast is noticed
 * in time.
 */
const lookMsMin = 20;
const lookMsMax = 1000;
const growthBytesPerMs = mib / 4;
/**
 * Memory counted for a socket before it connects. An idle socket uses a quarter of it, and half of the share in a heap.
 */
const socketBytes = 16 * 1024;
const socketHeapBytes = 4 * 1024;
/** Memory that a socket needs after its hello: the session, its place in a room, and the garbage of both. */
const sessionBytes = 8 * 1024;
const creditMax = 2 ** 30;
/** Points below the mark at which the node takes sockets again. */
const belowPercent = 5;
/** Share of a heap's limit above which it counts as full: at the limit V8 aborts the process. */
const heapShare = 0.9;

export interface Heap {
  readonly usedBytes: number;
  readonly limitBytes: number;
}

export interface MemoryGuardOptions {
  readonly limitBytes: number;
  readonly highPercent: number;
  /** Bytes reserved for work in progress, where `highPercent` leaves less. Default: none. */
  readonly reserveBytes?: number;
  /** Replaces the measurement, in tests. */
  readonly used?: () => number;
  /** The heaps of all threads. Default: none are checked. */
  readonly heaps?: () => readonly Heap[];
  /** Called when the node becomes short of memory, and when it no longer is. */
  onChange(short: boolean, usedBytes: number): void;
  /** Memory that sockets in the handshake will need once they have joined. Default: none. */
  readonly underWay?: () => number;
  /** Frees memory. Called every `collectMs` while the node is short of memory. */
  collect?(): void;
  /** Called after each check: sockets that may connect until the next one, and whether publishes must be rejected. */
  onLook?(credit: number, tight: boolean): void;
}

/** Interval of garbage collections while the node is short of memory. Each one stops every thread for a moment. */
const collectMs = 2000;

/** The memory guard of a node. The node is not ready while it is short of memory. */
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
      if (short) log.warn({ usedBytes, limitBytes }, "short of memory: the node rejects new sockets until it uses less; add memory or nodes");
      else log.info({ usedBytes, limitBytes }, "memory is available again: the node takes new sockets");
    },
    onLook: (credit, tight) => {
      state.socketCredit = credit;
      if (tight !== state.outOfMemory && tight) log.warn({ limitBytes }, "nearly out of memory: the node rejects publishes until it uses less; add memory or nodes");
      state.outOfMemory = tight;
    },
  });
}

/** A reactor's numbers are up to a tenth of a second old. */
function heapsOf(counters: readonly Counters[]): Heap[] {
  const { used_heap_size: usedBytes, heap_size_limit: limitBytes } = getHeapStatistics();
  const reactors = counters.map((of) => ({ usedBytes: of.get("heapBytes"), limitBytes: of.get("heapLimitBytes") }));
  // A reactor that has just started has no numbers yet.
  return [{ usedBytes, limitBytes }, ...reactors.filter((heap) => heap.limitBytes > 0)];
}

export class MemoryGuard {
  readonly #options: MemoryGuardOptions;
  readonly #used: () => number;
  /** Above this the node takes no new sockets. */
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
    // Memory of other processes in the container counts only where the limit is the container's own.
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
    // Begins when less than half of the reserve is left, and ends when a quarter is.
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

/** The closer to the mark, the sooner the next check. */
export function lookInMs(headroomBytes: number): number {
  return Math.max(lookMsMin, Math.min(lookMsMax, headroomBytes / growthBytesPerMs));
}

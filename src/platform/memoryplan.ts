/**
 * Divides the node's memory before it starts: pure arithmetic. The idle node and the reserve for work in progress come
 * first. Heaps, history, tails and queues share the rest. Together they make up the limit.
 */
const mib = 2 ** 20;

/**
 * Measured on an idle node with one and four reactors, Node 20 to 24: the main thread with the code, and each reactor.
 */
const mainMb = 40;
const reactorMb = 22;
/** Part of it in V8's heaps. */
const mainHeapMb = 20;
const reactorHeapMb = 14;
/**
 * Reserve for the garbage of a handshake storm in each young generation, and for the kernel. Never used for anything
 * else.
 */
const reserveMb = 8;
const reserveThreadMb = 4;
/** Least memory for the socket queues of one reactor. */
const queuesMbMin = 4;

/** Shares of the rest: the heaps get three quarters, the hub the most. */
const shares = { mainHeap: 0.5, reactorHeaps: 0.25, history: 0.1, tails: 0.025, queues: 0.125 } as const;

const historyBytesMax = 2 ** 30;
/** Upper limit for all tails together; more would not be used. */
const tailsBytesMax = 256 * mib;
const ringBytesDefault = 4 * mib;
const smallRingBytes = mib;
const overflowBytesDefault = 16 * mib;
/** Below this, rings and their queues are smaller, unless their size is given. */
const smallBytes = 512 * mib;

export interface MemoryGiven {
  readonly memoryLimitBytes: number;
  readonly reactors: number;
  readonly ringBytes: number;
}

export interface MemoryPlan {
  /** Heap limits at which V8 aborts, for the main thread and for each reactor. */
  readonly mainHeapMb: number;
  readonly reactorHeapMb: number;
  /** All rings together. */
  readonly ringsBytes: number;
  /** History of the embedded broker, and tails of all rooms. */
  readonly historyBytes: number;
  readonly tailsBytes: number;
  /** Socket queues of one reactor. */
  readonly queuesBytes: number;
  /** Never planned for: reserved for work in progress while the node rejects more. */
  readonly reserveBytes: number;
}

export function planMemory(given: MemoryGiven): MemoryPlan {
  const { reactors, ringBytes } = given;
  const spare = Math.max(0, given.memoryLimitBytes - neededBytes(reactors, ringBytes));
  return {
    mainHeapMb: mainHeapMb + Math.floor((spare * shares.mainHeap) / mib),
    reactorHeapMb: reactorHeapMb + Math.floor((spare * shares.reactorHeaps) / reactors / mib),
    ringsBytes: 2 * ringBytes * reactors,
    historyBytes: Math.min(historyBytesMax, Math.max(mib, Math.floor(spare * shares.history))),
    tailsBytes: Math.min(tailsBytesMax, Math.floor(spare * shares.tails)),
    queuesBytes: queuesMbMin * mib + Math.floor((spare * shares.queues) / reactors),
    reserveBytes: reserveBytes(reactors),
  };
}

/** Least memory with which a node with this many reactors can start and serve. */
export function neededBytes(reactors: number, ringBytes: number): number {
  return (mainMb + reactors * (reactorMb + queuesMbMin)) * mib + 2 * ringBytes * reactors + reserveBytes(reactors);
}

function reserveBytes(reactors: number): number {
  return (reserveMb + reserveThreadMb * (1 + reactors)) * mib;
}

/** One reactor per core, or fewer if memory is short; at least one. */
export function reactorsWithin(limitBytes: number, ringBytes: number, cores: number): number {
  let reactors = cores;
  while (reactors > 1 && neededBytes(reactors, ringBytes) > limitBytes) reactors--;
  return reactors;
}

/** Default size of a ring: 16 of the largest frames. */
export function ringBytesWithin(limitBytes: number, frameBytesMax: number): number {
  if (limitBytes >= smallBytes) return ringBytesDefault;
  return Math.min(ringBytesDefault, Math.max(smallRingBytes, 2 ** Math.ceil(Math.log2(16 * frameBytesMax))));
}

export function overflowBytesWithin(limitBytes: number): number {
  return limitBytes >= smallBytes ? overflowBytesDefault : smallRingBytes;
}

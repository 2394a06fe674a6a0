/**
 * How a node divides the memory it may use, before it starts: pure arithmetic. What it holds when it is idle and what it
 * needs for what is under way come first; heaps, history, tails and queues share the rest. Together they are the limit.
 */
const mib = 2 ** 20;

/** Of an idle node with one reactor and with four, Node 20 to 24: the main thread with the code that runs, and each reactor. */
const mainMb = 40;
const reactorMb = 22;
/** Of that, in V8's heaps. */
const mainHeapMb = 20;
const reactorHeapMb = 14;
/** Garbage of a handshake storm in the young part of each heap, and what the kernel needs to act: never planned for anything else. */
const reserveMb = 8;
const reserveThreadMb = 4;
/** What may wait in the queues of a reactor's sockets, at the least. */
const queuesMbMin = 4;

/** Shares of what is left: the heaps get three quarters. The hub has the most to keep. */
const shares = { mainHeap: 0.5, reactorHeaps: 0.25, history: 0.1, tails: 0.025, queues: 0.125 } as const;

const historyBytesMax = 2 ** 30;
/** What the tails of all rooms together are given at most: more than enough for them. */
const tailsBytesMax = 256 * mib;
const ringBytesDefault = 4 * mib;
const smallRingBytes = mib;
const overflowBytesDefault = 16 * mib;
/** Below this the rings and what waits for them are smaller, unless somebody gives their size. */
const smallBytes = 512 * mib;

export interface MemoryGiven {
  readonly memoryLimitBytes: number;
  readonly reactors: number;
  readonly ringBytes: number;
}

export interface MemoryPlan {
  /** Where V8 gives up, for the main thread and for each reactor. */
  readonly mainHeapMb: number;
  readonly reactorHeapMb: number;
  /** Of all rings together. */
  readonly ringsBytes: number;
  /** What rooms of the embedded broker may keep, and the tails of all rooms. */
  readonly historyBytes: number;
  readonly tailsBytes: number;
  /** What may wait in the queues of one reactor's sockets. */
  readonly queuesBytes: number;
  /** Left alone: for what is under way while the node refuses. */
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

/** The least that a node with so many reactors can start and serve with. */
export function neededBytes(reactors: number, ringBytes: number): number {
  return (mainMb + reactors * (reactorMb + queuesMbMin)) * mib + 2 * ringBytes * reactors + reserveBytes(reactors);
}

function reserveBytes(reactors: number): number {
  return (reserveMb + reserveThreadMb * (1 + reactors)) * mib;
}

/** As many reactors as there are cores, or as many as the memory is enough for; one at the least. */
export function reactorsWithin(limitBytes: number, ringBytes: number, cores: number): number {
  let reactors = cores;
  while (reactors > 1 && neededBytes(reactors, ringBytes) > limitBytes) reactors--;
  return reactors;
}

/** Where nobody gives their size: a ring takes 16 of the largest frames. */
export function ringBytesWithin(limitBytes: number, frameBytesMax: number): number {
  if (limitBytes >= smallBytes) return ringBytesDefault;
  return Math.min(ringBytesDefault, Math.max(smallRingBytes, 2 ** Math.ceil(Math.log2(16 * frameBytesMax))));
}

export function overflowBytesWithin(limitBytes: number): number {
  return limitBytes >= smallBytes ? overflowBytesDefault : smallRingBytes;
}

/**
 * A reactor's counters: fixed slots of a SharedArrayBuffer. Only the reactor writes, and the main thread reads at each
 * scrape. The slots are 64-bit floats. A store is one instruction on every platform that uWebSockets.js supports, so a
 * reader never sees half a number.
 */
import { closes, type CloseName } from "../errors.ts";

const names = [
  "handshake", // gauges: sockets by state of their session
  "ready",
  "closing",
  "tcpSockets", // of them
  "binarySockets", // of them, by wire format
  "jsonSockets",
  "jsonArraySockets",
  "opened",
  "refusedSockets",
  "refusedLeaving", // because the node drained, and for want of memory
  "refusedMemory",
  "refusedHandshakes", // without a ticket, and with one
  "refusedResumes",
  "sentOn", // hellos of users of other nodes, and why such users were served here all the same
  "servedUnknown",
  "servedUnreachable",
  "servedByTicket",
  "servedAfterHops",
  "toldToWait", // hellos of users whom no node serves now, and deliveries that were not this node's any more
  "heldBack",
  "moved", // sessions whose user got another owner
  "urlsAnswered", // requests for a connection URL
  "urlsRefused",
  "httpMalformed", // requests whose end is not certain
  "apiRequests", // to the HTTP API on the port for clients: passed to the main thread, and refused here, by code
  "apiUnauthorized",
  "apiRateLimited",
  "apiOverloaded",
  "apiBad",
  "tokensVerified",
  "tokensRefused",
  "keysAway", // gauge: 1 while the URL of the keys is unavailable
  "heldBytes", // gauge: of frames that wait behind a command; and frames refused because too many wait
  "heldRefused",
  "unreadable",
  "framesIn",
  "framesOut",
  "pongs", // answers of uWS to pings of clients
  "bytesIn",
  "bytesOut",
  "publishes",
  "deliveries",
  "errorReplies",
  "rateLimited",
  "slowConsumers",
  "droppedBatches",
  "behind", // gauge: members
  "queueLongestBytes", // gauges, from the last look at all sockets
  "queuesOver10",
  "queuesOver50",
  "queuesFull",
  "queuesCut",
  "slowSkips",
  "slowCatchUps",
  "buffersAllocated",
  "ringDepthBytes",
  "overflowBytes",
  "members",
  "rooms",
  "loopLagP50Ms",
  "loopLagP99Ms",
  "loopLagMaxMs",
  "loopUtilization",
  "heapBytes",
  "heapLimitBytes",
  "fanoutSumMs",
  "fanoutCount",
] as const;

/** Closes by reason. Every reason of the table has a slot, so clients cannot add any. */
const closeNames = Object.keys(closes) as CloseName[];

export type CounterName = (typeof names)[number];

/** Sockets by wire format, in the order of protocol/formats/formats.ts. */
export const formatSockets = ["binarySockets", "jsonSockets", "jsonArraySockets"] as const satisfies readonly CounterName[];

/** Upper bounds of the fan-out histogram, milliseconds. One more slot holds the values above the last. */
export const fanoutBucketsMs = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000] as const;

const index = Object.fromEntries(names.map((name, i) => [name, i])) as Record<CounterName, number>;

/** Slots of the counters on the data path: looking up a name there costs more than the addition. */
export const slots = {
  framesIn: index.framesIn,
  framesOut: index.framesOut,
  bytesIn: index.bytesIn,
  bytesOut: index.bytesOut,
  publishes: index.publishes,
  deliveries: index.deliveries,
} as const;
const { fanoutSumMs, fanoutCount } = index;
const bucketsAt = names.length;
const closesAt = bucketsAt + fanoutBucketsMs.length + 1;

export function createCounters(): SharedArrayBuffer {
  return new SharedArrayBuffer((closesAt + closeNames.length) * 8);
}

export class Counters {
  readonly #slots: Float64Array;

  constructor(shared: SharedArrayBuffer) {
    this.#slots = new Float64Array(shared);
  }

  get(name: CounterName): number {
    return this.#slots[index[name]]!;
  }

  set(name: CounterName, value: number): void {
    this.#slots[index[name]] = value;
  }

  add(name: CounterName, amount: number): void {
    this.#slots[index[name]]! += amount;
  }

  /** As `add`, by a slot of `slots`. */
  addAt(slot: number, amount: number): void {
    this.#slots[slot]! += amount;
  }

  /** The node closed a socket, for this reason. */
  closed(name: CloseName): void {
    this.#slots[closesAt + closeNames.indexOf(name)]! += 1;
  }

  /** How many sockets were closed for each reason. */
  closes(): (readonly [CloseName, number])[] {
    return closeNames.map((name, i) => [name, this.#slots[closesAt + i]!] as const);
  }

  /** Sockets in any state. */
  get sockets(): number {
    return this.get("handshake") + this.get("ready") + this.get("closing");
  }

  /** One fan-out: from the hub's decision to the sockets of this reactor. */
  fanout(ms: number): void {
    let bucket = 0;
    while (bucket < fanoutBucketsMs.length && ms > fanoutBucketsMs[bucket]!) bucket++;
    this.#slots[bucketsAt + bucket]! += 1;
    this.#slots[fanoutSumMs]! += ms;
    this.#slots[fanoutCount]! += 1;
  }

  /** Counts of the fan-out histogram, a slot a bucket, not cumulative. */
  fanoutBuckets(): number[] {
    return Array.from(this.#slots.subarray(bucketsAt, closesAt));
  }
}

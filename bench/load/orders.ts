/** Everything the bench and its load threads say to each other. */
import type { RecordableHistogram } from "node:perf_hooks";
import type { Dialect, Format, Role } from "./conversation.ts";

export type Target = { dialect: Dialect; format: Format; host: string; port: number };

/** `rate` messages a second from `startAt` (micros) on, by the clock: what is late is sent at once, never left out. */
export type Schedule = {
  rate: number;
  count: number;
  startAt: number;
  /** Messages that were published before: theirs are numbered on from there. Default: none. */
  before?: number;
};

export type Order =
  /** More sockets, of one role. Done when every one of them is ready (and in the room). */
  | { kind: "connect"; target: Target; role: Role; sockets: number }
  /** The first socket publishes. Done when the last message is handed to the kernel. */
  | { kind: "publish"; schedule: Schedule }
  /** The sockets send in turn, so each of n sends rate / n a second. */
  | { kind: "echo"; schedule: Schedule }
  /** Socket `from` publishes, one at a time, and waits until `near` and `far` have it. */
  | { kind: "relay"; from: number; near: number; far: number; samples: number; gapMs: number }
  /** Every socket publishes, and again each time it has been acknowledged, until it is closed. */
  | { kind: "circle" }
  /** Latencies count from here on: of payloads stamped `from` or later. */
  | { kind: "measure"; from: number }
  /** Every socket is lost at once and comes back, evenly spread. Done when all have tried. */
  | { kind: "storm"; withinSeconds: number }
  /** `upTo`: so many messages were published, and what a socket has not seen of them is lost. */
  | { kind: "tally"; upTo?: number }
  /** Nothing is read from any socket, or again. */
  | { kind: "stall"; stalled: boolean }
  | { kind: "close" };

export type Tally = {
  /** Payloads seen over all sockets. */
  delivered: number;
  /** Left out: a later payload came instead. */
  lost: number;
  /** Came after a later one, or twice. */
  disordered: number;
  /** Times the server's own numbers (seq and prev) showed a gap. */
  unchained: number;
  /** Microseconds. */
  latency: RecordableHistogram;
};

export type Relayed = { near: RecordableHistogram; far: RecordableHistogram };

export type Answers = {
  connect: null;
  publish: { lateness: RecordableHistogram };
  echo: { lateness: RecordableHistogram };
  relay: Relayed;
  circle: null;
  measure: null;
  stall: null;
  /** Sessions that were resumed, and how long it was until all had been answered. */
  storm: { resumed: number; refused: number; triedSeconds: number; seconds: number };
  tally: Tally;
  close: null;
};

export type Request<O = Order> = { id: number; order: O };
export type Response<A = Answers[Order["kind"]]> = { id: number; answer: A } | { id: number; error: string };
/** `delivered` is one counter that grows with every payload seen, so that the bench can read it at any moment. */
export type WorkerData = { delivered: Uint32Array };

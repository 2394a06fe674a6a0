/** Messages between the bench and its load threads. */
import type { RecordableHistogram } from "node:perf_hooks";
import type { Dialect, Format, Role } from "./conversation.ts";

export type Target = { dialect: Dialect; format: Format; host: string; port: number };

/** `rate` messages a second from `startAt` (micros), by the clock. Late messages are sent at once, never skipped. */
export type Schedule = {
  rate: number;
  count: number;
  startAt: number;
  /** Messages published before; counters continue after them. Default: none. */
  before?: number;
  /** The first so many sockets publish in turn. Default: 1. */
  publishers?: number;
};

export type Order =
  /** Opens more sockets of one role. Done when every one is ready (and in the room). */
  | { kind: "connect"; target: Target; role: Role; sockets: number; patient?: boolean }
  /** The first sockets publish in turn. Done when the kernel has the last message. */
  | { kind: "publish"; schedule: Schedule }
  /** The sockets send in turn: each of n sends rate / n a second. */
  | { kind: "echo"; schedule: Schedule }
  /** Socket `from` publishes one message at a time and waits until `near` and `far` have it. */
  | { kind: "relay"; from: number; near: number; far: number; samples: number; gapMs: number }
  /** Every socket publishes again whenever it gets an acknowledgement, until it is closed. */
  | { kind: "circle" }
  /** Latencies count from now on: for payloads stamped `from` or later. `publishers`: as in Schedule, if more than one. */
  | { kind: "measure"; from: number; publishers?: number }
  /** Drops every socket at once; they reconnect evenly spread. Done when all have tried. */
  | { kind: "storm"; withinSeconds: number }
  /** `upTo`: number of messages published. A socket that did not receive one has lost it. */
  | { kind: "tally"; upTo?: number }
  /** Stops reading from all sockets, or continues. */
  | { kind: "stall"; stalled: boolean }
  | { kind: "close" };

export type Tally = {
  /** Payloads received over all sockets. */
  delivered: number;
  /** Skipped: a later payload arrived instead. */
  lost: number;
  /** Arrived after a later one, or twice. */
  disordered: number;
  /** Gaps in the server's own numbers (seq and prev). */
  unchained: number;
  /** Microseconds. */
  latency: RecordableHistogram;
};

export type Relayed = { near: RecordableHistogram; far: RecordableHistogram };

export type Answers = {
  /** How often a socket was refused and tried again: only patient ones are. */
  connect: { refused: number };
  publish: { lateness: RecordableHistogram };
  echo: { lateness: RecordableHistogram };
  relay: Relayed;
  circle: null;
  measure: null;
  stall: null;
  /** Resumed sessions, and the time until all were answered. */
  storm: { resumed: number; refused: number; triedSeconds: number; seconds: number };
  tally: Tally;
  close: null;
};

export type Request<O = Order> = { id: number; order: O };
export type Response<A = Answers[Order["kind"]]> = { id: number; answer: A } | { id: number; error: string };
/**
 * What the bench can read at any moment: a counter that grows with every payload seen, and the kernel's number of the
 * thread, which /proc knows it by.
 */
export type WorkerData = { shared: Uint32Array };
export const sharedWords = { delivered: 0, threadId: 1 } as const;

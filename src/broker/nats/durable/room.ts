/** A durable room that is open on this node: where it is, and what of it waits. */
import type { Retention } from "../../broker.ts";
import type { StreamState } from "../wire/answers.ts";
import type { Envelope } from "../wire/envelope.ts";
import type { Heard } from "../listening.ts";
import type { Stream } from "../streams/streams.ts";

export interface DurableRoom {
  readonly name: string;
  readonly stream: Stream;
  /** What its publications are called in the stream. */
  readonly subject: string;
  readonly retention: Retention;
  heard: Heard | null;
  /**
   * opening: its place in the stream is being asked for. behind: something may be missing; a look at the stream or a retry
   * will tell. catchingUp: what is missing is being read. live: nothing is missing. What arrives is held unless it is live.
   */
  state: "opening" | "behind" | "catchingUp" | "live";
  epoch: string;
  /** Sequence of what was delivered last, or the room's head when it was opened. */
  last: number;
  /** Something before the next publication can no longer be had. */
  holed: boolean;
  /** When it was known last that nothing was missing. */
  completeAt: number;
  held: Held[];
  heldBytes: number;
  /** More arrived than could be held. */
  heldLost: boolean;
  /** Publications of this node that the stream has and that have not come back yet. */
  readonly acked: Acked[];
}

export interface Held {
  readonly seq: number;
  readonly before: number;
  readonly envelope: Envelope;
}

export interface Acked {
  readonly number: number;
  readonly seq: number;
  readonly duplicate: boolean;
  readonly epoch: string;
  readonly at: number;
}

/** What is held of one room while it catches up; more is read again. */
const heldMax = 1024;
const heldBytesMax = 1024 * 1024;
/** Clocks differ, and it takes a while until a lost connection is noticed. */
const completeMarginMs = 60_000;

export function openingRoom(name: string, stream: Stream, subject: string, retention: Retention): DurableRoom {
  return {
    name, stream, subject, retention, heard: null, state: "opening", epoch: stream.epoch, last: 0, holed: false,
    completeAt: performance.now(), held: [], heldBytes: 0, heldLost: false, acked: [],
  };
}

/** What arrives waits: something before it may be missing. One that is being caught up goes on with that. */
export function fallBehind(room: DurableRoom): void {
  if (room.state !== "catchingUp") room.state = "behind";
  room.completeAt = performance.now();
}

/** Its stream is another one from here on, of which nothing behind `floor` is known. */
export function beginAgain(room: DurableRoom, epoch: string, floor: number): void {
  fallBehind(room);
  room.epoch = epoch;
  room.last = Math.min(room.last, floor);
  room.holed = false;
  dropHeld(room);
  room.heldLost = true; // to be read from the stream
}

/** Whether nothing that came after `last` can have been removed, where `last` itself is not in the stream. */
export function isComplete({ subject, last, completeAt, retention }: DurableRoom, { first_seq: first, subjects }: StreamState): boolean {
  const isYoung = performance.now() - completeAt < retention.historyTtlMs - completeMarginMs;
  return (subjects?.[subject] ?? 0) <= retention.historySize && (first <= last + 1 || isYoung);
}

export function dropHeld(room: DurableRoom): void {
  room.held = [];
  room.heldBytes = 0;
}

/** Where it does not fit, all that is held goes: it is in the stream. */
export function hold(room: DurableRoom, held: Held): void {
  const bytes = held.envelope.payload.length;
  if (room.held.length >= heldMax || room.heldBytes + bytes > heldBytesMax) {
    dropHeld(room);
    room.heldLost = true;
  }
  room.held.push(held);
  room.heldBytes += bytes;
}

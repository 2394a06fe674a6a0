/** A durable room that is open on this node: its position, and the messages and publications that wait. */
import type { Retention } from "../../broker.ts";
import type { StreamState } from "../wire/answers.ts";
import type { Envelope } from "../wire/envelope.ts";
import type { Heard } from "../listening.ts";
import type { Stream } from "../streams/streams.ts";

export interface DurableRoom {
  readonly name: string;
  readonly stream: Stream;
  /** Its subject in the stream. */
  readonly subject: string;
  readonly retention: Retention;
  /** The partition whose queue brings its publications; -1: copies on a subject bring them. */
  readonly queue: number;
  heard: Heard | null;
  /**
   * opening: its position in the stream is not known yet. behind: messages may be missing; a check or retry will tell.
   * catchingUp: missing messages are being read. live: nothing is missing. Arriving messages are held in every state
   * but live.
   */
  state: "opening" | "behind" | "catchingUp" | "live";
  epoch: string;
  /** Sequence of the last delivery, or the room's head when it was opened. */
  last: number;
  /** Messages before the next publication are lost. */
  holed: boolean;
  /** Time at which nothing was known to be missing. */
  completeAt: number;
  held: Held[];
  heldBytes: number;
  /** More messages arrived than fit; some were dropped. */
  heldLost: boolean;
  /** Publications of this node that the stream stored and whose copies have not arrived. */
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

/** Messages held for a room that catches up. More are dropped and read again. */
const heldMax = 1024;
const heldBytesMax = 1024 * 1024;
/** Clocks differ, and a lost connection is noticed late. */
const completeMarginMs = 60_000;

export function openingRoom(name: string, stream: Stream, subject: string, retention: Retention, queue: number): DurableRoom {
  return {
    name, stream, subject, retention, queue, heard: null, state: "opening", epoch: stream.epoch, last: 0, holed: false,
    completeAt: performance.now(), held: [], heldBytes: 0, heldLost: false, acked: [],
  };
}

/** Holds arriving messages, since one before them may be missing. A room that catches up continues to. */
export function fallBehind(room: DurableRoom): void {
  if (room.state !== "catchingUp") room.state = "behind";
  room.completeAt = performance.now();
}

/** The stream was replaced; nothing after `floor` is known of the new one. */
export function beginAgain(room: DurableRoom, epoch: string, floor: number): void {
  fallBehind(room);
  room.epoch = epoch;
  room.last = Math.min(room.last, floor);
  room.holed = false;
  dropHeld(room);
  room.heldLost = true; // read from the stream later
}

/** Whether no message after `last` can have been removed, where `last` is not in the stream. */
export function isComplete({ subject, last, completeAt, retention }: DurableRoom, { first_seq: first, subjects }: StreamState): boolean {
  const isYoung = performance.now() - completeAt < retention.historyTtlMs - completeMarginMs;
  return (subjects?.[subject] ?? 0) <= retention.historySize && (first <= last + 1 || isYoung);
}

export function dropHeld(room: DurableRoom): void {
  room.held = [];
  room.heldBytes = 0;
}

/** If it does not fit, drops all held messages: the stream has them. */
export function hold(room: DurableRoom, held: Held): void {
  const bytes = held.envelope.payload.length;
  if (room.held.length >= heldMax || room.heldBytes + bytes > heldBytesMax) {
    dropHeld(room);
    room.heldLost = true;
  }
  room.held.push(held);
  room.heldBytes += bytes;
}

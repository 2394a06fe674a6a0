/**
 * What this node has published to NATS and has no answer for yet: bounded in number and bytes, and each answered within
 * a time. What is published while NATS is away waits here too, and leaves when it is back.
 *
 * Acknowledgements of all streams come to one subject of this node, with the number of the publication in it: a request
 * of the client library for each would cost a promise, a timer and a subscription's bookkeeping.
 */
import { randomBytes } from "node:crypto";
import { headers, type Msg, type NatsConnection } from "nats";
import type { ErrorCode } from "../errors.ts";
import type { Answer, Draft, Published } from "./broker.ts";
import { listen, type NatsLog } from "./natsconnection.ts";
import { nodeTokenBytes, writeEnvelope } from "./natsenvelope.ts";
import { ackedSeq, numberOf } from "./natsraw.ts";

/** What a publication waits for: that it comes back to an open room, that its stream has it, or only to leave. */
export type Awaited = "copy" | "leave" | Taker;

/** A stream, of which this much counts: while its epoch is not known it is given nothing. */
type Taker = { readonly epoch: string; readonly seen: number };

/** A publication without an answer. */
export interface Waiting {
  readonly number: number;
  readonly awaited: Awaited;
  readonly room: string;
  readonly subject: string;
  readonly key: string;
  readonly asksFirst: boolean;
  readonly bytes: Buffer;
  /** By a clock that nobody sets, as all here but the time that members see. */
  readonly at: number;
  /** When it left last, 0 while it has not, or nobody took it. */
  sentAt: number;
  /** What was known of its stream's end when it left first: it comes after that, unless the stream is another one by then. */
  after: number;
  /** Where its copy was delivered, 0 while it was not, and what was before it there. */
  copySeq: number;
  copyPrev: number;
  readonly done: (answer: Answer<Published>) => void;
}

export interface OutboxOptions {
  readonly timeoutMs: number;
  readonly publicationsMax: number;
  readonly bytesMax: number;
  readonly log: NatsLog;
}

/** What a stream says of a publication. */
export type Ack = { readonly seq: number; readonly duplicate: boolean } | Refusal;
/** `again`: there was nobody to take it, which may be for a moment only. */
interface Refusal {
  readonly error: ErrorCode;
  readonly text: string;
  readonly again: boolean;
}

/** What envelope and headers take at most: sender, origin and key are of bounded length. */
export const overheadBytes = 4096;
const sweepMs = 250;
/** A stream whose server has gone answers nothing until another leads it: what has a key is given to it again. */
const resendMs = 2_000;
const lastNumber = 0xffffffff;

export class Outbox {
  /** By these bytes the node knows its own publications. */
  readonly node = randomBytes(nodeTokenBytes);
  bytes = 0;
  /** Publications that got no answer in time. */
  timeouts = 0;
  readonly #connection: NatsConnection;
  readonly #options: OutboxOptions;
  readonly #inbox: string;
  /** By number, which is the order they were published in. */
  readonly #waiting = new Map<number, Waiting>();
  /** Larger ones the server would refuse by closing the connection. */
  readonly #payloadMax: number;
  #number = 0;
  #connected = true;
  /** Something was not answered in time, and since then nothing has been heard: more is not sent. */
  #stalled = false;
  readonly #onAck: (waiting: Waiting, ack: Ack) => void;
  readonly #sweeper = setInterval(() => this.#sweep(), sweepMs).unref();

  constructor(connection: NatsConnection, inbox: string, options: OutboxOptions, onAck: (waiting: Waiting, ack: Ack) => void) {
    this.#connection = connection;
    this.#inbox = inbox;
    this.#options = options;
    this.#onAck = onAck;
    this.#payloadMax = (connection.info?.max_payload ?? 1024 * 1024) - overheadBytes;
    listen(connection, `${inbox}.*`, options.log, (message) => this.#acknowledged(message));
  }

  get size(): number {
    return this.#waiting.size;
  }

  get stalled(): boolean {
    return this.#stalled;
  }

  publish(awaited: Awaited, room: string, subject: string, draft: Draft, done: Waiting["done"]): void {
    const { publicationsMax, bytesMax } = this.#options;
    if (this.#stalled) return done({ error: "unavailable" });
    if (draft.payload.length > this.#payloadMax) return done({ error: "too_large" });
    if (this.#waiting.size >= publicationsMax || this.bytes + draft.payload.length > bytesMax) return done({ error: "overloaded" });
    const number = (this.#number = this.#number === lastNumber ? 1 : this.#number + 1);
    const bytes = writeEnvelope(this.node, number, Date.now(), draft);
    const asksFirst = draft.asksFirst === true;
    const waiting: Waiting = { number, awaited, room, subject, key: draft.key, asksFirst, bytes, at: performance.now(), sentAt: 0, after: 0, copySeq: 0, copyPrev: 0, done };
    this.#waiting.set(number, waiting);
    this.bytes += bytes.length;
    if (this.#maySend(awaited)) this.#send(waiting);
  }

  #maySend(awaited: Awaited): boolean {
    return this.#connected && (typeof awaited === "string" || awaited.epoch !== "");
  }

  /** The publication has its answer. */
  take(number: number): Waiting | undefined {
    const waiting = this.#waiting.get(number);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(number);
    this.bytes -= waiting.bytes.length;
    return waiting;
  }

  /** A publication of this node has been delivered here: its answer says behind which other one. */
  delivered(number: number, seq: number, prev: number): void {
    const waiting = this.#waiting.get(number);
    if (waiting === undefined) return;
    waiting.copySeq = seq;
    waiting.copyPrev = prev;
  }

  /** What waits for its copy in this room: it will not be seen here. */
  *copiesOf(room: string): Iterable<Waiting> {
    for (const waiting of this.#waiting.values()) if (waiting.awaited === "copy" && waiting.room === room) yield waiting;
  }

  disconnected(): void {
    this.#connected = false;
  }

  /** What has not left yet leaves now; what is for a stream waits until that was looked at. */
  reconnected(): void {
    this.#connected = true;
    this.#stalled = false;
    for (const waiting of this.#waiting.values()) if (typeof waiting.awaited === "string" && waiting.sentAt === 0) this.#send(waiting);
  }

  /** The stream is there again. What has a key leaves a second time: the stream knows by it what it has already. */
  streamBack(stream: Taker): void {
    for (const waiting of this.#waiting.values()) {
      if (waiting.awaited === stream && (waiting.sentAt === 0 || waiting.key !== "")) this.#send(waiting);
    }
  }

  /** Nobody took it: it is given to its stream again, as long as it may wait. */
  again(waiting: Waiting): void {
    waiting.sentAt = 0;
  }

  /** Answers everything that still waits. */
  stop(): void {
    clearInterval(this.#sweeper);
    for (const waiting of [...this.#waiting.values()]) this.#refuse(waiting);
  }

  #send(waiting: Waiting): void {
    if (waiting.sentAt === 0 && typeof waiting.awaited === "object") waiting.after = waiting.awaited.seen;
    waiting.sentAt = performance.now();
    const { subject, bytes, awaited, number, key, room } = waiting;
    if (typeof awaited === "string") this.#connection.publish(subject, bytes);
    else if (key === "") this.#connection.publish(subject, bytes, { reply: `${this.#inbox}.${number}` });
    else this.#connection.publish(subject, bytes, { reply: `${this.#inbox}.${number}`, headers: messageId(room, key) });
    if (awaited !== "leave") return;
    this.take(number);
    waiting.done({ value: { epoch: "", seq: 0, duplicate: false } });
  }

  #acknowledged(message: Msg): void {
    const waiting = this.#waiting.get(numberOf(message));
    if (waiting !== undefined) this.#onAck(waiting, readAck(message));
  }

  #sweep(): void {
    const now = performance.now();
    for (const waiting of this.#waiting.values()) {
      const { at, sentAt, key, awaited } = waiting;
      if (at + this.#options.timeoutMs <= now) {
        this.timeouts++;
        this.#refuse(waiting);
        if (sentAt > 0 && this.#connected) this.#probe();
        continue;
      }
      if (at + sweepMs > now) break;
      const isLost = sentAt === 0 || (key !== "" && sentAt + resendMs <= now);
      if (isLost && typeof awaited === "object" && this.#maySend(awaited)) this.#send(waiting);
    }
  }

  #refuse(waiting: Waiting): void {
    this.take(waiting.number);
    waiting.done({ error: "unavailable" });
  }

  /** A server that is paused takes what is written to it until memory is full: nothing more goes until it answers. */
  #probe(): void {
    if (this.#stalled) return;
    this.#stalled = true;
    this.#connection.flush().then(
      () => (this.#stalled = false),
      () => undefined, // the connection is gone, and comes back by reconnected()
    );
  }
}

/** Keys are a room's own, and the room of a key is part of it. */
function messageId(room: string, key: string) {
  const id = headers();
  id.set("Nats-Msg-Id", Buffer.from(`${room}\u0000${key}`).toString("base64url"));
  return id;
}

function readAck(message: Msg): Ack {
  const { data } = message;
  if (data.length === 0) return { error: "unavailable", text: "no stream takes it", again: true };
  const first = ackedSeq(data);
  if (first >= 0) return { seq: first, duplicate: false };
  const { seq, duplicate = false, error } = pubAck(message);
  if (error === undefined && Number.isSafeInteger(seq)) return { seq: seq!, duplicate };
  const { code = 500, description = "no reason given" } = error ?? {};
  return { error: code === 503 || code === 500 ? "unavailable" : "overloaded", text: description, again: false };
}

/** Somebody else may listen to the same subject, and answer. */
function pubAck(message: Msg): PubAck {
  try {
    return (JSON.parse(message.string()) ?? {}) as PubAck;
  } catch {
    return { error: { description: "what answered is no stream" } };
  }
}

interface PubAck {
  readonly seq?: number;
  readonly duplicate?: boolean;
  readonly error?: { readonly code?: number; readonly description?: string };
}

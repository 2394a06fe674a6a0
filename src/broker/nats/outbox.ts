/**
 * What this node has published to NATS and has no answer for yet: bounded in number and bytes, and each answered within
 * a time. What is published while NATS is away waits here too, and leaves when it is back.
 *
 * Acknowledgements of all streams come to one subject of this node, with the number of the publication in it: a request
 * of the client library for each would cost a promise, a timer and a subscription's bookkeeping.
 */
import { randomBytes } from "node:crypto";
import { ErrorCode as NatsErrorCode, headers, type Msg, type NatsConnection } from "nats";
import type { ErrorCode } from "../../errors.ts";
import type { Answer, Draft, Published } from "../broker.ts";
import { readPubAck, type Ack } from "./wire/answers.ts";
import { nodeTokenBytes, writeEnvelope } from "./wire/envelope.ts";
import type { Listening } from "./listening.ts";
import { ackedSeq, numberOf } from "./wire/raw.ts";
import type { RefusalReason, Refusals } from "./refusals.ts";

/** What a publication waits for: that it comes back to an open room, that its stream has it, or only to leave. */
export type Awaited = "copy" | "leave" | Taker;

/** A stream, of which this much counts: while its epoch is not known it is given nothing. */
type Taker = { readonly name: string; readonly epoch: string; readonly seen: number };

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
  readonly refusals: Refusals;
  readonly listening: Listening;
}

/** What envelope and headers take at most: sender, origin and key are of bounded length. */
export const overheadBytes = 4096;
const sweepMs = 250;
/** A stream whose server has gone answers nothing until another leads it: what has a key is given to it again. */
const resendMs = 2_000;
const lastNumber = 0xffffffff;
/** Of a server that has not said. */
const usualPayloadMax = 1024 * 1024;

export class Outbox {
  /** By these bytes the node knows its own publications. */
  readonly node = randomBytes(nodeTokenBytes);
  bytes = 0;
  /** Publications that got no answer in time. */
  timeouts = 0;
  /** Whether acknowledgements can come: null, or why not. */
  readonly heard: Promise<ErrorCode | null>;
  readonly #connection: NatsConnection;
  readonly #options: OutboxOptions;
  readonly #inbox: string;
  /** By number, which is the order they were published in. */
  readonly #waiting = new Map<number, Waiting>();
  /** What the server takes that is connected now, or was last: it would close the connection for more. */
  #payloadMax = usualPayloadMax;
  #number = 0;
  #connected = true;
  /** Something was not answered in time, and since then nothing has been heard: more is not sent. */
  #stalled = false;
  /** @param ack null: there was nobody to take it, which may be for a moment only. */
  readonly #onAck: (waiting: Waiting, ack: Ack | null) => void;
  readonly #sweeper = setInterval(() => this.#sweep(), sweepMs).unref();

  constructor(connection: NatsConnection, inbox: string, options: OutboxOptions, onAck: (waiting: Waiting, ack: Ack | null) => void) {
    this.#connection = connection;
    this.#inbox = inbox;
    this.#options = options;
    this.#onAck = onAck;
    this.heard = new Promise((settled) => {
      options.listening.listen({ room: "", subject: `${inbox}.*`, message: (message) => this.#acknowledged(message), settled, regained: () => undefined });
    });
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
    const { payloadMax } = this;
    if (draft.payload.length > payloadMax) return this.#tooLarge(draft.payload.length, room, done);
    if (this.#waiting.size >= publicationsMax || this.bytes + draft.payload.length > bytesMax) return done({ error: "overloaded" });
    const number = (this.#number = this.#number === lastNumber ? 1 : this.#number + 1);
    const bytes = writeEnvelope(this.node, number, Date.now(), draft);
    const size = bytes.length + (typeof awaited === "string" ? 0 : headerBytes(room, draft.key));
    if (size > payloadMax) return this.#tooLarge(size, room, done);
    const asksFirst = draft.asksFirst === true;
    const waiting: Waiting = { number, awaited, room, subject, key: draft.key, asksFirst, bytes, at: performance.now(), sentAt: 0, after: 0, copySeq: 0, copyPrev: 0, done };
    this.#waiting.set(number, waiting);
    this.bytes += bytes.length;
    if (this.#maySend(awaited)) this.#send(waiting);
  }

  /** Of one message, as the connection has it that there is now: servers differ, and are configured anew. */
  get payloadMax(): number {
    return (this.#payloadMax = this.#connection.info?.max_payload ?? this.#payloadMax);
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

  /** What the client library throws is the answer: it would throw it again. */
  #send(waiting: Waiting): void {
    if (waiting.sentAt === 0 && typeof waiting.awaited === "object") waiting.after = waiting.awaited.seen;
    waiting.sentAt = performance.now();
    try {
      this.#write(waiting);
    } catch (error) {
      return this.#unsendable(waiting, error as Error & { readonly code?: string });
    }
    if (waiting.awaited !== "leave") return;
    this.take(waiting.number);
    waiting.done({ value: { epoch: "", seq: 0, duplicate: false } });
  }

  #write({ subject, bytes, awaited, number, key, room }: Waiting): void {
    if (typeof awaited === "string") this.#connection.publish(subject, bytes);
    else if (key === "") this.#connection.publish(subject, bytes, { reply: `${this.#inbox}.${number}` });
    else this.#connection.publish(subject, bytes, { reply: `${this.#inbox}.${number}`, headers: messageId(room, key) });
  }

  #unsendable(waiting: Waiting, { code, message }: Error & { readonly code?: string }): void {
    this.take(waiting.number);
    if (code === NatsErrorCode.MaxPayloadExceeded) return this.#tooLarge(waiting.bytes.length, waiting.room, waiting.done);
    this.#options.refusals.note("other", { room: waiting.room, problem: message });
    waiting.done({ error: "unavailable" });
  }

  #tooLarge(bytes: number, room: string, done: Waiting["done"]): void {
    this.#options.refusals.note("payload", { room, bytes, max_payload: this.payloadMax });
    done({ error: "too_large" });
  }

  #acknowledged(message: Msg): void {
    const waiting = this.#waiting.get(numberOf(message));
    if (waiting === undefined || typeof waiting.awaited === "string") return;
    this.#onAck(waiting, readAck(message, waiting.awaited.name));
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

  /** The account may not publish there: what waits for an answer will have none. */
  denied(subject: string): void {
    const denied = [...this.#waiting.values()].filter((waiting) => waiting.subject === subject && waiting.sentAt > 0);
    if (denied.length === 0) this.#options.refusals.note("permission", { subject });
    for (const waiting of denied) this.refused(waiting, "unavailable", "permission", `may not publish to ${subject}`);
  }

  /** NATS does not take it. */
  refused(waiting: Waiting, error: ErrorCode, reason: RefusalReason, problem: string): void {
    this.take(waiting.number);
    this.#options.refusals.note(reason, { room: waiting.room, problem });
    waiting.done({ error });
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

/** What `messageId` and the line above it take. */
function headerBytes(room: string, key: string): number {
  if (key === "") return 0;
  const id = Buffer.byteLength(room) + 1 + Buffer.byteLength(key);
  return "NATS/1.0\r\nNats-Msg-Id: \r\n\r\n".length + Math.ceil((id * 4) / 3);
}

/** Null: nobody listens there. */
function readAck(message: Msg, stream: string): Ack | null {
  const { data } = message;
  if (data.length === 0) return null;
  const seq = ackedSeq(data, stream);
  return seq > 0 ? { seq, duplicate: false } : readPubAck(message.string(), stream);
}

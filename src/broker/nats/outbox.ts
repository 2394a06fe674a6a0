/**
 * Publications of this node that NATS has not acknowledged: limited in number, bytes and time. Publishes while NATS is
 * unavailable wait here too, and leave when it is back.
 *
 * Acknowledgements of all streams arrive on one subject of this node, with the number of the publication in it. A
 * request of the client library for each would cost a promise, a timer and the bookkeeping of a subscription.
 */
import { randomBytes } from "node:crypto";
import { ErrorCode as NatsErrorCode, headers, type Msg, type NatsConnection } from "nats";
import type { ErrorCode } from "../../errors.ts";
import type { Answer, Draft, Published } from "../broker.ts";
import { readPubAck, type Ack } from "./wire/answers.ts";
import { nodeTokenBytes, writeEnvelope } from "./wire/envelope.ts";
import type { Listening } from "./listening.ts";
import { nameBeside, nameHeader } from "./wire/names.ts";
import { ackedSeq, numberOf } from "./wire/raw.ts";
import type { RefusalReason, Refusals } from "./refusals.ts";

/** What completes a publication: its copy in an open room, the acknowledgement of its stream, or leaving the node. */
export type Awaited = "copy" | "leave" | Taker;

/** A stream, with the fields used here. While its epoch is unknown, nothing is sent to it. */
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
  /** By a monotonic clock, like every time here except the one members see. */
  readonly at: number;
  /** Time of the last send; 0 while it was not sent, or nobody received it. */
  sentAt: number;
  /**
   * The stream's last known sequence at the first send. The publication comes after it, unless the stream is replaced.
   */
  after: number;
  /** Seq of its delivered copy, 0 before that, and the seq before it in the room. */
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

/** Upper bound of envelope and headers: sender, origin and key have limited lengths. */
export const overheadBytes = 4096;
const sweepMs = 250;
/** A stream without a leader answers nothing. A publication with a key is sent again. */
const resendMs = 2_000;
const askEveryBytes = 1024 * 1024;
const lastNumber = 0xffffffff;
/** For a server that has not announced its limit. */
const usualPayloadMax = 1024 * 1024;

export class Outbox {
  /** Marks publications of this node. */
  readonly node = randomBytes(nodeTokenBytes);
  bytes = 0;
  /** Publications that were not acknowledged in time. */
  timeouts = 0;
  /** Whether acknowledgements can arrive: null, or why not. */
  readonly heard: Promise<ErrorCode | null>;
  readonly #connection: NatsConnection;
  readonly #options: OutboxOptions;
  readonly #inbox: string;
  /** By number, in the order of publishing. */
  readonly #waiting = new Map<number, Waiting>();
  /** Limit of the current or last server. The server would close the connection for a larger message. */
  #payloadMax = usualPayloadMax;
  #number = 0;
  /** Bytes that left without waiting for an answer, and that the server may not have read. */
  #left = 0;
  #isAsking = false;
  #connected = true;
  /** A publication timed out and nothing arrived since: sending is paused. */
  #stalled = false;
  /** @param ack null: no stream received it, perhaps only for a moment. */
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
    if (awaited === "leave" && this.#left + draft.payload.length > bytesMax) return done({ error: "overloaded" });
    const number = (this.#number = this.#number === lastNumber ? 1 : this.#number + 1);
    const bytes = writeEnvelope(this.node, number, Date.now(), draft);
    const size = bytes.length + (typeof awaited === "string" ? 0 : headerBytes(room, draft.key, nameBeside(room, subject)));
    if (size > payloadMax) return this.#tooLarge(size, room, done);
    const asksFirst = draft.asksFirst === true;
    const waiting: Waiting = { number, awaited, room, subject, key: draft.key, asksFirst, bytes, at: performance.now(), sentAt: 0, after: 0, copySeq: 0, copyPrev: 0, done };
    this.#waiting.set(number, waiting);
    this.bytes += bytes.length;
    if (this.#maySend(awaited)) this.#send(waiting);
  }

  /** Limit of a message on the current connection: servers may differ, and may be reconfigured. */
  get payloadMax(): number {
    return (this.#payloadMax = this.#connection.info?.max_payload ?? this.#payloadMax);
  }

  #maySend(awaited: Awaited): boolean {
    return this.#connected && (typeof awaited === "string" || awaited.epoch !== "");
  }

  /** Removes a publication that has its answer. */
  take(number: number): Waiting | undefined {
    const waiting = this.#waiting.get(number);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(number);
    this.bytes -= waiting.bytes.length;
    return waiting;
  }

  /** A publication of this node was delivered here. Its answer includes the seq before it. */
  delivered(number: number, seq: number, prev: number): void {
    const waiting = this.#waiting.get(number);
    if (waiting === undefined) return;
    waiting.copySeq = seq;
    waiting.copyPrev = prev;
  }

  /** Publications that wait for their copy in this room, which will not arrive here now. */
  *copiesOf(room: string): Iterable<Waiting> {
    for (const waiting of this.#waiting.values()) if (waiting.awaited === "copy" && waiting.room === room) yield waiting;
  }

  disconnected(): void {
    this.#connected = false;
  }

  /** Sends what has not left yet. Publications for streams wait until the streams are checked. */
  reconnected(): void {
    this.#connected = true;
    this.#stalled = false;
    for (const waiting of this.#waiting.values()) if (typeof waiting.awaited === "string" && waiting.sentAt === 0) this.#send(waiting);
  }

  /**
   * The stream is available again. Publications with keys are sent a second time: the stream recognizes duplicates by
   * the key.
   */
  streamBack(stream: Taker): void {
    for (const waiting of this.#waiting.values()) {
      if (waiting.awaited === stream && (waiting.sentAt === 0 || waiting.key !== "")) this.#send(waiting);
    }
  }

  /** No stream received it: it is sent again until its timeout. */
  again(waiting: Waiting): void {
    waiting.sentAt = 0;
  }

  /** Answers every waiting publication. */
  stop(): void {
    clearInterval(this.#sweeper);
    for (const waiting of [...this.#waiting.values()]) this.#refuse(waiting);
  }

  /** An exception of the client library is the answer: a retry would throw it again. */
  #send(waiting: Waiting): void {
    if (waiting.sentAt === 0 && typeof waiting.awaited === "object") waiting.after = waiting.awaited.seen;
    waiting.sentAt = performance.now();
    try {
      this.#write(waiting);
    } catch (error) {
      return this.#unsendable(waiting, error as Error & { readonly code?: string });
    }
    if (waiting.awaited !== "leave") return;
    this.#hasLeft(waiting.bytes.length);
    this.take(waiting.number);
    waiting.done({ value: { epoch: "", seq: 0, duplicate: false } });
  }

  /** Nothing answers these, so the server is asked now and then how far it has read. */
  #hasLeft(bytes: number): void {
    this.#left += bytes;
    if (this.#isAsking || this.#left < askEveryBytes) return;
    this.#isAsking = true;
    const asked = this.#left;
    const answered = (left: number) => {
      this.#left = left;
      this.#isAsking = false;
      this.#hasLeft(0);
    };
    // A connection that is lost takes along what was on its way.
    this.#connection.flush().then(() => answered(this.#left - asked), () => answered(0));
  }

  #write({ subject, bytes, awaited, number, key, room }: Waiting): void {
    if (typeof awaited === "string") this.#connection.publish(subject, bytes);
    else {
      const name = nameBeside(room, subject);
      const reply = `${this.#inbox}.${number}`;
      this.#connection.publish(subject, bytes, key === "" && name === "" ? { reply } : { reply, headers: headersOf(room, key, name) });
    }
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

  /** The account may not publish there: waiting publications get no acknowledgement. */
  denied(subject: string): void {
    const denied = [...this.#waiting.values()].filter((waiting) => waiting.subject === subject && waiting.sentAt > 0);
    if (denied.length === 0) this.#options.refusals.note("permission", { subject });
    for (const waiting of denied) this.refused(waiting, "unavailable", "permission", `the user may not publish to ${subject}`);
  }

  /** NATS rejected it. */
  refused(waiting: Waiting, error: ErrorCode, reason: RefusalReason, problem: string): void {
    this.take(waiting.number);
    this.#options.refusals.note(reason, { room: waiting.room, problem });
    waiting.done({ error });
  }

  /** Writes to a paused server would fill the memory. So sending stops until the server answers. */
  #probe(): void {
    if (this.#stalled) return;
    this.#stalled = true;
    this.#connection.flush().then(
      () => (this.#stalled = false),
      () => undefined, // the connection is lost; reconnected() continues
    );
  }
}

/** Keys belong to a room, so the message id contains the room. @param name of the room, where the subject does not say it */
function headersOf(room: string, key: string, name: string) {
  const all = headers();
  if (key !== "") all.set("Nats-Msg-Id", Buffer.from(`${room}\u0000${key}`).toString("base64url"));
  if (name !== "") all.set(nameHeader, name);
  return all;
}

/** Bytes of `headersOf`. */
function headerBytes(room: string, key: string, name: string): number {
  if (key === "" && name === "") return 0;
  const id = Buffer.byteLength(room) + 1 + Buffer.byteLength(key);
  const idBytes = key === "" ? 0 : "Nats-Msg-Id: \r\n".length + Math.ceil((id * 4) / 3);
  const nameBytes = name === "" ? 0 : nameHeader.length + ": \r\n".length + name.length;
  return "NATS/1.0\r\n\r\n".length + idBytes + nameBytes;
}

/** Null: no stream listens on the subject. */
function readAck(message: Msg, stream: string): Ack | null {
  const { data } = message;
  if (data.length === 0) return null;
  const seq = ackedSeq(data, stream);
  return seq > 0 ? { seq, duplicate: false } : readPubAck(message.string(), stream);
}

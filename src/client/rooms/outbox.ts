/**
 * Unanswered publishes of one room, or unanswered sends. They are sent in order, and again in that order after a
 * reconnect. Their idempotency keys prevent a second effect.
 */
import { encodeClientFrame } from "../../protocol/clientcodec.ts";
import type { ClientFrame, Published, ServerFrame } from "../../protocol/messages.ts";
import { abortable } from "../abort.ts";
import { backoffMs } from "../clock.ts";
import type { Cancel, Clock } from "../clock.ts";
import type { OnReply, Reply } from "../connection/commands.ts";
import { fluxError } from "../flux-error.ts";
import type { FluxError } from "../flux-error.ts";
import { problemOf } from "../values.ts";
import type { Pace } from "./pace.ts";

/** Shared by all outboxes of a client. */
export type OutboxShared = {
  send(command: ClientFrame, onReply: OnReply, timeoutMs: null): void;
  clock: Clock;
  random: () => number;
  pace: Pace;
  timeoutMs: number;
  keyWindowMs: number;
  /** Unanswered publishes and sends over all rooms, and the bytes of their payloads. */
  waiting: number;
  waitingMax: number;
  waitingBytes: number;
  waitingBytesMax: number;
  frameBytesMax: number;
};

type Entry = {
  readonly number: number;
  readonly command: ClientFrame;
  readonly bytes: number;
  readonly resolve: (reply: ServerFrame) => void;
  readonly reject: (error: FluxError) => void;
  /** Time of the first attempt; from then on it may have been published. */
  sentAt: number | null;
  /** The same by the calendar, which goes on while the device sleeps. */
  sentOn: number;
  refusals: number;
  lastError: FluxError | null;
  cancelTimeout: Cancel | null;
  done: boolean;
};

const retryBackoff = { baseMs: 100, capMs: 2000 };

export class Outbox {
  readonly #shared: OutboxShared;
  /** Reports a publication of ours that the node will not deliver to us. */
  readonly #onOwn: (published: Published) => void;
  #queue: Entry[] = [];
  readonly #sent = new Set<Entry>();
  #lastNumber = 0;
  #isOpen = false;
  #ended: FluxError | null = null;
  #cancelWait: Cancel | null = null; // while it runs nothing is sent, so that later entries stay behind a rejected one

  constructor(shared: OutboxShared, onOwn: (published: Published) => void) {
    this.#shared = shared;
    this.#onOwn = onOwn;
  }

  /** Why nothing more is sent, or null. */
  get ended(): FluxError | null {
    return this.#ended;
  }

  /** Resolves with the node's answer to a `publish` or `send`. An aborted one is not sent any more. */
  put(command: ClientFrame, signal?: AbortSignal): Promise<ServerFrame> {
    return abortable(signal, () => this.#put(command), () => this.#drop(command));
  }

  #put(command: ClientFrame): Promise<ServerFrame> {
    const { waiting, waitingMax, waitingBytes, waitingBytesMax } = this.#shared;
    const bytes = payloadOf(command).length;
    const problem = problemOf(command);
    if (problem !== null) return Promise.reject(fluxError("bad_request", problem));
    if (this.#ended !== null) return Promise.reject(this.#ended);
    if (waiting >= waitingMax) return Promise.reject(fluxError("overloaded", `${waitingMax} publishes are waiting for an answer; wait for some of them`));
    if (waitingBytes + bytes > waitingBytesMax) {
      return Promise.reject(fluxError("overloaded", `no more than ${waitingBytesMax} bytes may wait for an answer`));
    }
    return new Promise((resolve, reject) => {
      const begin = { sentAt: null, sentOn: 0, refusals: 0, lastError: null, cancelTimeout: null, done: false };
      this.#shared.waiting++;
      this.#shared.waitingBytes += bytes;
      this.#queue.push({ number: ++this.#lastNumber, command, bytes, resolve, reject, ...begin });
      this.#flush();
    });
  }

  /** The room is joined: sends what waits. */
  open(): void {
    this.#isOpen = true;
    this.#flush();
  }

  /** The session is lost; every unanswered entry is sent again in the next one. */
  interrupt(): void {
    this.#isOpen = false;
    this.#stopWaiting();
    this.#requeue([...this.#sent]);
    for (const entry of this.#queue) {
      entry.cancelTimeout?.();
      entry.cancelTimeout = null;
    }
  }

  /** Sends nothing more. Entries that were sent may still be answered, unless `andSent`. */
  end(error: FluxError, andSent: boolean): void {
    this.#isOpen = false;
    this.#ended = error;
    this.#stopWaiting();
    for (const entry of this.#queue) this.#reject(entry, error);
    this.#queue = [];
    if (andSent) for (const entry of [...this.#sent]) this.#reject(entry, error);
  }

  #flush(): void {
    while (this.#isOpen && this.#cancelWait === null) {
      const entry = this.#queue[0];
      if (entry === undefined) return;
      const waitMs = this.#shared.pace.take(entry.bytes + overheadBytes);
      if (waitMs > 0) return this.#wait(waitMs);
      this.#queue.shift();
      this.#sendOrReject(entry);
    }
  }

  #sendOrReject(entry: Entry): void {
    const { clock, keyWindowMs, frameBytesMax } = this.#shared;
    const now = clock.now();
    if (entry.sentAt !== null && Math.max(now - entry.sentAt, Date.now() - entry.sentOn) > keyWindowMs) {
      // The node has forgotten the key: a repeat could publish twice.
      return this.#reject(entry, fluxError("disconnected", "the answer was lost: it is unknown whether the node processed the command"));
    }
    if (isLarger(entry.command, frameBytesMax)) {
      return this.#reject(entry, fluxError("too_large", `the frame is larger than ${frameBytesMax} bytes`));
    }
    if (entry.sentAt === null) entry.sentOn = Date.now();
    entry.sentAt ??= now;
    entry.cancelTimeout ??= clock.after(this.#shared.timeoutMs, () => this.#timeOut(entry));
    this.#sent.add(entry);
    this.#shared.send(entry.command, (reply) => this.#onReply(entry, reply), null);
  }

  #onReply(entry: Entry, answer: Reply): void {
    if ("error" in answer) {
      const { error } = answer;
      if (!error.retryable || this.#ended !== null) return this.#reject(entry, error);
      if (error.code !== "disconnected" && !entry.done) this.#refused(entry, error); // interrupt handles disconnected
      return;
    }
    const { reply } = answer;
    if (entry.command.publish?.excludeSelf) this.#onOwn(reply.published ?? {});
    if (this.#settle(entry)) entry.resolve(reply);
  }

  #refused(entry: Entry, error: FluxError): void {
    entry.lastError = error;
    this.#requeue([entry]);
    if (this.#cancelWait === null) this.#wait(backoffMs(entry.refusals, retryBackoff, this.#shared.random));
    entry.refusals++;
  }

  #timeOut(entry: Entry): void {
    this.#queue = this.#queue.filter((other) => other !== entry);
    this.#reject(entry, entry.lastError ?? fluxError("timeout"));
  }

  #drop(command: ClientFrame): void {
    const entry = this.#queue.find((one) => one.command === command);
    if (entry === undefined) return; // sent: its answer may still come
    this.#queue = this.#queue.filter((other) => other !== entry);
    this.#settle(entry);
  }

  #requeue(entries: Entry[]): void {
    for (const entry of entries) this.#sent.delete(entry);
    this.#queue = [...entries, ...this.#queue].sort((a, b) => a.number - b.number);
  }

  #reject(entry: Entry, error: FluxError): void {
    if (this.#settle(entry)) entry.reject(error);
  }

  #settle(entry: Entry): boolean {
    if (entry.done) return false;
    entry.done = true;
    entry.cancelTimeout?.();
    this.#sent.delete(entry);
    this.#shared.waiting--;
    this.#shared.waitingBytes -= entry.bytes;
    return true;
  }

  #wait(ms: number): void {
    this.#cancelWait = this.#shared.clock.after(ms, () => {
      this.#cancelWait = null;
      this.#flush();
    });
  }

  #stopWaiting(): void {
    this.#cancelWait?.();
    this.#cancelWait = null;
  }
}

/** About the rest of a frame. */
const overheadBytes = 100;
/** The rest of a frame is small. It is encoded only to check sizes near the limit. */
const overheadBytesMax = 1024;
const nothing = new Uint8Array(0);

function payloadOf({ publish, send }: ClientFrame): Uint8Array {
  return publish?.payload ?? send?.payload ?? nothing;
}

function isLarger(command: ClientFrame, frameBytesMax: number): boolean {
  const { key } = command.publish ?? command.send ?? {};
  if (payloadOf(command).length + 3 * (key?.length ?? 0) + overheadBytesMax <= frameBytesMax) return false;
  return encodeClientFrame({ ...command, id: 0xffffffff }).length - 4 > frameBytesMax;
}

/**
 * Direct messages: the application's view of the room `@inbox`. Each message is delivered once, in order, one at a
 * time. Acknowledged messages are not delivered again to this device.
 */
import type { ClientFrame } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Cancel, Clock } from "../clock.ts";
import { Emitter } from "../emitter.ts";
import type { Unsubscribe } from "../emitter.ts";
import { FluxError, fluxError } from "../flux-error.ts";
import type { Position, Publication } from "./publication.ts";
import type { Room } from "./room.ts";
import type { Gap, Recovered } from "./stream.ts";

/** A direct message. */
export type Message<Data = unknown> = {
  /** The user who sent it. Empty: the application did. */
  readonly sender: string;
  /** Time of sending, by the node's clock. */
  readonly time: Date;
  /** A Uint8Array if bytes were sent, otherwise the JSON value. */
  readonly data: Data;
  /** Position in the inbox. */
  readonly position: Position;
  /** The message arrived while this client was disconnected. */
  readonly replayed: boolean;
  /** With `ack: "manual"`: acknowledges this message and all before it. */
  ack(): void;
};

/**
 * Handler of direct messages. The next message waits until the returned promise settles. If the handler throws, or the
 * promise rejects, it gets the message again.
 */
export type MessageHandler<Data = unknown> = (message: Message<Data>) => unknown;

export type MessageOptions = {
  /** `auto` (default): a message is acknowledged when the handler returns, or its promise is fulfilled. `manual`: call `message.ack()`; a message without it is delivered again to the next page or client. */
  ack?: "auto" | "manual";
};

export type InboxEvents = {
  /** Messages are lost: the inbox no longer has them. */
  gap: Gap;
  /** The messages that arrived while this client was disconnected have been delivered. */
  recovered: Recovered;
  /** Something failed that no promise reports, the handler for example (`handler_failed`). */
  error: FluxError;
};

export type InboxOwner = {
  enter(recover: Position | null): Room;
  send(command: ClientFrame): void;
  /** Called when more is acknowledged. */
  onAck(): void;
};

/** Waits before a handler that failed gets its message again, and how often it does. */
const retryBackoff = { baseMs: 1000, capMs: 10_000 };
const retriesMax = 4;
/** Acknowledgements within this time are sent together. */
const ackAfterMs = 300;

/** Inbox: the direct messages to this user. */
export class Inbox {
  readonly #emitter = new Emitter<InboxEvents>();
  readonly #owner: InboxOwner;
  readonly #clock: Clock;
  readonly #queueMax: number;
  #room: Room | null = null;
  #handler: MessageHandler | null = null;
  #isManual = false;
  /** Messages that wait until the handler is done with the one before. */
  #queue: Publication[] = [];
  #isRunning = false;
  /** The message that a handler is working on. */
  #working: Position | null = null;
  /** A message was given up: it and all behind it stay unacknowledged, for the next page or client. */
  #isStuck = false;
  #cancelRetry: Cancel | null = null;
  /** Position acknowledged here, and position the node knows. */
  #acked: Position | null;
  #ackSent: Position | null = null;
  #cancelAck: Cancel | null = null;
  /** Grows when the inbox becomes another user's: handlers still running then no longer count. */
  #handling = 0;

  /** @param acked position of an earlier page @internal */
  constructor(owner: InboxOwner, clock: Clock, queueMax: number, acked: Position | null) {
    this.#owner = owner;
    this.#clock = clock;
    this.#queueMax = queueMax;
    this.#acked = acked;
  }

  /** Position of the last acknowledged message; null before the first. */
  get position(): Position | null {
    return this.#acked;
  }

  /** Adds a listener. Returns a function that removes it. */
  on<Name extends keyof InboxEvents>(name: Name, listener: (event: InboxEvents[Name]) => void): Unsubscribe {
    return this.#emitter.on(name, listener);
  }

  /**
   * Delivers direct messages to `handler` in order, one at a time, beginning with those that arrived while this device
   * was disconnected. If the handler throws, it gets the message again, up to four times in 15 seconds. Then the
   * inbox emits `error` (`handler_failed`) and goes on with the next message. From there on it acknowledges nothing by
   * itself: the failed message, and those behind it, are delivered again to the next page or client. Returns a function
   * that removes the handler.
   *
   * @throws Error if the inbox has a handler already.
   */
  onMessage<Data = unknown>(handler: MessageHandler<Data>, { ack = "auto" }: MessageOptions = {}): Unsubscribe {
    if (this.#handler !== null) throw new Error("the inbox already has a handler; remove it first");
    this.#handler = handler as MessageHandler;
    this.#isManual = ack === "manual";
    this.#isStuck = false;
    this.#enter(this.#working ?? this.#acked);
    return () => {
      if (this.#handler === (handler as MessageHandler)) this.#stop();
    };
  }

  // ------------------------------------------------------------ for the client

  /** The inbox belongs to another user from now on. @internal */
  restart(): void {
    this.#abandon();
    this.#acked = null;
    this.#ackSent = null;
    this.#queue = [];
    if (this.#handler === null) return;
    this.#forgetRoom();
    this.#enter(null);
  }

  /** Sends the acknowledged position, unless the node has it. @internal */
  flush(): void {
    this.#cancelAck?.();
    this.#cancelAck = null;
    const position = this.#acked;
    if (this.#room === null || position === null || position === this.#ackSent) return;
    this.#ackSent = position;
    this.#owner.send({ ack: { position } });
  }

  // ------------------------------------------------------------ in and out

  #enter(recover: Position | null): void {
    const room = this.#owner.enter(recover);
    this.#room = room;
    room.on("joined", () => {
      this.#ackSent = null; // the last acknowledgement may have been lost with the socket
      if (this.#acked !== null) this.#ackSoon();
    });
    room.on("publication", (publication) => this.#room === room && this.#take(publication));
    room.on("gap", (gap) => this.#emitter.emit("gap", gap));
    room.on("recovered", (recovered) => this.#emitter.emit("recovered", recovered));
    room.on("error", (error) => this.#emitter.emit("error", error));
  }

  #stop(): void {
    this.#handler = null;
    this.#queue = [];
    if (this.#cancelRetry !== null) this.#abandon();
    this.flush();
    this.#forgetRoom();
  }

  /** The handler that may be at work no longer counts. */
  #abandon(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    this.#handling++;
    this.#working = null;
    this.#isStuck = this.#isRunning = false;
  }

  #forgetRoom(): void {
    const room = this.#room;
    this.#room = null;
    void room?.leave();
  }

  // ------------------------------------------------------------ one message after the other

  #take(publication: Publication): void {
    this.#queue.push(publication);
    // The rest stays at the node until there is room.
    if (this.#queue.length >= this.#queueMax) this.#forgetRoom();
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    const handling = this.#handling;
    this.#isRunning = true;
    for (;;) {
      const next = this.#queue.shift();
      if (next === undefined || this.#handler === null) break;
      this.#working = next.position;
      await this.#handle(next, handling);
      if (this.#handling !== handling) return;
      this.#working = null;
      if (this.#queue.length === 0 && this.#room === null && this.#handler !== null) this.#enter(next.position);
    }
    this.#isRunning = false;
  }

  async #handle({ sender, time, data, position, replayed }: Publication, handling: number): Promise<void> {
    const ack = () => this.#handling === handling && this.#ack(position);
    for (let failures = 0; this.#handling === handling && this.#handler !== null; failures++) {
      const isManual = this.#isManual; // of this handler: another may take its place meanwhile
      try {
        await this.#handler({ sender, time, data, position, replayed, ack: () => void ack() });
        if (!isManual && !this.#isStuck) ack();
        return;
      } catch (error) {
        if (this.#handling !== handling || this.#isAcked(position)) return;
        if (failures === retriesMax) {
          this.#isStuck = true;
          return this.#emitter.emit("error", fluxError("handler_failed", `the handler failed on message ${position.seq}: ${String(error)}`));
        }
      }
      // A handler that took its place gets the message then.
      if (this.#handler !== null) await this.#pause(backoffMs(failures, retryBackoff, () => 1));
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#cancelRetry = this.#clock.after(ms, () => {
        this.#cancelRetry = null;
        resolve();
      });
    });
  }

  #isAcked({ epoch, seq }: Position): boolean {
    return this.#acked?.epoch === epoch && this.#acked.seq >= seq;
  }

  #ack(position: Position): void {
    if (this.#isAcked(position)) return;
    this.#acked = position;
    this.#ackSoon();
    this.#owner.onAck();
  }

  #ackSoon(): void {
    this.#cancelAck ??= this.#clock.after(ackAfterMs, () => this.flush());
  }
}

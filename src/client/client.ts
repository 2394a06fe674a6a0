import type { ClientFrame, ServerFrame } from "../protocol/messages.ts";
import type { Backoff, Clock } from "./clock.ts";
import { systemClock } from "./clock.ts";
import { Connection } from "./connection.ts";
import type { Closed, State, StateChange } from "./connection.ts";
import { Emitter } from "./emitter.ts";
import type { Unsubscribe } from "./emitter.ts";
import { fluxError, fromReply } from "./flux-error.ts";
import type { FluxError } from "./flux-error.ts";
import { Membership } from "./membership.ts";
import type { OutboxShared } from "./outbox.ts";
import { Pace } from "./pace.ts";
import { decodePayload, encodePayload } from "./publication.ts";
import type { Position, Publication, Ready } from "./publication.ts";
import { Room } from "./room.ts";
import type { WebSocketConstructor } from "./wire.ts";

export type ClientOptions = {
  /** Where the platform has no WebSocket of its own (Node 20): the one of the package `ws`. */
  WebSocket?: WebSocketConstructor;
  token?: string;
  /** Name and version of the application, for the node's logs. */
  name?: string;
  /** A stable name of this device. */
  device?: string;
  /** Waits between attempts to connect: base 500 ms, cap 20 s, with full jitter. */
  backoff?: Backoff;
  /** From opening a socket to having a session. 10 s. */
  connectTimeoutMs?: number;
  /** For the answer to a command. 10 s. */
  commandTimeoutMs?: number;
  /** How long a socket may be silent beyond the node's heartbeat, and then take to answer a ping. 10 s. */
  graceMs?: number;
  /** Publishes that may wait for their answers; beyond, publish() rejects with `overloaded`. 1,000. */
  waitingPublishesMax?: number;
  /** Publications per room that may wait while a gap before them is being closed; beyond, the gap is told. 1,000. */
  heldPublicationsMax?: number;
  /** How long the node remembers idempotency keys (its keyWindowMs): no publish is repeated after it. 2 min. */
  keyWindowMs?: number;
  /** For tests. */
  clock?: Clock;
  random?: () => number;
};

export type JoinOptions = {
  /** Go on from this position, of an earlier stay. */
  recover?: Position;
  /** Without `recover`: begin with this many of the newest publications. */
  history?: number;
  onPublication?: (publication: Publication) => void;
};

export type ClientEvents = {
  /** There is a session, the first or another one after a loss. */
  ready: Ready;
  state: StateChange;
  /** The node refused something that no promise is waiting for. */
  error: FluxError;
  /** The end: close() was called, or coming back would be useless before something changes. */
  closed: Closed;
};

const heldPublicationsMax = 1000;

export class Client {
  readonly #emitter = new Emitter<ClientEvents>();
  readonly #connection: Connection;
  readonly #rooms = new Map<string, { membership: Membership; room: Room }>();
  readonly #shared: OutboxShared;
  readonly #clock: Clock;
  readonly #heldMax: number;
  #session: Ready | null = null;

  /** @throws Error if there is no WebSocket to use, SyntaxError if the url is none. */
  constructor(url: string, options: ClientOptions = {}) {
    const { clock = systemClock, random = Math.random, commandTimeoutMs = 10_000 } = options;
    this.#clock = clock;
    this.#heldMax = options.heldPublicationsMax ?? heldPublicationsMax;
    this.#connection = new Connection(
      {
        url,
        WebSocket: options.WebSocket ?? platformWebSocket(),
        token: options.token ?? "",
        name: options.name ?? "flux-client",
        device: options.device ?? "",
        backoff: options.backoff ?? { baseMs: 500, capMs: 20_000 },
        connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
        commandTimeoutMs,
        graceMs: options.graceMs ?? 10_000,
        clock,
        random,
      },
      {
        onState: (change) => this.#onState(change),
        onReady: (ready) => this.#onReady(ready),
        onEvent: (event) => this.#onEvent(event),
        onLost: () => this.#onLost(),
      },
    );
    this.#shared = {
      send: this.#send,
      clock,
      random,
      pace: new Pace(clock),
      timeoutMs: commandTimeoutMs,
      keyWindowMs: options.keyWindowMs ?? 120_000,
      waiting: 0,
      waitingMax: options.waitingPublishesMax ?? 1000,
      frameBytesMax: 0,
    };
    this.#connection.open();
  }

  get state(): State {
    return this.#connection.state;
  }

  /** What the node said of the session there is; null while there is none. */
  get session(): Ready | null {
    return this.#session;
  }

  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): Unsubscribe {
    return this.#emitter.on(name, listener);
  }

  /** Joins as soon as there is a session, and again in every later one. A room that is joined already is returned. */
  join(name: string, options: JoinOptions = {}): Room {
    const { room } = this.#rooms.get(name) ?? this.#enter(name, options);
    if (options.onPublication) room.on("publication", options.onPublication);
    return room;
  }

  /** The time a command takes to the node and back. Rejects with a FluxError. */
  async ping(): Promise<number> {
    const sentAt = this.#clock.now();
    await this.#command({ ping: { time: Date.now() } });
    return this.#clock.now() - sentAt;
  }

  /** Has the node send `data` back. */
  async echo(data: unknown): Promise<unknown> {
    const { echo } = await this.#command({ echo: encodePayload(data) });
    return decodePayload(echo?.payload, echo?.format);
  }

  /** Ends the session and all that waits for something; resolves when the socket is gone. */
  close(): Promise<void> {
    return this.#connection.close();
  }

  #enter(name: string, { recover, history }: JoinOptions): { membership: Membership; room: Room } {
    const membership = new Membership(
      { room: name, recover: recover ?? null, history: history ?? 0, heldMax: this.#heldMax },
      { send: this.#send, outbox: this.#shared, onLeft: () => this.#rooms.delete(name) },
    );
    const entry = { membership, room: new Room(name, membership, this.#send) };
    this.#rooms.set(name, entry);
    if (this.state === "closed") membership.end(fluxError("closed"));
    // Not before the caller has had a chance to listen.
    else queueMicrotask(() => this.state === "ready" && membership.join());
    return entry;
  }

  #command(command: ClientFrame): Promise<ServerFrame> {
    return new Promise((resolve, reject) => {
      this.#send(command, (answer) => ("error" in answer ? reject(answer.error) : resolve(answer.reply)));
    });
  }

  #send: Connection["send"] = (command, onReply, timeoutMs) => this.#connection.send(command, onReply, timeoutMs);

  #onReady(ready: Ready): void {
    this.#session = ready;
    this.#shared.pace.set(ready.commandsPerSecond);
    this.#shared.frameBytesMax = ready.frameBytesMax;
    this.#emitter.emit("ready", ready);
    for (const { membership } of this.#rooms.values()) membership.join();
  }

  #onEvent(event: ServerFrame): void {
    if (event.error) return this.#emitter.emit("error", fromReply(event.error));
    const { room } = event.publication ?? event.replay ?? event.sync ?? event.published ?? event.left ?? {};
    if (room) this.#rooms.get(room)?.membership.onEvent(event);
  }

  #onLost(): void {
    this.#session = null;
    for (const { membership } of this.#rooms.values()) membership.interrupt();
  }

  #onState(change: StateChange): void {
    this.#emitter.emit("state", change);
    if (change.state !== "closed") return;
    for (const { membership } of [...this.#rooms.values()]) membership.end(fluxError("closed", change.cause?.text));
    if (change.cause) this.#emitter.emit("closed", change.cause);
  }
}

function platformWebSocket(): WebSocketConstructor {
  if (typeof WebSocket === "function") return WebSocket;
  throw new Error(
    'this platform has no WebSocket: install the package "ws" and pass { WebSocket: (await import("ws")).WebSocket }',
  );
}

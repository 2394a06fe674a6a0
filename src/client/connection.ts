/** The way to the node, kept up: socket after socket, hello, heartbeat, and when to try again. */
import { closes, mayReconnect } from "../errors.ts";
import { protocolVersion } from "../protocol/messages.ts";
import type { ClientFrame, ServerFrame } from "../protocol/messages.ts";
import { backoffMs } from "./clock.ts";
import type { Backoff, Cancel, Clock } from "./clock.ts";
import { Commands } from "./commands.ts";
import type { OnReply } from "./commands.ts";
import { fluxError } from "./flux-error.ts";
import { Heartbeat } from "./heartbeat.ts";
import { toReady } from "./publication.ts";
import type { Ready } from "./publication.ts";
import { openWire } from "./wire.ts";
import type { WebSocketConstructor, Wire } from "./wire.ts";

/** `waiting`: for the moment of the next attempt. `closed` is the end. */
export type State = "connecting" | "ready" | "waiting" | "closed";

/** Why a socket ended. */
export type Closed = { readonly code: number; readonly name: string; readonly text: string };

export type StateChange = {
  readonly state: State;
  /** While waiting: until the next attempt. */
  readonly retryInMs: number | null;
  /** While waiting, or closed: what ended the socket before. */
  readonly cause: Closed | null;
};

export type ConnectionOptions = {
  url: string;
  WebSocket: WebSocketConstructor;
  token: string;
  name: string;
  device: string;
  backoff: Backoff;
  connectTimeoutMs: number;
  commandTimeoutMs: number;
  graceMs: number;
  clock: Clock;
  random: () => number;
};

export type ConnectionOwner = {
  onState(change: StateChange): void;
  onReady(ready: Ready): void;
  /** What came unasked. */
  onEvent(event: ServerFrame): void;
  /** The session is over; commands that waited have failed. A new one may come. */
  onLost(): void;
};

/** A session that lasted this long shows that the node is well: the next loss starts with short waits again. */
const stableMs = 5000;

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #owner: ConnectionOwner;
  #state: State = "connecting";
  #wire: Wire | null = null;
  #commands: Commands | null = null;
  #heartbeat: Heartbeat | null = null;
  #cancelTimer: Cancel | null = null; // the connect timeout, or the wait for the next attempt
  #attempt = 0;
  #readyAt = 0;
  #goodbye: ServerFrame["reconnect"] = null; // the node has told us when and where to come back
  #onWireClosed: (() => void) | null = null;

  constructor(options: ConnectionOptions, owner: ConnectionOwner) {
    this.#options = options;
    this.#owner = owner;
  }

  get state(): State {
    return this.#state;
  }

  /** @throws SyntaxError if the url is none a WebSocket can have. */
  open(url = this.#options.url): void {
    this.#setState("connecting");
    if (this.#state !== "connecting") return; // a listener has closed the client
    const { connectTimeoutMs, clock, WebSocket } = this.#options;
    const wire = openWire(WebSocket, url, {
      onOpen: () => this.#hello(wire),
      onFrame: (frame) => this.#onFrame(frame),
      onClose: (code, reason) => this.#onClose(closed(code, reason)),
    });
    this.#wire = wire;
    this.#cancelTimer = clock.after(connectTimeoutMs, () => wire.drop(local.noAnswer, "no session within connectTimeoutMs"));
  }

  /** Fails with `disconnected` at once if there is no session. */
  send(command: ClientFrame, onReply: OnReply, timeoutMs: number | null = this.#options.commandTimeoutMs): void {
    if (this.#state !== "ready" || this.#commands === null) return onReply({ error: fluxError("disconnected") });
    this.#commands.send(command, timeoutMs, onReply);
  }

  /** Ends the session for good. Resolves when the socket is gone. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const wire = this.#wire;
    const wasReady = this.#state === "ready";
    this.#end({ code: closes.bye.code, name: "bye", text: closes.bye.text });
    if (wire === null) return;
    if (!wasReady) return wire.drop(closes.bye.code, "bye");
    const gone = new Promise<void>((resolve) => (this.#onWireClosed = resolve));
    wire.send({ bye: {} });
    wire.close(closes.bye.code, "bye");
    const cancel = this.#options.clock.after(this.#options.graceMs, () => wire.drop(closes.bye.code, "bye"));
    await gone;
    cancel();
  }

  #hello(wire: Wire): void {
    const { token, name, device, clock } = this.#options;
    this.#commands = new Commands((frame) => wire.send(frame), clock);
    this.#commands.send({ hello: { version: protocolVersion, token, client: name, device } }, null, (answer) => {
      if ("error" in answer) {
        // Before ready, a loss ends here as well; then there is no socket any more to be dropped.
        return wire.drop(local.refused, answer.error.message);
      }
      this.#onReady(toReady(answer.reply.ready ?? {}), wire);
    });
  }

  #onReady(ready: Ready, wire: Wire): void {
    const { clock, graceMs } = this.#options;
    this.#clearTimer();
    this.#readyAt = clock.now();
    this.#heartbeat = new Heartbeat(clock, ready.heartbeatMs + graceMs, graceMs, {
      ping: () => this.send({ ping: { time: Date.now() } }, () => {}, graceMs), // any sign of life will do
      onSilence: () => wire.drop(local.silent, "nothing came for too long, and a ping was not answered"),
    });
    this.#setState("ready");
    this.#owner.onReady(ready);
  }

  #onFrame(frame: ServerFrame): void {
    this.#heartbeat?.heard();
    if (frame.id) this.#commands?.settle(frame);
    else if (frame.reconnect) this.#goodbye = frame.reconnect;
    else this.#owner.onEvent(frame);
  }

  #onClose(cause: Closed): void {
    this.#onWireClosed?.();
    if (this.#state === "closed") return;
    if (this.#state === "ready" && this.#options.clock.now() - this.#readyAt >= stableMs) this.#attempt = 0;
    if (mayReconnect(cause.code)) this.#retry(cause);
    else this.#end(cause);
  }

  #retry(cause: Closed): void {
    const { backoff, random, clock } = this.#options;
    const goodbye = this.#goodbye;
    const delayMs = goodbye ? (goodbye.delayMs ?? 0) : backoffMs(this.#attempt++, backoff, random);
    // Should the node that we are sent to not take us, the attempt after it goes to our own url again.
    const url = goodbye?.url || this.#options.url;
    this.#forget();
    this.#setState("waiting", delayMs, cause);
    if (this.#state === "waiting") this.#cancelTimer = clock.after(delayMs, () => this.#reopen(url));
  }

  #reopen(url: string): void {
    try {
      this.open(url);
    } catch (error) {
      this.#retry({ code: local.badUrl, name: "bad_url", text: `cannot connect to ${url}: ${String(error)}` });
    }
  }

  #end(cause: Closed): void {
    this.#state = "closed";
    this.#forget();
    this.#setState("closed", null, cause);
  }

  #forget(): void {
    this.#clearTimer();
    this.#heartbeat?.stop();
    this.#heartbeat = null;
    this.#goodbye = null;
    this.#wire = null;
    const commands = this.#commands;
    this.#commands = null;
    commands?.failAll(fluxError("disconnected"));
    this.#owner.onLost();
  }

  #clearTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #setState(state: State, retryInMs: number | null = null, cause: Closed | null = null): void {
    this.#state = state;
    this.#owner.onState({ state, retryInMs, cause });
  }
}

/** Codes of our own for sockets we gave up; they stay on this side. All of them mean: try again. */
const local = { noAnswer: 4001, silent: 4002, refused: 4003, badUrl: 4004 } as const;

function closed(code: number, reason: string): Closed {
  for (const [name, known] of Object.entries(closes)) {
    if (known.code === code) return { code, name, text: known.text };
  }
  return { code, name: "socket_closed", text: reason || "the socket ended without a word" };
}

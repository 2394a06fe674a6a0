/** The way to the node, kept up: socket after socket, hello, heartbeat, and when to try again. */
import { closes, mayReconnect } from "../../errors.ts";
import { protocolVersion } from "../../protocol/messages.ts";
import type { ClientFrame, Ready, Resume, ServerFrame } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Backoff, Cancel, Clock } from "../clock.ts";
import { Commands } from "./commands.ts";
import type { OnReply } from "./commands.ts";
import { fluxError } from "../flux-error.ts";
import type { FluxError } from "../flux-error.ts";
import { Heartbeat } from "./heartbeat.ts";
import { isOffline } from "./page.ts";
import type { Tokens } from "./tokens.ts";
import { openWire } from "./wire.ts";
import type { WebSocketConstructor, Wire } from "./wire.ts";

/** State of the connection. `waiting`: the next attempt is scheduled. `closed`: the client gave up. */
export type State = "connecting" | "ready" | "waiting" | "closed";

/** Close of a socket: code, name of the code, and a sentence. */
export type Closed = { readonly code: number; readonly name: string; readonly text: string };

/** A change of the connection's state. */
export type StateChange = {
  /** New state. */
  readonly state: State;
  /** While `waiting`: milliseconds until the next attempt; null while the client is suspended. */
  readonly retryInMs: number | null;
  /** While `waiting` or `closed`: why the last socket closed. */
  readonly cause: Closed | null;
};

export type ConnectionOptions = {
  url: string;
  WebSocket: WebSocketConstructor;
  tokens: Tokens;
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
  /** What hello says of the session to go on with; null: begin a new one. */
  resume(): Resume | null;
  /** Shows a node with a crowd at its door that we come back; "" if there was no session yet. */
  ticket(): string;
  /** The session cannot be gone on with: it is another socket's, or needs a token. */
  onForfeited(): void;
  /** What came unasked. */
  onEvent(event: ServerFrame): void;
  /** The socket is gone; commands that waited have failed. Another one may come. */
  onLost(): void;
  onError(error: FluxError): void;
};

/** A session that lasted this long shows that the node is well: the next loss starts with short waits again. */
const stableMs = 5000;
/** Codes by which a node ends one session for its own sake, and keeps the others. */
const closesOfOne: ReadonlySet<number> = new Set(
  [closes.token_expired, closes.slow_consumer, closes.session_replaced, closes.rate_limited].map(({ code }) => code),
);
/** A timer that is set for longer fires at once. */
const timerMsMax = 2 ** 31 - 1;
/** What a place in the return window is told in. */
const places = 65_536;

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
  /** Over how long the clients of the node are to come back if it is gone without having told them. */
  #returnWindowMs = 0;
  /** Of the window, 0 to 1; null: chance decides. */
  #returnPlace: number | null = null;
  /** A socket that we have closed, and who waits for it to be gone. */
  #leaving: { wire: Wire; onGone: () => void } | null = null;
  #isSuspended = false;
  /** What is waited for, and why, since the device has no network. */
  #withoutNetwork: { url: string; cause: Closed } | null = null;

  constructor(options: ConnectionOptions, owner: ConnectionOwner) {
    this.#options = options;
    this.#owner = owner;
  }

  get state(): State {
    return this.#state;
  }

  /** @throws SyntaxError if the url is none a WebSocket can have. */
  open(url = this.#options.url): void {
    const { tokens } = this.#options;
    this.#setState("connecting");
    if (this.#state !== "connecting") return; // a listener has closed the client
    if (tokens.current !== null) this.#connect(url, tokens.current);
    else this.#askForToken(url);
  }

  #askForToken(url: string): void {
    const { tokens, connectTimeoutMs, clock } = this.#options;
    const giveUp = (why: unknown) => this.#onNoToken(`the token provider gave no token: ${String(why)}`);
    const cancel = clock.after(connectTimeoutMs, () => giveUp("no answer within connectTimeoutMs"));
    const isMeant = () => this.#cancelTimer === cancel;
    this.#cancelTimer = cancel;
    tokens.fetch().then(
      (token) => {
        if (!isMeant()) return;
        this.#clearTimer();
        if (tokens.isRefused(token)) this.#end(closed(closes.invalid_token.code, ""));
        else this.#tryUrl(url, () => this.#connect(url, token));
      },
      (error: unknown) => {
        if (!isMeant()) return;
        giveUp(error);
      },
    );
  }

  #onNoToken(text: string): void {
    this.#owner.onError(fluxError("no_token", text));
    if (this.#state === "connecting") this.#retry({ code: local.noToken, name: "no_token", text });
  }

  #connect(url: string, token: string): void {
    const { connectTimeoutMs, clock, WebSocket } = this.#options;
    const wire = openWire(WebSocket, withTicket(url, this.#owner.ticket()), {
      onOpen: () => this.#hello(wire, token),
      onFrame: (frame) => this.#wire === wire && this.#onFrame(frame),
      onClose: (code, reason) => this.#onClose(wire, closed(code, reason)),
    });
    this.#wire = wire;
    this.#cancelTimer = clock.after(connectTimeoutMs, () => wire.drop(local.noAnswer, "no session within connectTimeoutMs"));
  }

  /** Fails with `disconnected` at once if there is no session. */
  send(command: ClientFrame, onReply: OnReply, timeoutMs: number | null = this.#options.commandTimeoutMs): void {
    if (this.#state !== "ready" || this.#commands === null) return onReply({ error: fluxError("disconnected") });
    this.#commands.send(command, timeoutMs, onReply);
  }

  /** A command that nobody waits for the answer of, for this socket only. */
  tell(command: ClientFrame): void {
    if (this.#state === "ready") this.#wire?.send({ ...command, id: 0 });
  }

  /** Ends the session for good. Resolves when the socket is gone. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const wire = this.#wire;
    const hasGreeted = this.#commands !== null;
    this.#end({ code: closes.bye.code, name: "bye", text: closes.bye.text });
    if (wire === null) return;
    if (!hasGreeted) return wire.drop(closes.bye.code, "bye");
    // Also behind a hello that is not answered: the session it goes on with would outlive the close.
    wire.send({ bye: {} });
    await this.#depart(wire, closes.bye.code, "bye");
  }

  /** Closes the socket and keeps the session, here and at the node; wake() goes on with it. */
  async suspend(): Promise<void> {
    if (this.#state === "closed" || this.#isSuspended) return;
    const wire = this.#wire;
    this.#isSuspended = true;
    this.#retry({ ...suspended });
    if (wire !== null) await this.#depart(wire, suspended.code, suspended.name);
  }

  wake(): void {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    if (this.#state === "waiting") this.#tryUrl(this.#options.url, () => this.open());
  }

  /**
   * The device has a network again, or another one. The socket it had may be dead without a word; and for what was tried
   * without a network the node is not to be spared.
   */
  networkIsBack(): void {
    const { backoff, random } = this.#options;
    if (this.#state === "ready") this.#heartbeat?.check();
    if (this.#state !== "waiting" || this.#isSuspended || this.#withoutNetwork === null) return;
    const { url, cause } = this.#withoutNetwork;
    this.#withoutNetwork = null;
    this.#clearTimer();
    this.#attempt = 0;
    this.#wait(url, backoffMs(this.#attempt++, backoff, random), cause);
  }

  async #depart(wire: Wire, code: number, reason: string): Promise<void> {
    const gone = new Promise<void>((onGone) => (this.#leaving = { wire, onGone }));
    wire.close(code, reason);
    const cancel = this.#options.clock.after(this.#options.graceMs, () => wire.drop(code, reason));
    await gone;
    cancel();
  }

  #hello(wire: Wire, token: string): void {
    const { name, device, clock } = this.#options;
    const resume = this.#owner.resume();
    this.#commands = new Commands((frame) => wire.send(frame), clock);
    const hello = { version: protocolVersion, token, client: name, device, ...(resume && { resume }) };
    this.#commands.send({ hello }, null, (answer) => {
      if ("error" in answer) {
        // A socket that was lost, or left by close() or suspend(), ends here as well: there is nothing to be dropped then.
        if (this.#wire === wire) wire.drop(local.refused, answer.error.message);
        return;
      }
      this.#onReady(answer.reply.ready ?? {}, wire);
    });
  }

  #onReady(ready: Ready, wire: Wire): void {
    const { clock, graceMs } = this.#options;
    this.#clearTimer();
    this.#readyAt = clock.now();
    this.#returnWindowMs = ready.returnWindowMs ?? 0;
    this.#returnPlace = ready.returnPlace ? Math.min(1, ready.returnPlace / places) : null;
    this.#heartbeat = new Heartbeat(clock, (ready.heartbeatMs ?? 0) + graceMs, graceMs, {
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
    else if (frame.returnWindow) this.#returnWindowMs = frame.returnWindow.windowMs ?? 0;
    else this.#owner.onEvent(frame);
  }

  #onClose(wire: Wire, cause: Closed): void {
    if (this.#leaving?.wire === wire) this.#leaving.onGone();
    if (this.#wire !== wire) return; // given up before
    if (this.#state === "ready" && this.#options.clock.now() - this.#readyAt >= stableMs) this.#attempt = 0;
    if (this.#prepareReturn(cause.code)) this.#retry(cause);
    else this.#end(cause);
  }

  /** Whether coming back is of use. What has to change before, the token or the session, is changed. */
  #prepareReturn(code: number): boolean {
    const { tokens } = this.#options;
    switch (code) {
      case closes.session_replaced.code:
        this.#owner.onForfeited();
        return true;
      case closes.token_expired.code:
        // Without a token it is the one the session began with. Then a new session may do; else only a new token.
        if (tokens.current === "") this.#owner.onForfeited();
        return tokens.refuse("expired") || tokens.current === "" || this.#state === "ready";
      case closes.invalid_token.code:
        return tokens.refuse("refused");
      default:
        return mayReconnect(code);
    }
  }

  #retry(cause: Closed): void {
    const { backoff, random } = this.#options;
    const goodbye = this.#goodbye;
    const windowMs = this.#isCommonLoss(cause) ? this.#returnWindowMs : 0;
    const place = windowMs > 0 ? this.#returnPlace : null;
    const delayMs = goodbye ? Math.min(goodbye.delayMs ?? 0, timerMsMax) : backoffMs(this.#attempt++, backoff, place === null ? random : () => place, windowMs);
    // Should the node that we are sent to not take us, the attempt after it goes to our own url again.
    const url = goodbye?.url || this.#options.url;
    this.#forget();
    this.#withoutNetwork = isOffline() ? { url, cause } : null;
    this.#wait(url, delayMs, cause);
  }

  #wait(url: string, delayMs: number, cause: Closed): void {
    this.#setState("waiting", this.#isSuspended ? null : delayMs, cause);
    if (this.#state !== "waiting" || this.#isSuspended) return;
    this.#cancelTimer = this.#options.clock.after(delayMs, () => this.#tryUrl(url, () => this.open(url)));
  }

  /** Whether everybody at the node may have lost a session in this moment, as far as can be seen from here. */
  #isCommonLoss({ code }: Closed): boolean {
    return this.#state === "ready" && !closesOfOne.has(code) && !isOffline();
  }

  #tryUrl(url: string, open: () => void): void {
    try {
      open();
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
const local = { noAnswer: 4001, silent: 4002, refused: 4003, badUrl: 4004, noToken: 4005 } as const;

/** Said to the node, which keeps the session after any close. It tells a page that means to come back from one that just went. */
const suspended: Closed = { code: 4006, name: "suspended", text: "the session is kept for another socket" };

/** @throws SyntaxError from the WebSocket, if the url is none. */
function withTicket(url: string, ticket: string): string {
  if (ticket === "") return url;
  const [address, fragment] = url.split("#");
  return `${address}${address?.includes("?") ? "&" : "?"}resume=${ticket}${fragment === undefined ? "" : `#${fragment}`}`;
}

/** What the code says. 1000 says nothing here: who has said bye does not wait for it, so it is a proxy's. */
function closed(code: number, reason: string): Closed {
  for (const [name, known] of Object.entries(closes)) {
    if (known.code !== code || name === "bye") continue;
    // Behind the name the node may say what to do about it.
    const advice = reason.startsWith(`${name}: `) ? reason.slice(name.length) : "";
    return { code, name, text: known.text + advice };
  }
  return { code, name: "socket_closed", text: reason || "the socket ended without a word" };
}

/** Keeps the client connected: sockets, hello, heartbeat, and the waits between attempts. */
import { closes, mayReconnect } from "../../errors.ts";
import { protocolVersion } from "../../protocol/constants.ts";
import type { ClientFrame, Ready, ServerFrame } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Cancel } from "../clock.ts";
import { closed, local, suspended } from "./closed.ts";
import type { Closed } from "./closed.ts";
import { Commands } from "./commands.ts";
import type { OnReply } from "./commands.ts";
import { fluxError } from "../flux-error.ts";
import { Heartbeat } from "./heartbeat.ts";
import { withTicket } from "./locator.ts";
import { isOffline } from "./page.ts";
import type { ConnectionOptions, ConnectionOwner } from "./owner.ts";
import type { State } from "./state.ts";
import { Unreachable } from "./unreachable.ts";
import { problemOf } from "../values.ts";
import { openWire } from "./websocket.ts";
import type { Wire } from "./websocket.ts";

/** A session that lasted this long shows that the node is well: the waits start short again. */
const stableMs = 5000;
/** Codes by which a node ends one session only. */
const closesOfOne: ReadonlySet<number> = new Set(
  [closes.moved, closes.token_expired, closes.slow_consumer, closes.session_replaced, closes.rate_limited].map(({ code }) => code),
);
/** Times that nodes may send the client on, one after the other, before it waits as after a failed attempt. */
const hopsMax = 2;
/** Resolution of a place in the return window. */
const places = 65_536;

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #owner: ConnectionOwner;
  #state: State = "connecting";
  #wire: Wire | null = null;
  #commands: Commands | null = null;
  #heartbeat: Heartbeat | null = null;
  #cancelTimer: Cancel | null = null; // the connect timeout, or the wait before the next attempt
  #attempt = 0;
  #readyAt = 0;
  /** Of the current or last socket. */
  #url = "";
  #node = "";
  #hops = 0;
  /** A node sent the client to this url. The locator does not know which node is there. */
  #isHop = false;
  #cause: Closed | null = null;
  #goodbye: ServerFrame["reconnect"] = null; // the node's instruction when and where to reconnect
  /** Window over which all clients of the node reconnect, if it dies without a `reconnect`. */
  #returnWindowMs = 0;
  /** This client's place in the window, 0 to 1; null: random. */
  #returnPlace: number | null = null;
  /** A socket that the client closed, and the callback for its end. */
  readonly #leaving = new Map<Wire, () => void>();
  #isSuspended = false;
  readonly #unreachable = new Unreachable();
  /** The attempt and its cause that wait for the network. */
  #withoutNetwork: { url: string | null; cause: Closed } | null = null;

  constructor(options: ConnectionOptions, owner: ConnectionOwner) {
    this.#options = options;
    this.#owner = owner;
  }

  get state(): State {
    return this.#state;
  }

  /** @param url null: the client's own, or what the locator finds @throws SyntaxError if it is no valid WebSocket address. */
  open(url: string | null = null): void {
    const { tokens } = this.#options;
    this.#setState("connecting");
    if (this.#state !== "connecting") return; // a listener closed the client
    if (tokens.current !== null) this.#place(url, tokens.current);
    else this.#askForToken(url);
  }

  #askForToken(url: string | null): void {
    const { tokens } = this.#options;
    const giveUp = (why: unknown) => this.#onNoToken(`the token provider failed: ${String(why)}`);
    const cancel = () => {};
    const isMeant = () => this.#cancelTimer === cancel;
    this.#cancelTimer = cancel;
    tokens.fetch().then(
      (token) => {
        if (!isMeant()) return;
        this.#clearTimer();
        const refusal = tokens.refusalOf(token);
        if (refusal === "refused") this.#end(closed(closes.invalid_token.code, ""));
        else if (refusal === "expired") giveUp("it returned the expired token again");
        else this.#tryUrl(url, () => this.#place(url, token));
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

  #place(url: string | null, token: string): void {
    const { locator } = this.#options;
    this.#isHop = url !== null;
    if (url !== null || !locator.asks) return this.#connect(url ?? this.#options.url, token);
    const cancel = () => {};
    const isMeant = () => this.#cancelTimer === cancel;
    this.#cancelTimer = cancel;
    locator.ask(this.#owner.ticket(), token).then(
      ({ url: found, retryAfterMs = 0 }) => {
        if (!isMeant()) return;
        this.#clearTimer();
        if (retryAfterMs > 0) this.#wait(found, retryAfterMs, this.#cause);
        else this.#tryUrl(found, () => this.#connect(found, token));
      },
      (error: unknown) => {
        if (!isMeant()) return;
        this.#clearTimer();
        this.#onNotLocated(error, token);
      },
    );
  }

  #onNotLocated(error: unknown, token: string): void {
    const text = `locate failed: ${String(error)}`;
    this.#owner.onError(fluxError("not_located", text));
    if (this.#state !== "connecting") return;
    const waitMs = (error as { retryAfterMs?: number } | null)?.retryAfterMs ?? 0;
    const url = this.#options.locator.fallback(waitMs > 0 ? this.#attempt : Infinity);
    if (url === "") this.#retry({ code: local.noAddress, name: "not_located", text }, waitMs);
    else this.#tryUrl(url, () => this.#connect(url, token));
  }

  #connect(url: string, token: string): void {
    this.#url = url;
    const { connectTimeoutMs, clock, WebSocket } = this.#options;
    const wire = openWire(WebSocket, withTicket(url, this.#owner.ticket()), {
      onOpen: () => {
        this.#unreachable.opened();
        this.#hello(wire, token);
      },
      onFrame: (frame) => this.#wire === wire && this.#onFrame(frame),
      onClose: (code, reason) => this.#onClose(wire, closed(code, reason)),
    }, this.#options.traffic);
    this.#wire = wire;
    this.#cancelTimer = clock.after(connectTimeoutMs, () => wire.drop(local.noAnswer, "no session within connectTimeoutMs"));
  }

  /** Fails at once with `disconnected` if there is no session. */
  send(command: ClientFrame, onReply: OnReply, timeoutMs: number | null = this.#options.commandTimeoutMs): void {
    if (this.#state !== "ready" || this.#commands === null) return onReply({ error: fluxError("disconnected") });
    this.#commands.send(command, timeoutMs, onReply);
  }

  /** Sends a command without waiting for its reply, on this socket only. */
  tell(command: ClientFrame): void {
    if (this.#state === "ready" && problemOf(command) === null) this.#wire?.send({ ...command, id: 0 });
  }

  /** Ends the session for good. Resolves when the socket is closed. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const wire = this.#wire;
    const hasGreeted = this.#commands !== null;
    this.#end({ code: closes.bye.code, name: "bye", text: closes.bye.text });
    if (wire === null) return;
    if (!hasGreeted) return wire.drop(closes.bye.code, "bye");
    // Also after an unanswered hello: otherwise the session that it resumes would outlive the close.
    wire.send({ bye: {} });
    await this.#depart(wire, closes.bye.code, "bye");
  }

  /** Closes the socket and keeps the session here and at the node. wake() resumes it. */
  async suspend(): Promise<void> {
    if (this.#state === "closed" || this.#isSuspended) return;
    const wire = this.#wire;
    this.#settleAttempts();
    this.#isSuspended = true;
    this.#cause = { ...suspended };
    this.#withoutNetwork = null;
    this.#forget();
    this.#wait(null, 0, this.#cause); // no failure: the next real one waits as the first
    if (wire !== null) await this.#depart(wire, suspended.code, suspended.name);
  }

  wake(): void {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    if (this.#state === "waiting") this.#tryUrl(null, () => this.open());
  }

  /** Asks the node whether the socket is alive. Without an answer in `graceMs` the client takes another. */
  check(): void {
    if (this.#state === "ready") this.#heartbeat?.check();
  }

  /**
   * The device has a network again, or another one. Its socket may be dead without a close. Failed attempts without a
   * network say nothing about the node, so the waits start short again.
   */
  networkIsBack(): void {
    const { backoff, random } = this.#options;
    this.check();
    if (this.#state !== "waiting" || this.#isSuspended || this.#withoutNetwork === null) return;
    const { url, cause } = this.#withoutNetwork;
    this.#withoutNetwork = null;
    this.#clearTimer();
    this.#attempt = 0;
    this.#wait(url, backoffMs(this.#attempt++, backoff, random), cause);
  }

  async #depart(wire: Wire, code: number, reason: string): Promise<void> {
    if (wire.isGone) return; // a listener that hears of its end has left
    const gone = new Promise<void>((onGone) => void this.#leaving.set(wire, onGone));
    wire.close(code, reason);
    const cancel = this.#options.clock.after(this.#options.graceMs, () => wire.drop(code, reason));
    await gone;
    cancel();
  }

  #hello(wire: Wire, token: string): void {
    const { name, device, clock, tokens } = this.#options;
    tokens.tell(token);
    const resume = this.#owner.resume();
    this.#commands = new Commands((frame) => wire.send(frame), clock);
    const hello = { version: protocolVersion, token, client: name, device, ...(resume && problemOf(resume) === null && { resume }) };
    this.#commands.send({ hello }, null, (answer) => {
      if ("error" in answer) {
        // If this socket was lost, or left by close() or suspend(), there is nothing to drop.
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
    this.#node = ready.node ?? "";
    this.#hops = 0;
    this.#options.locator.reached(this.#url);
    this.#returnWindowMs = ready.returnWindowMs ?? 0;
    this.#returnPlace = ready.returnPlace ? Math.min(1, ready.returnPlace / places) : null;
    this.#heartbeat = new Heartbeat(clock, (ready.heartbeatMs ?? 0) + graceMs, graceMs, {
      ping: () => this.send({ ping: { time: Date.now() } }, () => {}, graceMs), // any frame counts as a sign of life
      onSilence: () => wire.drop(local.silent, "the node sent nothing and did not answer a ping"),
    });
    this.#owner.onSession(ready);
    this.#setState("ready");
    if (this.#wire === wire) this.#owner.onReady(ready); // else a listener left it
  }

  #onFrame(frame: ServerFrame): void {
    this.#heartbeat?.heard();
    if (frame.id) this.#commands?.settle(frame);
    else if (frame.reconnect) this.#goodbye = frame.reconnect;
    else if (frame.returnWindow) this.#returnWindowMs = frame.returnWindow.windowMs ?? 0;
    else this.#owner.onEvent(frame);
  }

  #onClose(wire: Wire, cause: Closed): void {
    this.#leaving.get(wire)?.();
    this.#leaving.delete(wire);
    if (this.#wire !== wire) return; // abandoned before
    const unreachable = this.#commands === null && !isOffline() ? this.#unreachable.failed(this.#url) : null;
    if (unreachable !== null) this.#owner.onError(unreachable);
    if (this.#wire !== wire) return; // a listener closed the client
    this.#settleAttempts();
    const isUnexplained = this.#goodbye === null && !closesOfOne.has(cause.code) && mayReconnect(cause.code) && !isOffline();
    // The node may be gone.
    if (isUnexplained && this.#state === "ready") this.#options.locator.lost(this.#node);
    else if (isUnexplained && !this.#isHop) this.#options.locator.lost();
    if (this.#prepareReturn(cause.code)) this.#retry(cause);
    else this.#end(cause);
  }

  #settleAttempts(): void {
    if (this.#state === "ready" && this.#options.clock.now() - this.#readyAt >= stableMs) this.#attempt = 0;
  }

  /** Whether to reconnect. Replaces the token or the session first, where the code requires it. */
  #prepareReturn(code: number): boolean {
    const { tokens } = this.#options;
    switch (code) {
      case closes.session_replaced.code:
        this.#owner.onForfeited();
        return true;
      case closes.token_expired.code:
        // Without a token of its own, the session has the one it began with, and a new session may help. Otherwise only
        // a new token helps.
        if (tokens.current === "") this.#owner.onForfeited();
        return tokens.refuse("expired") || tokens.current === "" || this.#state === "ready";
      case closes.invalid_token.code:
        return tokens.refuse("refused");
      default:
        return mayReconnect(code);
    }
  }

  /** @param waitMs at least this long */
  #retry(cause: Closed, waitMs = 0): void {
    const { backoff, random } = this.#options;
    const wire = this.#wire;
    const goodbye = this.#instruction();
    if (this.#wire !== wire) return; // a listener closed the client, or suspended it
    this.#cause = cause;
    const windowMs = this.#isCommonLoss(cause) ? this.#returnWindowMs : 0;
    const place = windowMs > 0 ? this.#returnPlace : null;
    const delayMs = goodbye ? (goodbye.delayMs ?? 0) : Math.max(waitMs, backoffMs(this.#attempt++, backoff, place === null ? random : () => place, windowMs));
    // If the node named by `reconnect` rejects the client, the next attempt uses the client's own url.
    const url = goodbye?.url || null;
    this.#forget();
    this.#withoutNetwork = isOffline() ? { url, cause } : null;
    this.#wait(url, delayMs, cause);
  }

  /**
   * The node's instruction when and where to reconnect. Not where its url must not be used, and not where nodes send
   * the client back and forth.
   */
  #instruction(): ServerFrame["reconnect"] {
    const goodbye = this.#goodbye;
    if (!goodbye?.url) return goodbye;
    const problem = this.#options.locator.problem(goodbye.url);
    if (problem !== null) {
      this.#owner.onError(fluxError("bad_url", `the node's url ${goodbye.url} is not used: ${problem}`));
      return { ...goodbye, url: "" };
    }
    if (this.#state === "ready") return goodbye;
    return ++this.#hops > hopsMax ? null : goodbye;
  }

  #wait(url: string | null, delayMs: number, cause: Closed | null): void {
    this.#setState("waiting", this.#isSuspended ? null : delayMs, cause);
    if (this.#state !== "waiting" || this.#isSuspended) return;
    this.#cancelTimer = this.#options.clock.after(delayMs, () => this.#tryUrl(url, () => this.open(url)));
  }

  /** Whether all sessions of the node may have been lost at this moment, as far as the client can tell. */
  #isCommonLoss({ code }: Closed): boolean {
    return this.#state === "ready" && !closesOfOne.has(code) && !isOffline();
  }

  #tryUrl(url: string | null, open: () => void): void {
    try {
      open();
    } catch (error) {
      this.#retry({ code: local.badUrl, name: "bad_url", text: `cannot connect to ${url ?? this.#options.url}: ${String(error)}` });
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

import type { ClientFrame, Ready as WireReady, Refreshed, Resume, ServerFrame } from "../protocol/messages.ts";
import { systemClock } from "./clock.ts";
import type { Clock } from "./clock.ts";
import { Connection } from "./connection/connection.ts";
import type { State, StateChange } from "./connection/state.ts";
import { Emitter } from "./emitter.ts";
import type { Unsubscribe } from "./emitter.ts";
import { fluxError, fromReply } from "./flux-error.ts";
import type { FluxError } from "./flux-error.ts";
import { Inbox } from "./rooms/inbox.ts";
import type { MessageHandler, MessageOptions } from "./rooms/inbox.ts";
import { defaults } from "./options.ts";
import type { ClientOptions, JoinOptions, SendOptions, Sent, WaitOptions } from "./options.ts";
import { Outbox } from "./rooms/outbox.ts";
import type { OutboxShared } from "./rooms/outbox.ts";
import type { MembershipOwner } from "./rooms/membership.ts";
import { Pace } from "./rooms/pace.ts";
import { listenToNetwork, listenToPage } from "./connection/page.ts";
import { decodePayload, encodePayload, inboxName, toDate, toPosition, toReady } from "./rooms/publication.ts";
import type { Ready } from "./rooms/publication.ts";
import { randomKey } from "./random.ts";
import { Refresher } from "./connection/refresher.ts";
import { publishCommand, toPublished } from "./rooms/room.ts";
import type { Published, PublishOptions, Room } from "./rooms/room.ts";
import { Rooms } from "./rooms/rooms.ts";
import { deviceName, Saved, tabStorage } from "./saved.ts";
import type { Credentials, Place, SavedSession } from "./saved.ts";
import { Locator } from "./connection/locator.ts";
import { Tokens } from "./connection/tokens.ts";
import { deviceProblem, problemOf } from "./values.ts";
import { Watches } from "./watches.ts";
import type { UserStatus } from "./watches.ts";
import { platformWebSocket } from "./connection/websocket.ts";
import { Traffic } from "./connection/traffic.ts";
import { abortable } from "./abort.ts";
import type { ClientEvents, ClientStats } from "./events.ts";

/** Bytes of a frame that nodes take by default. */
const frameBytesUsual = 65_536;

/** A connection that heals itself, with the rooms and messages of one user. `connect()` returns it. */
export class Client {
  /** Inbox: direct messages to this user. */
  readonly inbox: Inbox;
  readonly #emitter = new Emitter<ClientEvents>();
  readonly #connection: Connection;
  readonly #rooms: Rooms;
  readonly #shared: OutboxShared;
  readonly #sends: Outbox;
  readonly #watches: Watches;
  readonly #saved: Saved;
  readonly #refresher: Refresher;
  readonly #tokens: Tokens;
  readonly #clock: Clock;
  readonly #traffic: Traffic;
  #sessions = 0;
  #resumed = 0;
  readonly #leavePage: () => void;
  readonly #leaveNetwork: () => void;
  #session: Ready | null = null;
  /** Credentials with which the next socket resumes the session. */
  #credentials: Credentials | null;
  #user: string;
  /** The node's clock is ahead by this. */
  #skewMs = 0;
  /** Expiry that the application was last warned of. */
  #expiring = 0;

  /** @throws Error without a WebSocket class, SyntaxError for an invalid url, FluxError bad_request for an option that no node would take. @internal */
  constructor(url: string, options: ClientOptions = {}, savedAs = url) {
    const { clock = systemClock, random = Math.random, storage = tabStorage() } = options;
    const settings = { ...defaults, ...options };
    const { backoff, commandTimeoutMs } = settings;
    const device = options.device ?? deviceName();
    const { name, token } = settings;
    const problem = problemOf({ name, token }) ?? deviceProblem(device);
    if (problem !== null) throw fluxError("bad_request", problem);
    const onError = (error: FluxError) => this.#emitter.emit("error", error);
    this.#clock = clock;
    this.#traffic = new Traffic(options.debug ?? null);
    this.#tokens = new Tokens(token, clock, settings.connectTimeoutMs);
    const locate = options.locate ?? null;
    this.#connection = new Connection(
      {
        url,
        locator: new Locator({ locate, timeoutMs: settings.locateTimeoutMs, url, origins: options.origins ?? [], clock }),
        traffic: this.#traffic,
        WebSocket: options.WebSocket ?? platformWebSocket(),
        tokens: this.#tokens,
        name,
        device,
        backoff,
        connectTimeoutMs: settings.connectTimeoutMs,
        commandTimeoutMs,
        graceMs: settings.graceMs,
        clock,
        random,
      },
      {
        onState: (change) => this.#onState(change),
        onSession: (ready) => (this.#credentials = credentialsOf(ready)),
        onReady: (ready) => this.#onReady(ready),
        onEvent: (event) => this.#onEvent(event),
        onLost: () => this.#onLost(),
        onForfeited: () => (this.#credentials = null),
        resume: () => this.#resume(),
        ticket: () => this.#credentials?.ticket ?? "",
        onError,
      },
    );
    this.#shared = {
      send: (...args) => this.#connection.send(...args),
      clock,
      random,
      pace: new Pace(clock),
      timeoutMs: commandTimeoutMs,
      keyWindowMs: settings.keyWindowMs,
      waiting: 0,
      waitingMax: settings.waitingPublishesMax,
      waitingBytes: 0,
      waitingBytesMax: settings.waitingBytesMax,
      frameBytesMax: 0,
    };
    this.#sends = new Outbox(this.#shared, () => {});
    this.#refresher = new Refresher({
      tokens: this.#tokens, clock, random, backoff, send: this.#paced, onError,
      onRefreshed: (refreshed) => this.#onRefreshed(refreshed),
    });
    this.#watches = new Watches({
      clock, random, send: this.#paced,
      tell: (command) => this.#connection.tell(command),
      onStatus: (status) => this.#emitter.emit("status", status),
      onError,
    });
    this.#saved = new Saved(storage, `flux ${savedAs || (typeof locate === "string" ? locate : "")}`, clock, { collect: () => this.#collect(), onError });
    this.#rooms = new Rooms(settings.heldPublicationsMax, {
      send: this.#paced,
      sendNow: this.#send,
      outbox: this.#shared,
      tell: (command) => this.#connection.tell(command),
      isReady: () => this.state === "ready",
      isClosed: () => this.state === "closed",
      takePlace: (room) => this.#saved.takePlace(room),
      onMoved: () => this.#saved.changed(),
      onAssigned: (room) => this.#emitter.emit("joined", room),
    });
    this.#credentials = this.#saved.credentials;
    this.#user = this.#saved.user;
    this.inbox = this.#openInbox(settings.heldPublicationsMax);
    this.#leavePage = storage === null ? () => {} : listenToPage({ onHide: () => void this.suspend(), onShow: () => this.wake() });
    this.#leaveNetwork = listenToNetwork(() => this.#connection.networkIsBack(), () => this.#connection.check());
    this.#connection.open();
  }

  /** State of the connection. */
  get state(): State {
    return this.#connection.state;
  }

  /** The current session as the node described it; null while there is none. */
  get session(): Ready | null {
    return this.#session;
  }

  /** Adds a listener. Returns a function that removes it. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): Unsubscribe {
    return this.#emitter.on(name, listener);
  }

  /** Counts since the client was made, for your own monitoring. */
  stats(): ClientStats {
    const { sockets, framesSent, framesReceived, bytesSent, bytesReceived } = this.#traffic;
    const { waiting, waitingBytes } = this.#shared;
    const node = this.#session?.node ?? "";
    return {
      state: this.state, node, sockets, sessions: this.#sessions, resumed: this.#resumed,
      framesSent, framesReceived, bytesSent, bytesReceived, rooms: this.#rooms.size, waiting, waitingBytes,
    };
  }

  /**
   * Joins a room now, or as soon as there is a session, and again in every later session. `Data` is what is published
   * there. Calls with the same name share one membership. Each returns a room with its own history and `leave()`.
   */
  join<Data = unknown>(name: string, options: JoinOptions<Data> = {}): Room<Data> {
    const { signal, onPublication } = options;
    if (signal?.aborted) throw signal.reason;
    const room = this.#rooms.join(name, options);
    if (onPublication) room.on("publication", onPublication);
    if (signal && !room.isLeft) {
      const leave = () => void room.leave();
      signal.addEventListener("abort", leave, { once: true });
      room.on("left", () => signal.removeEventListener("abort", leave));
    }
    return room;
  }

  /**
   * Publishes into a room. Works without joining it where the room's namespace has `publish: anyone`; elsewhere the node
   * rejects with `not_joined`. In a room that this client has joined it is `room.publish()`. Bytes (an ArrayBuffer, or a view on one) are sent as
   * they are, anything else as JSON. Waits for a session and repeats after a loss of the socket. Rejects as `room.publish()`.
   */
  async publish(room: string, data: unknown, options: PublishOptions = {}): Promise<Published> {
    const joined = this.#rooms.find(room);
    if (joined) return joined.publish(data, options);
    return toPublished(await this.#sends.put(publishCommand(room, data, options), options.signal));
  }

  /**
   * Sends a direct message to a user, online or not. Bytes (an ArrayBuffer, or a view on one) are sent as they are, anything else as JSON.
   * Resolves when the message is in the inbox. Waits for a session, repeats and rejects as `publish()`.
   */
  async send(user: string, data: unknown, { key = randomKey(), signal }: SendOptions = {}): Promise<Sent> {
    const { sent } = await this.#sends.put({ send: { user, ...encodePayload(data), key } }, signal);
    return { ...toPosition(sent?.position), duplicate: sent?.duplicate ?? false };
  }

  /**
   * Watches whether these users are online: emits `status` with the current status of each and with every change.
   * Resolves with the current statuses. Rejects with a FluxError, for example `too_many_watched`.
   */
  watch(users: readonly string[], { signal }: WaitOptions = {}): Promise<UserStatus[]> {
    return abortable(signal, () => this.#watches.watch(users));
  }

  /** Stops watching these users. */
  unwatch(users: readonly string[]): void {
    this.#watches.unwatch(users);
  }

  /** Same as `inbox.onMessage()`. */
  onMessage<Data = unknown>(handler: MessageHandler<Data>, options?: MessageOptions): Unsubscribe {
    return this.inbox.onMessage(handler, options);
  }

  /**
   * Gives the node a new token of the same user, and keeps it for later sockets unless the node rejects it. Resolves with the time it expires, null
   * for never. Rejects with a FluxError.
   */
  async refresh(token: string, { signal }: WaitOptions = {}): Promise<Date | null> {
    const { expires } = await abortable(signal, () => this.#refresher.refresh(token));
    return toDate(expires);
  }

  /** Measures the round trip to the node, in milliseconds. Rejects with a FluxError. */
  async ping({ signal }: WaitOptions = {}): Promise<number> {
    const sentAt = this.#clock.now();
    await abortable(signal, () => this.#command({ ping: { time: Date.now() } }));
    return this.#clock.now() - sentAt;
  }

  /** Sends `data` to the node, which returns it. Rejects with a FluxError. */
  async echo(data: unknown, { signal }: WaitOptions = {}): Promise<unknown> {
    const { echo } = await abortable(signal, () => this.#command({ echo: encodePayload(data) }));
    return decodePayload(echo?.payload, echo?.format);
  }

  /**
   * Closes the socket and keeps the session, in `storage` too: for `wake()`, or for another client with the same storage.
   * In browsers the client calls it when the page is left. Resolves when the socket is closed.
   */
  suspend(): Promise<void> {
    this.inbox.flush();
    this.#saved.release();
    return this.#connection.suspend();
  }

  /** Reconnects after `suspend()`. */
  wake(): void {
    if (this.state === "closed") return;
    this.#saved.keep();
    this.#connection.wake();
  }

  /** Ends the session for good. Whatever waits for an answer rejects with `closed`. Resolves when the socket is closed. */
  close(): Promise<void> {
    this.inbox.flush();
    return this.#connection.close();
  }

  // ------------------------------------------------------------ rooms

  #openInbox(heldMax: number): Inbox {
    return new Inbox(
      {
        enter: (recover) => this.#rooms.join(inboxName, recover === null ? {} : { recover }),
        send: (command) => this.#connection.tell(command),
        onAck: () => this.#saved.changed(),
      },
      this.#clock,
      heldMax,
      this.#saved.takePlace(inboxName),
    );
  }

  // ------------------------------------------------------------ the session

  #resume(): Resume | null {
    // The rest of the frame is for tokens.
    const positions = this.#rooms.positions((this.#shared.frameBytesMax || this.#credentials?.frameBytesMax || frameBytesUsual) / 2);
    return this.#credentials && { session: this.#credentials.session, token: this.#credentials.resumeToken, positions };
  }

  #onReady(wire: WireReady): void {
    const ready = toReady(wire);
    this.#sessions++;
    if (ready.resumed) this.#resumed++;
    this.#session = ready;
    this.#skewMs = ready.time.getTime() - Date.now();
    this.#shared.pace.set(wire);
    this.#shared.frameBytesMax = ready.frameBytesMax;
    if (this.#user !== "" && ready.user !== this.#user) this.inbox.restart();
    this.#user = ready.user;
    this.#emitter.emit("ready", ready);
    // A listener may have left the session, here and in a room.
    if (this.#session === ready) this.#rooms.onReady(wire, () => this.#session === ready);
    if (this.#session === ready) {
      this.#sends.open();
      this.#watches.open();
    }
    this.#saved.changed();
  }

  #collect(): SavedSession {
    const places = new Map(this.#saved.places);
    for (const [name, position] of this.#rooms.places()) places.set(name, position);
    // The acknowledged position, not the last received one.
    if (this.inbox.position === null) places.delete(inboxName);
    else places.set(inboxName, this.inbox.position);
    const list = [...places].map(([room, { epoch, seq }]): Place => [room, epoch, seq]);
    return { user: this.#user, credentials: this.#credentials, places: list };
  }

  // ------------------------------------------------------------ what the connection tells

  #command(command: ClientFrame): Promise<ServerFrame> {
    return new Promise((resolve, reject) => {
      this.#send(command, (answer) => ("error" in answer ? reject(answer.error) : resolve(answer.reply)));
    });
  }

  #send: Connection["send"] = (command, onReply, timeoutMs) => {
    this.#shared.pace.spend(command);
    this.#connection.send(command, onReply, timeoutMs);
  };

  /** What the client sends by itself stays within the node's rate. */
  #paced: MembershipOwner["send"] = (command, onReply, timeoutMs, isWanted) => {
    this.#shared.pace.turn(command, () => {
      if (isWanted === undefined || isWanted()) this.#connection.send(command, onReply, timeoutMs);
    });
  };

  #onEvent(event: ServerFrame): void {
    if (event.error) return this.#emitter.emit("error", fromReply(event.error));
    if (event.userStatus) return void this.#watches.onStatus(event.userStatus);
    if (event.expiring) return this.#onExpiring(event.expiring.expires ?? 0);
    this.#rooms.onEvent(event);
  }

  /** Each socket of a session is warned. The application hears of each expiry once. */
  #onExpiring(expires: number): void {
    if (expires !== this.#expiring) this.#emitter.emit("expiring", new Date(expires));
    this.#expiring = expires;
    // A listener may have left the session. The next socket is warned again.
    if (this.#session !== null && this.#tokens.hasProvider) this.#refresher.start(expires, expires - Date.now() - this.#skewMs);
  }

  #onRefreshed({ expires, resumeToken }: Refreshed): void {
    if (resumeToken && this.#credentials !== null) this.#credentials = { ...this.#credentials, resumeToken };
    this.#saved.changed();
    this.#emitter.emit("refreshed", toDate(expires));
  }

  #onLost(): void {
    this.#session = null;
    this.#refresher.stop();
    this.#sends.interrupt();
    this.#rooms.interrupt();
    this.#shared.pace.stop();
  }

  #onState(change: StateChange): void {
    this.#emitter.emit("state", change);
    if (change.state !== "closed") return;
    const { cause } = change;
    if (cause?.name === "bye") this.#saved.clear();
    else this.#saved.release(); // for another client with another token
    this.#leavePage();
    this.#leaveNetwork();
    this.#sends.end(fluxError("closed", cause?.text), true);
    this.#watches.end(fluxError("closed", cause?.text));
    this.#rooms.end(fluxError("closed", cause?.text));
    if (cause) this.#emitter.emit("closed", cause);
  }
}

function credentialsOf({ session, resumeToken, ticket, maxFrameBytes }: WireReady): Credentials {
  return { session: session ?? "", resumeToken: resumeToken ?? "", ticket: ticket ?? "", frameBytesMax: maxFrameBytes ?? 0 };
}

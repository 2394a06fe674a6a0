/**
 * Subscriptions of open rooms. A server rejects a subscription some time later (limit reached, or no permission), and
 * for a limit does not say which one. But its answers are in order: a PONG settles everything sent before the PING. So
 * subscriptions are requested in batches, one batch at a time. A batch that meets the limit is halved until the rooms
 * without a subscription are known.
 *
 * An open room that loses its subscription, for example after a server was reconfigured, is tried again.
 */
import type { Msg, NatsConnection, Subscription } from "nats";
import type { ErrorCode } from "../../errors.ts";
import { lastErrorOf, listen, type NatsLog } from "./connection/connection.ts";
import type { Refusals } from "./refusals.ts";

/** Callbacks of a room for its subscription. */
export interface RoomListener {
  readonly room: string;
  readonly subject: string;
  message(message: Msg): void;
  /** Called once: whether the server accepted it. */
  settled(refused: ErrorCode | null): void;
  /** The subscription is back, or was interrupted: messages may be missing. */
  regained(): void;
}

export interface ListeningOptions {
  readonly connection: NatsConnection;
  readonly refusals: Refusals;
  readonly log: NatsLog;
}

/** `asked`: no answer yet. `lost`: the room is open and receives nothing. */
type State = "asked" | "heard" | "lost" | "over";

/** Subscriptions in one write, with one answer. */
const batchMax = 256;
const retryMs = 2_000;
const retryMsMax = 30_000;

export class Listening {
  readonly #options: ListeningOptions;
  readonly #all = new Set<Heard>();
  #lost = 0;
  #queue: Heard[] = [];
  /** After a reconnect: the subscriptions must be checked. */
  #isAnother = false;
  #running = false;
  #timer: NodeJS.Timeout | null = null;
  #retryMs = retryMs;

  constructor(options: ListeningOptions) {
    this.#options = options;
  }

  /** Open rooms that receive nothing. */
  get lost(): number {
    return this.#lost;
  }

  listen(listener: RoomListener): Heard {
    const heard = new Heard(listener, () => this.#ended(heard));
    this.#all.add(heard);
    this.#ask([heard]);
    return heard;
  }

  /** After a reconnect the client library sends all subscriptions again, without checking the answers. */
  reconnected(): void {
    this.#isAnother = true;
    this.#retryMs = retryMs;
    this.#ask([...this.#all].filter(({ state }) => state === "lost"));
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    for (const heard of this.#all) heard.state = "over";
    this.#queue = [];
    this.#all.clear();
  }

  #ended(heard: Heard): void {
    if (heard.state === "lost") this.#lost--;
    heard.state = "over";
    heard.subscription?.unsubscribe();
    this.#all.delete(heard);
  }

  #ask(heard: readonly Heard[]): void {
    this.#queue.push(...heard);
    if (this.#running) return;
    this.#running = true;
    // All requests of one turn form a batch.
    queueMicrotask(() => {
      this.#run().catch((error: unknown) => {
        this.#running = false;
        this.#options.log.error({ err: error }, "NATS: subscriptions could not be checked; open rooms may receive nothing until the next check");
      });
    });
  }

  async #run(): Promise<void> {
    while (this.#isAnother || this.#queue.length > 0) {
      if (this.#isAnother) await this.#lookAtAll();
      await this.#settle(this.#queue.splice(0, batchMax), { isFull: false });
    }
    this.#running = false;
  }

  /** After a limit nobody knows which subscription was rejected: all are requested again. */
  async #lookAtAll(): Promise<void> {
    this.#isAnother = false;
    if ((await this.#metLimit(() => undefined)) !== "limit") return;
    this.#queue.push(...[...this.#all].filter(({ state }) => state === "heard"));
  }

  async #settle(batch: readonly Heard[], round: { isFull: boolean }): Promise<void> {
    const asked = batch.filter(({ state }) => state !== "over");
    if (asked.length === 0) return;
    if (round.isFull) return asked.forEach((heard) => this.#refused(heard, "subscriptions"));
    const met = await this.#metLimit(() => asked.forEach((heard) => this.#subscribe(heard)));
    if (met === "limit" && asked.length > 1) {
      for (const { subscription } of asked) subscription?.unsubscribe();
      const half = Math.ceil(asked.length / 2);
      await this.#settle(asked.slice(0, half), round);
      return this.#settle(asked.slice(half), round);
    }
    if (met === "limit") round.isFull = true;
    for (const heard of asked) {
      if (heard.state === "over") continue;
      if (met === "away") this.#away(heard);
      else if (heard.denied !== null) this.#refused(heard, "permission");
      else if (met === "limit") this.#refused(heard, "subscriptions");
      else this.#taken(heard);
    }
  }

  /** Runs `act` and waits until the server has answered it. */
  async #metLimit(act: () => void): Promise<"limit" | "away" | null> {
    const { connection } = this.#options;
    const before = lastErrorOf(connection);
    try {
      act();
      await connection.flush();
    } catch {
      return "away";
    }
    const error = lastErrorOf(connection);
    return error !== before && error !== undefined && isOfSubscriptions(error.message) ? "limit" : null;
  }

  #subscribe(heard: Heard): void {
    const { connection, log } = this.#options;
    heard.subscription?.unsubscribe();
    heard.denied = null;
    const onDenied = (error: Error) => {
      heard.denied = error;
      // During a batch this is reported when all are settled.
      if (heard.state === "heard") this.#refused(heard, "permission");
    };
    heard.subscription = listen(connection, heard.listener.subject, log, (message) => heard.listener.message(message), onDenied);
  }

  #taken(heard: Heard): void {
    const { state, listener } = heard;
    heard.state = "heard";
    if (state === "asked") return listener.settled(null);
    if (state === "lost") this.#lost--;
    listener.regained();
  }

  /** The connection is lost: requests fail, and open rooms are requested again at the next connection. */
  #away(heard: Heard): void {
    if (heard.state === "asked") this.#refuse(heard, "unavailable");
    else this.#lose(heard);
  }

  #refused(heard: Heard, reason: "permission" | "subscriptions"): void {
    const { listener: { room, subject }, denied } = heard;
    const { connection, refusals } = this.#options;
    const problem = denied?.message ?? lastErrorOf(connection)?.message;
    const isOpen = heard.state !== "asked";
    refusals.note(reason, { room, subject, problem, ...(reason === "subscriptions" && { open: this.#all.size - this.#lost - 1 }), isOpen });
    if (isOpen) this.#lose(heard);
    else this.#refuse(heard, reason === "subscriptions" ? "overloaded" : "unavailable");
  }

  #refuse(heard: Heard, error: ErrorCode): void {
    heard.stop();
    heard.listener.settled(error);
  }

  #lose(heard: Heard): void {
    // The client library would repeat the subscription by itself, unnoticed.
    heard.subscription?.unsubscribe();
    if (heard.state !== "lost") this.#lost++;
    heard.state = "lost";
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#retryMs = Math.min(retryMsMax, 2 * this.#retryMs);
      this.#ask([...this.#all].filter(({ state }) => state === "lost"));
    }, this.#retryMs).unref();
  }
}

/** Whether the error is a limit on subscriptions: the server's or the account's. */
export function isOfSubscriptions(problem: string): boolean {
  return /maximum (?:account )?(?:active )?subscriptions/i.test(problem);
}

/** Subscription of one room. */
export class Heard {
  readonly listener: RoomListener;
  readonly stop: () => void;
  state: State = "asked";
  subscription: Subscription | null = null;
  denied: Error | null = null;

  constructor(listener: RoomListener, stop: () => void) {
    this.listener = listener;
    this.stop = stop;
  }

  get isLost(): boolean {
    return this.state === "lost";
  }
}

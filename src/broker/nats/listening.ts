/**
 * Subscriptions of open rooms. A server that refuses one (the account has as many as it may, or may not listen to the
 * subject) says so at some time later, and in the first case not which it was. Its answers come in order, though: after a
 * PONG all that was asked before the PING is settled. So subscriptions are asked for in batches, one batch at a time; one
 * that meets the limit is halved until it is known which of its rooms have no place.
 *
 * A room that loses its subscription while it is open, as by a server that was configured anew, is tried again.
 */
import type { Msg, NatsConnection, Subscription } from "nats";
import type { ErrorCode } from "../../errors.ts";
import { lastErrorOf, listen, type NatsLog } from "./connection/connection.ts";
import type { Refusals } from "./refusals.ts";

/** What a room is told of its subscription. */
export interface RoomListener {
  readonly room: string;
  readonly subject: string;
  message(message: Msg): void;
  /** Whether the server has it; once. */
  settled(refused: ErrorCode | null): void;
  /** It is there again, or may have been away for a moment: something may have been missed. */
  regained(): void;
}

export interface ListeningOptions {
  readonly connection: NatsConnection;
  readonly refusals: Refusals;
  readonly log: NatsLog;
}

/** `asked`: nobody knows yet. `lost`: the room is open, and hears nothing. */
type State = "asked" | "heard" | "lost" | "over";

/** In one write, and with one answer. */
const batchMax = 256;
const retryMs = 2_000;
const retryMsMax = 30_000;

export class Listening {
  readonly #options: ListeningOptions;
  readonly #all = new Set<Heard>();
  #lost = 0;
  #queue: Heard[] = [];
  /** The connection is another one: which subscriptions it has has to be looked at. */
  #isAnother = false;
  #running = false;
  #timer: NodeJS.Timeout | null = null;
  #retryMs = retryMs;

  constructor(options: ListeningOptions) {
    this.#options = options;
  }

  /** Open rooms that hear nothing. */
  get lost(): number {
    return this.#lost;
  }

  listen(listener: RoomListener): Heard {
    const heard = new Heard(listener, () => this.#ended(heard));
    this.#all.add(heard);
    this.#ask([heard]);
    return heard;
  }

  /** Another connection: the client library has sent all subscriptions again, and does not look whether they were taken. */
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
    // All that is asked for in a turn goes together.
    queueMicrotask(() => {
      this.#run().catch((error: unknown) => {
        this.#running = false;
        this.#options.log.error({ err: error }, "NATS: subscriptions could not be looked at");
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

  /** Where one of them was refused for the limit, nobody knows which: all are asked for again. */
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

  /** Does what is to be looked at, and waits until the server has answered it. */
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
      // In an answer to what was asked, it is told when all is settled.
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

  /** The connection went: who was asking is told, who is open is asked for again when there is another. */
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
    // The client library would ask for it again by itself, unseen.
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

/** The server's words for a limit on subscriptions: its own, or the account's. */
export function isOfSubscriptions(problem: string): boolean {
  return /maximum (?:account )?(?:active )?subscriptions/i.test(problem);
}

/** The subscription of one room. */
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

/**
 * Checks that Redis has the entries of this node, and writes all of them again where it may not. That happens after the
 * node was declared dead, after Redis has lost everything, and after a failed write. It writes in small parts: a larger
 * queue would exceed its bound and be dropped.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { RedisLink } from "../../redis/redis.ts";
import { nowhere, type OwnSessions } from "./own.ts";
import type { Remains } from "./remains.ts";
import type { Written } from "./written.ts";

export interface SayingOptions {
  readonly redis: RedisLink;
  readonly written: Written;
  readonly remains: Remains;
  /** The entries of an earlier process under this name could not be removed. */
  readonly isBehind: boolean;
  readonly waitingMax: number;
  /** How often the node checks that it is not declared dead. */
  readonly aliveMs: number;
  readonly log: { warn(fields: object, text: string): void };
  /** The sessions and followed rooms of this node. */
  readonly places: OwnSessions;
  readonly online: OwnSessions;
  readonly followed: ReadonlySet<string>;
  /** The session behind a socket, where facts tell of sessions; else "". */
  idOf(user: string, socket: string): string;
  /**
   * Runs before the room's members and the user's sessions are written. afresh: Redis may have outdated entries there.
   */
  sayRoom(room: string, afresh: boolean): void;
  sayUser(user: string, afresh: boolean): void;
}

/** Rewriting pauses while more than this share of the queue is in use, and checks again at this interval. */
const waitingShare = 0.05;
const lookMs = 5;

export class Saying {
  readonly #options: SayingOptions;
  readonly #timer: NodeJS.Timeout;
  /** Redis may have outdated entries of this node. */
  #isDoubtful: boolean;
  /** Starting again failed: the next check retries it. */
  #isBehind: boolean;
  /** The last logged reason. */
  #problem = "";
  /** How often a full rewrite has begun. Only the latest continues. */
  #times = 0;
  #stopped = false;

  constructor(options: SayingOptions) {
    const { redis, aliveMs, isBehind } = options;
    this.#options = options;
    this.#isDoubtful = this.#isBehind = isBehind;
    redis.onUp(() => (this.#isDoubtful ? this.beginAnew() : void this.#look()));
    redis.onAnother(() => this.beginAnew());
    this.#timer = setInterval(() => void this.#look(), aliveMs).unref();
  }

  /** Redis may have outdated entries of this node, or lack some: removes the outdated ones and writes all again. */
  beginAnew(): void {
    const { remains, written, places, online, followed, log } = this.#options;
    this.#isDoubtful = true;
    this.#isBehind = false;
    const has = { room: (room: string) => places.has(room) || followed.has(room), user: (user: string) => online.hasUser(nowhere, user) };
    const again = remains.takeBackStale(has, written.unlisted).then(async () => {
      await written.markAlive();
      await this.#sayAll(true);
    });
    again.catch((error: unknown) => {
      this.#isBehind = true;
      const problem = String(error);
      if (problem !== this.#problem) log.warn({ problem }, "presence could not be rewritten: other nodes may show outdated members; the node retries when Redis is available");
      this.#problem = problem;
    });
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    const { redis, written } = this.#options;
    if (this.#isBehind && redis.up) return this.beginAnew();
    const isAlive = await written.isAlive();
    if (isAlive === null || this.#stopped) return;
    if (isAlive) {
      if (!this.#isDoubtful) for (const unlisted of Object.values(written.unlisted)) unlisted.pass();
      return;
    }
    await written.markAlive();
    void this.#sayAll(false);
  }

  /** If Redis becomes unavailable, the rewrite starts again later. */
  async #sayAll(afresh: boolean): Promise<void> {
    const { written, places, online, followed, idOf, sayRoom, sayUser } = this.#options;
    const time = ++this.#times;
    this.#isDoubtful = true;
    for (const room of new Set([...followed, ...places.names()])) {
      sayRoom(room, afresh);
      if (afresh && !(await this.#leaveStale(room, time))) return;
      for (const [user, session] of places.of(room)) {
        written.enter(room, user, session);
        if (!(await this.#mayGoOn(time))) return;
      }
      if (!(await this.#mayGoOn(time))) return;
    }
    let before = "";
    for (const [user, session] of online.of(nowhere)) {
      if (user !== before) sayUser((before = user), afresh);
      written.onlineAgain(user, session, idOf(user, session));
      if (!(await this.#mayGoOn(time))) return;
    }
    this.#isDoubtful = false;
    this.#problem = "";
  }

  /**
   * Removes only outdated sessions. Members who stay are not touched: removing and adding a large room would take
   * longer than the grace.
   */
  async #leaveStale(room: string, time: number): Promise<boolean> {
    const { written, places } = this.#options;
    for await (const page of written.mineIn(room)) {
      for (const [user, session] of page) if (!places.hasSession(room, user, session)) written.leave(room, user, session);
      if (!(await this.#mayGoOn(time))) return false;
    }
    return true;
  }

  async #mayGoOn(time: number): Promise<boolean> {
    const { redis, written, waitingMax } = this.#options;
    const counts = () => redis.up && !this.#stopped && time === this.#times;
    while (written.size > waitingMax * waitingShare && counts()) await sleep(lookMs, undefined, { ref: false });
    return counts();
  }
}

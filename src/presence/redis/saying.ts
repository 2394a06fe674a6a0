/**
 * Whether Redis has what this node has, and saying all of it again where it may not: this node was taken for dead, or Redis
 * has forgotten everything, or something could not be written. A little at a time, since what does not fit in what may wait
 * would be dropped.
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
  /** What an earlier process of this name has left could not be taken back. */
  readonly isBehind: boolean;
  readonly waitingMax: number;
  /** How often it is looked whether this node is taken for dead. */
  readonly aliveMs: number;
  readonly log: { warn(fields: object, text: string): void };
  /** What this node has. */
  readonly places: OwnSessions;
  readonly online: OwnSessions;
  readonly followed: ReadonlySet<string>;
  /** What comes before the room's members and the user's sessions; afresh: Redis may have something there that is not so. */
  sayRoom(room: string, afresh: boolean): void;
  sayUser(user: string, afresh: boolean): void;
}

/** What is said again waits until no more than this share of it waits to be written; looked at so often. */
const waitingShare = 0.05;
const lookMs = 5;

export class Saying {
  readonly #options: SayingOptions;
  readonly #timer: NodeJS.Timeout;
  /** Redis may have something of this node that is not so any more. */
  #isDoubtful: boolean;
  /** It could not be begun anew: it is tried again when it is looked next. */
  #isBehind: boolean;
  /** Why, as it was said last. */
  #problem = "";
  /** How often all has begun to be said again: the last time counts. */
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

  /** Redis may have something of this node that is not so any more, or lack something: away with it, and all is said again. */
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
      if (problem !== this.#problem) log.warn({ problem }, "presence could not be written anew; it is tried again when Redis is back");
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

  /** Where Redis goes away, it is begun anew. */
  async #sayAll(afresh: boolean): Promise<void> {
    const { written, places, online, followed, sayRoom, sayUser } = this.#options;
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
      written.online(user, session);
      if (!(await this.#mayGoOn(time))) return;
    }
    this.#isDoubtful = false;
    this.#problem = "";
  }

  /** Whoever is there stays all the time: a large room taken out and put back in would take longer than the grace. */
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

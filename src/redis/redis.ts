/**
 * The connection to Redis that everything on this node shares: registry, sessions, presence. It is either up or away.
 * While it is away every command fails at once, and so does what was under way; a Redis that is connected and does not
 * answer is away, too. It is tried again for ever, and nothing is resent: whoever asked knows better what still matters.
 */
import type { Cluster, Redis } from "ioredis";
import { isUnknownScript, Sending, type Command } from "./sending.ts";
import { drop, livesOf, type Lives } from "./servers.ts";
import type { RedisTarget } from "./target.ts";

export type { Command };

export interface RedisOptions {
  readonly target: RedisTarget;
  /** A file of certificates that those of servers with TLS are checked with. Default: those Node trusts. */
  readonly tlsCa?: string;
  /** Redis is away when it has answered nothing for so long. */
  readonly answerMs: number;
  readonly log: RedisLog;
}

export interface RedisLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

/** Why a command has no result: nobody knows whether it was carried out. */
export class RedisAway extends Error {
  override readonly name = "RedisAway";
}

interface Batch {
  /** How often it was found waiting. */
  checks: number;
  readonly fail: (error: Error) => void;
}

/** Between two tries to subscribe where the server refuses it. */
const channelsRetryMs = 2_000;
/** Waiting is counted in checks, not in time: a node that stood still itself has not been kept waiting. */
const checksPerAnswer = 5;
/** Exceptions are logged this often at most, and counted every time. */
const exceptionLogMs = 10_000;

/** An error that the server answered with begins with a word in capitals; the client may put words of its own before it. */
const serverSaid = /(?:^|: )([A-Z]{3,} .+)$/;

/** One client for commands and one for subscriptions; a cluster's client has its own for those. */
export class RedisLink {
  /** Commands sent, those that failed, and times it came back. */
  commands = 0;
  failures = 0;
  returns = 0;
  /** Exceptions that were thrown where Redis had answered or said something. */
  exceptions = 0;
  readonly #client: Redis | Cluster;
  readonly #subscriber: Redis | Cluster;
  /** Several servers, each of which carries out what it is sent at its own time; else one, in the order it was sent. */
  readonly isCluster: boolean;
  readonly #sending: Sending;
  readonly #answerMs: number;
  readonly #log: RedisLog;
  /** What waits for its answers, the oldest first. */
  readonly #batches = new Set<Batch>();
  readonly #listeners = new Map<string, (message: string) => void>();
  readonly #onUp: (() => void)[] = [];
  readonly #onMissed: (() => void)[] = [];
  readonly #onAnother: (() => void)[] = [];
  #unreadable = false;
  #exceptionAt = -Infinity;
  readonly #watch: NodeJS.Timeout;
  #up = true;
  #hears = true;
  /** The server refused the channels, which has been logged. */
  #deaf = false;
  #subscribing: NodeJS.Timeout | undefined;
  #closing = false;
  #problem = "";
  /** What the server said last of why it lets nobody in. */
  #said = "";
  #lives: ReadonlySet<string>;
  #lookingWho = false;

  /** @param lives of the Redis that answers, as livesOf has them. */
  constructor(client: Redis | Cluster, subscriber: Redis | Cluster, lives: Lives, { target, answerMs, log }: RedisOptions) {
    this.#client = client;
    this.#subscriber = subscriber;
    this.#lives = new Set(lives.known);
    this.isCluster = target.kind === "cluster";
    this.#sending = new Sending(client, this.isCluster);
    this.#answerMs = answerMs;
    this.#log = log;
    for (const one of new Set([client, subscriber])) one.on("error", (error: Error) => this.#failed(error.message));
    client.on("ready", () => this.#cameBack());
    // Of a cluster alone: which servers there are was found anew.
    client.on("refresh", () => void this.#lookWho());
    client.on("close", () => this.#wentAway(this.#problem || "the connection was closed"));
    subscriber.on("close", () => (this.#hears = false));
    subscriber.on("ready", () => void this.#subscribeAgain());
    subscriber.on("message", (channel: string, message: string) => this.#heard(channel, message));
    this.#watch = setInterval(() => this.#checkAnswers(), Math.max(10, answerMs / checksPerAnswer)).unref();
  }

  get up(): boolean {
    return this.#up;
  }

  /** Whether what is published is heard: commands may be answered while it is not. */
  get hears(): boolean {
    return this.#hears;
  }

  async run(...command: Command): Promise<unknown> {
    const [result] = await this.runEach([command]);
    if (result instanceof Error) throw result;
    return result;
  }

  /** As runAll, for commands of which none depends on another: a script that Redis does not know is sent again, whole. */
  async runEach(commands: readonly Command[]): Promise<unknown[]> {
    const results = await this.runAll(commands);
    const unknown = [...results.keys()].filter((i) => isUnknownScript(results[i]));
    if (unknown.length === 0) return results;
    const again = await this.runAll(unknown.map((i) => commands[i]!), { isWhole: true });
    for (const [n, i] of unknown.entries()) results[i] = again[n];
    return results;
  }

  /**
   * Sends commands together. What each came to, an Error where Redis refused it: also where it does not know a script, while
   * it has run those behind it. Then everything from that one on has to be sent again, in its order, or all of it whole.
   * @throws RedisAway where it is not known what they came to.
   */
  runAll(commands: readonly Command[], { isWhole = false } = {}): Promise<unknown[]> {
    if (!this.#up) return Promise.reject(new RedisAway("Redis is away"));
    this.commands += commands.length;
    return new Promise((resolve, reject) => {
      const batch: Batch = { checks: 0, fail: (error) => settle(() => reject(error)) };
      const settle = (how: () => void) => {
        if (this.#batches.delete(batch)) how();
      };
      this.#batches.add(batch);
      this.#sending.send(commands, isWhole).then(
        (results) => settle(() => {
          this.failures += results.filter((result) => result instanceof Error).length;
          resolve(results);
        }),
        (error: unknown) => settle(() => {
          this.failures += commands.length;
          reject(new RedisAway(error instanceof Error ? error.message : String(error)));
        }),
      );
    });
  }

  /** What is published on the channel, from now on and whenever Redis is back; not what is published meanwhile. */
  async subscribe(channel: string, onMessage: (message: string) => void): Promise<void> {
    this.#listeners.set(channel, onMessage);
    await this.#subscriber.subscribe(channel);
  }

  /** Anybody who may publish can say anything: what a listener cannot take costs that message only. */
  #heard(channel: string, message: string): void {
    try {
      this.#listeners.get(channel)?.(message);
    } catch (error) {
      this.exceptions++;
      if (!this.#unreadable) this.#log.warn({ channel, problem: String(error) }, "something was published on a channel of this gateway that is none of its messages; this is said once");
      this.#unreadable = true;
    }
  }

  /** Called whenever Redis is back. */
  onUp(listener: () => void): void {
    this.#onUp.push(listener);
  }

  /** Called whenever the channels can be heard again: what was published meanwhile was missed. */
  onMissed(listener: () => void): void {
    this.#onMissed.push(listener);
  }

  /** Called when Redis, or a part of it, is another process: it was restarted or failed over, and may have lost what it was told last. */
  onAnother(listener: () => void): void {
    this.#onAnother.push(listener);
  }

  /** On a connection that is new. The client of a cluster has done so by itself; asked again, it says when it was done. */
  async #subscribeAgain(): Promise<void> {
    const channels = [...this.#listeners.keys()];
    if (this.#closing) return;
    if (channels.length === 0) return void (this.#hears = true);
    try {
      await this.#subscriber.subscribe(...channels);
    } catch (error) {
      return this.#channelsRefused(String(error));
    }
    this.#hears = true;
    this.#deaf = false;
    for (const listener of this.#onMissed) this.contain(listener);
  }

  /** By the loss of the connection, after which it is made again. Or by the server, which may have taken the right: tried again now and then. */
  #channelsRefused(problem: string): void {
    const said = serverSaid.exec(problem)?.[1];
    if (said === undefined || this.#closing) return;
    if (!this.#deaf) this.#log.warn({ problem: said }, "Redis refuses the channels of this gateway: this node does not hear other nodes until it may subscribe again");
    this.#deaf = true;
    clearTimeout(this.#subscribing);
    this.#subscribing = setTimeout(() => void this.#subscribeAgain(), channelsRetryMs).unref();
  }

  /**
   * Calls back where an answer of Redis is used. What it throws is this node's mistake: it is logged and counted, and ends
   * neither the node nor what else waits for Redis.
   */
  contain(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      this.exceptions++;
      const now = performance.now();
      if (now - this.#exceptionAt < exceptionLogMs) return;
      this.#exceptionAt = now;
      const problem = error instanceof Error ? error.stack ?? error.message : String(error);
      this.#log.warn({ problem, exceptions: this.exceptions }, "an exception where an answer of Redis was used: it is not used any further, the node goes on; please report this");
    }
  }

  /** Gives `done` what was read, exactly once; an error where it could not be. */
  answer<T>(reading: Promise<T>, done: (answer: { readonly value: T } | { readonly error: "unavailable" }) => void): void {
    void reading.then(
      (value) => this.contain(() => done({ value })),
      () => this.contain(() => done({ error: "unavailable" })),
    );
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#watch);
    clearTimeout(this.#subscribing);
    this.#failAll("closed");
    // Not quit(): a Redis that is away would be waited for.
    for (const client of new Set([this.#client, this.#subscriber])) drop(client);
  }

  #checkAnswers(): void {
    // The oldest is the first.
    for (const batch of this.#batches) {
      if (++batch.checks <= checksPerAnswer) return;
      // Whatever it still answers would come too late.
      this.#wentAway(`no answer for ${this.#answerMs} ms`);
      this.#client.disconnect(true);
      return;
    }
  }

  /** A server that is there and lets nobody in, such as one that was restarted without its password, says why. */
  #failed(problem: string): void {
    this.#problem = problem;
    const said = serverSaid.exec(problem)?.[1];
    if (this.#up || said === undefined || said === this.#said) return;
    this.#said = said;
    this.#log.warn({ problem: said }, "Redis answers and does not let this node in; it is tried again");
  }

  #wentAway(problem: string): void {
    this.#failAll(problem);
    this.#sending.forget();
    if (!this.#up || this.#closing) return;
    this.#up = false;
    this.#log.warn({ problem }, "Redis is away: what is known of other nodes, and sessions that have a socket, go on; it is tried again");
  }

  #cameBack(): void {
    if (this.#up || this.#closing) return;
    this.#up = true;
    this.#problem = "";
    this.#said = "";
    this.returns++;
    this.#log.info({}, "Redis is back");
    for (const listener of this.#onUp) this.contain(listener);
    void this.#lookWho();
  }

  async #lookWho(): Promise<void> {
    if (!this.#up || this.#lookingWho) return;
    this.#lookingWho = true;
    const { known, all } = await livesOf(this.#client);
    this.#lookingWho = false;
    const isAnother = known.some((life) => !this.#lives.has(life));
    // One that does not answer now may be back as it was.
    this.#lives = new Set(all ? known : [...this.#lives, ...known]);
    if (!isAnother || this.#closing) return;
    for (const listener of this.#onAnother) this.contain(listener);
  }

  #failAll(problem: string): void {
    for (const batch of [...this.#batches]) {
      this.failures++;
      batch.fail(new RedisAway(problem));
    }
  }
}

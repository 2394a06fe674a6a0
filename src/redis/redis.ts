/**
 * The connection to Redis that registry, sessions and presence of this node share. It is either up or unavailable.
 * While it is unavailable every command fails at once, and so do those under way. A connected Redis that stops
 * answering counts as unavailable, too. The node reconnects forever, and resends nothing: only the caller knows what
 * still matters.
 */
import type { Cluster, Redis } from "ioredis";
import { isUnknownScript, Sending, type Command } from "./sending.ts";
import { drop, runIdsOf, type RunIds } from "./servers.ts";
import type { RedisTarget } from "./target.ts";

export type { Command };

export interface RedisOptions {
  readonly target: RedisTarget;
  /** A file of CA certificates for servers with TLS. Default: those that Node trusts. */
  readonly tlsCa?: string;
  /** Redis counts as unavailable when it has answered nothing for so long. */
  readonly answerMs: number;
  readonly log: RedisLog;
}

export interface RedisLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

/** Why a command has no result. Redis may or may not have run it. */
export class RedisAway extends Error {
  override readonly name = "RedisAway";
}

interface Batch {
  /** How many checks have found it waiting. */
  checks: number;
  readonly fail: (error: Error) => void;
}

/** Retry interval after the server refused to subscribe. */
const channelsRetryMs = 2_000;
/** Waiting is counted in checks, not in time: a node that was itself suspended has not waited for Redis. */
const checksPerAnswer = 5;
/** Exceptions are logged this often at most, and counted every time. */
const exceptionLogMs = 10_000;

/** A server's error begins with a word in capitals. The client may put its own words before it. */
const serverSaid = /(?:^|: )([A-Z]{3,} .+)$/;

/** One client for commands and one for subscriptions. A cluster's client has a connection of its own for those. */
export class RedisLink {
  /** Commands sent, those that failed, and how often Redis became available again. */
  commands = 0;
  failures = 0;
  returns = 0;
  /** Exceptions thrown by code that handled an answer or a message of Redis. */
  exceptions = 0;
  readonly #client: Redis | Cluster;
  readonly #subscriber: Redis | Cluster;
  /** A cluster's servers run their commands independently. One server runs them in the order they were sent. */
  readonly isCluster: boolean;
  readonly #sending: Sending;
  readonly #answerMs: number;
  readonly #log: RedisLog;
  /** Batches that wait for their answers, the oldest first. */
  readonly #batches = new Set<Batch>();
  readonly #listeners = new Map<string, ((message: string) => void)[]>();
  readonly #onUp: (() => void)[] = [];
  readonly #onMissed: (() => void)[] = [];
  readonly #onAnother: (() => void)[] = [];
  #unreadable = false;
  #exceptionAt = -Infinity;
  readonly #watch: NodeJS.Timeout;
  #up = true;
  #hears = true;
  /** The server refused to subscribe, and this has been logged. */
  #deaf = false;
  #subscribing: NodeJS.Timeout | undefined;
  #closing = false;
  #problem = "";
  /** The last error with which the server refused this node. */
  #said = "";
  #runIds: ReadonlySet<string>;
  #readingRunIds = false;

  /** @param runIds of the Redis that answers, from runIdsOf. */
  constructor(client: Redis | Cluster, subscriber: Redis | Cluster, runIds: RunIds, { target, answerMs, log }: RedisOptions) {
    this.#client = client;
    this.#subscriber = subscriber;
    this.#runIds = new Set(runIds.known);
    this.isCluster = target.kind === "cluster";
    this.#sending = new Sending(client, this.isCluster);
    this.#answerMs = answerMs;
    this.#log = log;
    for (const one of new Set([client, subscriber])) one.on("error", (error: Error) => this.#failed(error.message));
    client.on("ready", () => this.#cameBack());
    // Only a cluster's client emits it: it has read the list of servers again.
    client.on("refresh", () => void this.#readRunIds());
    client.on("close", () => this.#wentAway(this.#problem || "the connection was closed"));
    subscriber.on("close", () => (this.#hears = false));
    subscriber.on("ready", () => void this.#subscribeAgain());
    subscriber.on("message", (channel: string, message: string) => this.#heard(channel, message));
    this.#watch = setInterval(() => this.#checkAnswers(), Math.max(10, answerMs / checksPerAnswer)).unref();
  }

  get up(): boolean {
    return this.#up;
  }

  /** Whether the channels are subscribed. Commands may be answered while they are not. */
  get hears(): boolean {
    return this.#hears;
  }

  async run(...command: Command): Promise<unknown> {
    const [result] = await this.runEach([command]);
    if (result instanceof Error) throw result;
    return result;
  }

  /** Like runAll, for independent commands: a script that Redis does not know is sent again, whole. */
  async runEach(commands: readonly Command[]): Promise<unknown[]> {
    const results = await this.runAll(commands);
    const unknown = [...results.keys()].filter((i) => isUnknownScript(results[i]));
    if (unknown.length === 0) return results;
    const again = await this.runAll(unknown.map((i) => commands[i]!), { isWhole: true });
    for (const [n, i] of unknown.entries()) results[i] = again[n];
    return results;
  }

  /**
   * Sends commands together. Returns a result for each, an Error where Redis refused it. Also an unknown script is an
   * Error, though Redis has run the commands behind it. The caller then sends everything again from that one on, in
   * order, or all of it whole.
   * @throws RedisAway where it is not known which commands Redis ran.
   */
  runAll(commands: readonly Command[], { isWhole = false } = {}): Promise<unknown[]> {
    if (!this.#up) return Promise.reject(new RedisAway("Redis is unavailable"));
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

  /** Receives what is published on the channel, now and after each reconnect, but not what was published in between. */
  async subscribe(channel: string, onMessage: (message: string) => void): Promise<void> {
    this.#listeners.set(channel, [...(this.#listeners.get(channel) ?? []), onMessage]);
    await this.#subscriber.subscribe(channel);
  }

  /** Any client with the right may publish anything. A message that the listener cannot read costs only itself. */
  #heard(channel: string, message: string): void {
    for (const listener of this.#listeners.get(channel) ?? []) {
      try {
        listener(message);
      } catch (error) {
        this.exceptions++;
        if (!this.#unreadable) this.#log.warn({ channel, problem: String(error) }, "Redis channel: ignored a message that no node sent; check which clients may publish under the prefix of this gateway (logged once)");
        this.#unreadable = true;
      }
    }
  }

  /** Called whenever Redis is available again. */
  onUp(listener: () => void): void {
    this.#onUp.push(listener);
  }

  /** Called when the channels are subscribed again: messages in between were missed. */
  onMissed(listener: () => void): void {
    this.#onMissed.push(listener);
  }

  /** Called when a server of Redis was restarted or failed over. It may have lost the latest writes. */
  onAnother(listener: () => void): void {
    this.#onAnother.push(listener);
  }

  /**
   * Subscribes on a new connection. A cluster's client has already done so; asked again, it resolves when that is done.
   */
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

  /**
   * After a lost connection the client reconnects anyway. If the server refused, perhaps for a withdrawn right, retry.
   */
  #channelsRefused(problem: string): void {
    const said = serverSaid.exec(problem)?.[1];
    if (said === undefined || this.#closing) return;
    if (!this.#deaf) this.#log.warn({ problem: said }, "Redis refuses to subscribe: this node gets no messages of other nodes until its user may subscribe; the node retries");
    this.#deaf = true;
    clearTimeout(this.#subscribing);
    this.#subscribing = setTimeout(() => void this.#subscribeAgain(), channelsRetryMs).unref();
  }

  /**
   * Calls code that handles an answer of Redis. An exception there is a bug of this node. It is logged and counted, and
   * stops neither the node nor other callers of Redis.
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
      this.#log.warn({ problem, exceptions: this.exceptions }, "exception while handling an answer of Redis: the answer is dropped and the node goes on; please report this");
    }
  }

  /** Calls `done` exactly once: with the value read, or with an error. */
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
    // Not quit(): it would wait for an unavailable Redis.
    for (const client of new Set([this.#client, this.#subscriber])) drop(client);
  }

  #checkAnswers(): void {
    // The oldest is the first.
    for (const batch of this.#batches) {
      if (++batch.checks <= checksPerAnswer) return;
      // Later answers would come too late.
      this.#wentAway(`no answer for ${this.#answerMs} ms`);
      this.#client.disconnect(true);
      // The subscriber sends nothing, so nothing tells whether it still hears. One that is connecting would end for good.
      const { status } = this.#subscriber;
      if (this.#subscriber !== this.#client && (status === "ready" || status === "connect")) this.#subscriber.disconnect(true);
      return;
    }
  }

  /** Logs why a reachable server refuses this node, for example after a restart without its password. */
  #failed(problem: string): void {
    this.#problem = problem;
    const said = serverSaid.exec(problem)?.[1];
    if (this.#up || said === undefined || said === this.#said) return;
    this.#said = said;
    this.#log.warn({ problem: said }, "Redis refuses this node: check the user and password of --redis, and the state of the server; the node retries");
  }

  #wentAway(problem: string): void {
    this.#failAll(problem);
    this.#sending.forget();
    if (!this.#up || this.#closing) return;
    this.#up = false;
    this.#log.warn({ problem }, "Redis is unavailable: connected sessions go on with the last known state of other nodes; the node reconnects");
  }

  #cameBack(): void {
    if (this.#up || this.#closing) return;
    this.#up = true;
    this.#problem = "";
    this.#said = "";
    this.returns++;
    this.#log.info({}, "Redis is available again");
    for (const listener of this.#onUp) this.contain(listener);
    void this.#readRunIds();
  }

  async #readRunIds(): Promise<void> {
    if (!this.#up || this.#readingRunIds) return;
    this.#readingRunIds = true;
    const { known, all } = await runIdsOf(this.#client);
    this.#readingRunIds = false;
    const isAnother = known.some((runId) => !this.#runIds.has(runId));
    // A server that does not answer now may return with its data.
    this.#runIds = new Set(all ? known : [...this.#runIds, ...known]);
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

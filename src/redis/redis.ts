/**
 * The connection to Redis that everything on this node shares: registry, sessions, presence. It is either up or away.
 * While it is away every command fails at once, and so does what was under way; a Redis that is connected and does not
 * answer is away, too. It is tried again for ever, and nothing is resent: whoever asked knows better what still matters.
 */
import type { Cluster, Redis, RedisOptions as ClientOptions } from "ioredis";
import type { RedisTarget } from "./target.ts";
import { tlsOptions } from "./tls.ts";

export type Command = readonly [name: string, ...args: (string | number)[]];

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

const retryMsMax = 1_000;
const connectMs = 5_000;
const keepAliveMs = 10_000;
/** Between two tries to subscribe where the server refuses it. */
const channelsRetryMs = 2_000;
/** A cluster does not say that one of its servers was restarted, or another made a primary: its servers are looked at so often. */
const clusterLookMs = 5_000;
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
    const [result] = await this.runAll([command]);
    if (result instanceof Error) throw result;
    return result;
  }

  /**
   * Sends commands together. What each came to, an Error where Redis refused it.
   * @throws RedisAway where it is not known what they came to.
   */
  runAll(commands: readonly Command[]): Promise<unknown[]> {
    if (!this.#up) return Promise.reject(new RedisAway("Redis is away"));
    this.commands += commands.length;
    return new Promise((resolve, reject) => {
      const batch: Batch = { checks: 0, fail: (error) => settle(() => reject(error)) };
      const settle = (how: () => void) => {
        if (this.#batches.delete(batch)) how();
      };
      this.#batches.add(batch);
      this.#send(commands).then(
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

  /** A cluster's commands go to its nodes one by one: in a pipeline all would have to be for the same. */
  async #send(commands: readonly Command[]): Promise<unknown[]> {
    if (this.isCluster || commands.length === 1) {
      return Promise.all(commands.map(([name, ...args]) => this.#client.call(name, ...args).catch(refusal)));
    }
    const results = await this.#client.pipeline(commands.map((command) => [...command])).exec();
    // Its type has null. Fewer results than commands would be taken for success.
    if (results?.length !== commands.length) throw new Error("the client library has no result for some of the commands");
    return results.map(([error, result]) => (error === null ? result : refusal(error)));
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

/**
 * Connects, and resolves when Redis answers.
 * @throws TlsFileProblem, or an Error that says in a sentence why it does not.
 */
export async function openRedis(options: RedisOptions): Promise<RedisLink> {
  const { target, tlsCa = "" } = options;
  // Loaded only now: a node without Redis does not need it.
  // By its default export: a bundle makes no named ones of a module that is CommonJS and loaded late.
  const { default: { Cluster, Redis } } = await import("ioredis");
  let isStarting = true;
  let problem = "";
  const common: ClientOptions = {
    ...(target.user !== "" && { username: target.user }),
    ...(target.password !== "" && { password: target.password }),
    ...(target.tls && tlsOptions(tlsCa)),
    db: target.db,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Zero: what was under way when a connection is lost fails then.
    maxRetriesPerRequest: 0,
    connectTimeout: connectMs,
    keepAlive: keepAliveMs,
    // Its answers are thrown away, and one that a server gives before it closes, such as DENIED, would be taken for one.
    disableClientInfo: true,
    autoResubscribe: false, // nobody would catch what becomes of it, and a connection that is lost again would end the node
    // An old primary after a failover: the connection is made anew, to the new one.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
    retryStrategy: (times) => (isStarting ? null : retryMs(times)),
  };
  const make = (enableOfflineQueue: boolean): Redis | Cluster => {
    const client = { ...common, enableOfflineQueue };
    if (target.kind === "cluster") {
      const { db, lazyConnect, enableOfflineQueue: _, retryStrategy, ...redisOptions } = client;
      const clusterRetryStrategy = (times: number) => (isStarting ? null : retryMs(times));
      return new Cluster([...target.hosts], { redisOptions, lazyConnect: true, enableOfflineQueue, clusterRetryStrategy, slotsRefreshInterval: clusterLookMs });
    }
    if (target.kind === "sentinel") {
      const sentinelRetryStrategy = (times: number) => (isStarting ? null : retryMs(times));
      return new Redis({ ...client, sentinels: [...target.hosts], name: target.name, sentinelRetryStrategy });
    }
    return new Redis({ ...client, ...target.hosts[0] });
  };
  const client = make(false);
  const subscriber = target.kind === "cluster" ? client : make(true);
  const clients = new Set([client, subscriber]);
  // The first says why; those behind it follow from it.
  const note = (error: Error) => (problem ||= reason(error));
  let lives: Lives;
  for (const one of clients) one.on("error", note);
  try {
    await within(Promise.all([...clients].map((one) => one.connect())), connectMs);
    await within(client.call("PING"), connectMs);
    lives = await within(livesOf(client), connectMs);
  } catch (error) {
    clients.forEach(drop);
    throw new Error(problem || reason(error));
  }
  isStarting = false;
  return new RedisLink(client, subscriber, lives, options);
}

/**
 * Disconnects for good. A TLS handshake that is under way fails by that, and a second error on its socket would be nobody's:
 * the client listens to one.
 */
function drop(client: Redis | Cluster): void {
  const connections = "nodes" in client ? client.nodes() : [client];
  for (const { stream } of connections) stream?.on("error", () => undefined);
  client.disconnect();
}

/** A cluster's client says of all its nodes together that they failed, and keeps why the last did. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { lastNodeError } = error as Error & { lastNodeError?: unknown };
  return lastNodeError instanceof Error ? `${error.message} ${lastNodeError.message}` : error.message;
}

/** Another for every process, and every start of one: of each server that may be written to, as far as it says. */
interface Lives {
  readonly known: readonly string[];
  readonly all: boolean;
}

async function livesOf(client: Redis | Cluster): Promise<Lives> {
  const servers = "nodes" in client ? client.nodes("master") : [client];
  const infos = await Promise.all(servers.map((server) => server.call("INFO", "server").catch(() => "")));
  const known = infos.flatMap((info) => /^run_id:(\w+)/m.exec(String(info))?.[1] ?? []);
  return { known, all: known.length === servers.length };
}

/** Sooner at first, with some chance in it, so that not every node comes at once. */
function retryMs(times: number): number {
  return Math.min(retryMsMax, 50 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2);
}

/** Redis answered, and said no; anything else means that nobody knows. */
function refusal(error: Error): Error {
  if (error.name === "ReplyError") return error;
  throw error;
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Queues writes to Redis. Only the newest write of each thing is kept. One batch per turn of the loop is sent, and one
 * batch is under way at a time. While Redis is unavailable or refuses writes, because it is full or no primary any
 * more, writes wait, up to a bound. More are dropped and counted. Their owner writes them again once Redis is
 * available.
 */
import { RedisAway, type Command, type RedisLink } from "./redis.ts";
import { isUnknownScript } from "./sending.ts";

export interface WritesOptions {
  readonly redis: RedisLink;
  /** The kind of data, for the log. */
  readonly what: string;
  readonly waitingMax: number;
  readonly log: { warn(fields: object, text: string): void };
  /** Called with the result of a write, but not for writes that were replaced by a newer one or dropped. */
  readonly onDone?: (write: Write, result: unknown) => void;
  /** Redis is available again, and writes were dropped meanwhile. */
  readonly onDropped: () => void;
}

export interface Write {
  readonly of: string;
  readonly command: Command;
}

/** A write that waits or is under way. Of two writes of the same thing the higher number wins. */
interface Numbered extends Write {
  readonly number: number;
}

/** Commands in one batch: a larger one would delay the answers behind it. */
const batchMax = 512;
/** Retry interval for a batch that failed although Redis is up, for example in a cluster with an unavailable part. */
const againMs = 250;
const backMs = 1_000;
/** A refusal this long after the last one belongs to a new outage, and is logged again. */
const outageMs = 10_000;
/** Errors about the state of Redis, not about the write. Before version 7 a script's error wraps them. */
const forNow = /(?:^|: -)(?:READONLY|OOM|MISCONF|NOREPLICAS|LOADING|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|BUSY)\b/;

export class Writes {
  dropped = 0;
  readonly #options: WritesOptions;
  /** By the thing that is written. */
  readonly #waiting = new Map<string, Numbered>();
  /** By the thing that is written, the newest number under way. */
  readonly #underWay = new Map<string, number>();
  #puts = 0;
  /**
   * paused: Redis refused writes, and nothing is sent until a timer or a reconnect. stopped: no write is kept any more.
   */
  #state: "sending" | "paused" | "stopped" = "sending";
  #pause: NodeJS.Timeout | undefined;
  /**
   * A write was refused for now. Everything sent behind it counts as refused too, until all of it has been answered.
   */
  #isBehind = false;
  #timesBehind = 0;
  #refusedAt = -Infinity;
  #turn: NodeJS.Immediate | null = null;
  #sending = 0;
  /** Batches sent and not answered yet. */
  readonly #sent = new Set<Promise<void>>();
  /** The last of them: results are handled in the order of sending. */
  #last: Promise<void> = Promise.resolve();
  #hasDropped = false;

  constructor(options: WritesOptions) {
    this.#options = options;
    options.redis.onUp(() => this.#back());
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Queues a write of `of`. It replaces an earlier write of the same thing that still waits. */
  put(of: string, command: Command): void {
    if (!this.#waiting.delete(of) && this.#waiting.size >= this.#options.waitingMax) return this.#drop();
    this.#waiting.set(of, { of, command, number: ++this.#puts });
    this.#turn ??= setImmediate(() => {
      this.#turn = null;
      if (this.#sending === 0 && this.#state !== "paused") this.#send();
    });
  }

  /** Removes and returns the waiting write of this thing, if any. The caller puts it back, or another in its place. */
  take(of: string): Command | undefined {
    const command = this.#waiting.get(of)?.command;
    this.#waiting.delete(of);
    return command;
  }

  /**
   * Reads `of` behind all writes of it that are queued or under way.
   * @throws RedisAway, or the error with which Redis refuses it.
   */
  async read(of: string, command: Command): Promise<unknown> {
    const { redis } = this.#options;
    const before = this.#waiting.get(of);
    if (before === undefined) return this.#readBehind(of, command);
    if (this.#state === "paused") throw new RedisAway("Redis refuses the writes before this read");
    this.#waiting.delete(of);
    this.#underWay.set(of, before.number);
    // Sent whole: the read must not be answered where the write before it was an unknown script.
    const reading = redis.runAll([before.command, command], { isWhole: true });
    this.#hear(reading, (results) => this.#settle([before], results), () => this.#failed([before]));
    const result = (await reading)[1];
    if (result instanceof Error) throw result;
    return result;
  }

  /** Reads behind the write under way, if any. If Redis did not know that write's script, it reads again. */
  async #readBehind(of: string, command: Command): Promise<unknown> {
    const [isBehindWrite, last, behind] = [this.#underWay.has(of), this.#last, this.#timesBehind];
    const result = await this.#options.redis.run(...command);
    if (!isBehindWrite) return result;
    await last;
    return this.#timesBehind === behind ? result : this.read(of, command);
  }

  /** Sends everything now: commands sent after it find it written. */
  flush(): void {
    while (this.#waiting.size > 0 && this.#state !== "paused" && this.#options.redis.up) this.#send();
  }

  /** Sends everything now. Resolves when all is answered, or waits because it cannot be sent. */
  async settled(): Promise<void> {
    const last = this.#puts;
    do {
      this.flush();
      await Promise.all(this.#sent);
    } while (this.#state !== "paused" && this.#options.redis.up && this.#waiting.size + this.#sent.size > 0 && this.#isOpen(last));
  }

  /** Whether a write put up to then still waits or is under way. */
  #isOpen(number: number): boolean {
    for (const write of this.#waiting.values()) if (write.number <= number) return true;
    for (const underWay of this.#underWay.values()) if (underWay <= number) return true;
    return false;
  }

  async stop(): Promise<void> {
    if (this.#turn !== null) clearImmediate(this.#turn);
    this.#turn = null;
    // One last attempt; a write refused now is lost with this node.
    this.#resume();
    do await this.settled();
    while (this.#waiting.size > 0 && this.#state !== "paused" && this.#options.redis.up);
    this.#resume();
    this.#state = "stopped";
    if (this.#waiting.size > 0) this.#options.log.warn({ waiting: this.#waiting.size }, `writes of ${this.#options.what} are lost: Redis was unavailable or refused them until this node exited`);
    this.#waiting.clear();
  }

  #send(): void {
    if (this.#sending === 0) this.#isBehind = false;
    const batch: Numbered[] = [];
    for (const write of this.#waiting.values()) {
      if (batch.length === batchMax) break;
      batch.push(write);
    }
    for (const { of, number } of batch) {
      this.#waiting.delete(of);
      this.#underWay.set(of, number);
    }
    if (batch.length === 0) return;
    this.#sending++;
    const sending = this.#options.redis.runAll(batch.map(({ command }) => command));
    this.#hear(
      sending,
      (results) => {
        this.#sending--;
        this.#settle(batch, results);
        this.#goOn();
      },
      () => {
        this.#sending--;
        this.#failed(batch);
      },
    );
  }

  #hear(sending: Promise<unknown[]>, onResults: (results: unknown[]) => void, onFailed: () => void): void {
    sending.catch(() => undefined); // handled below, behind earlier batches
    const heard = this.#last.then(() => sending).then(onResults, onFailed);
    this.#last = heard;
    this.#sent.add(heard);
    void heard.then(() => this.#sent.delete(heard));
  }

  #goOn(): void {
    if (this.#sending === 0 && this.#waiting.size > 0 && this.#turn === null && this.#state === "sending") this.#send();
  }

  /**
   * Handles the results of a batch. Writes that were refused for now wait again, and so do all writes sent behind them.
   * Each may depend on those before it, and writing twice has the same result. If Redis did not know a script, they are
   * resent at once.
   */
  #settle(batch: readonly Numbered[], results: readonly unknown[]): void {
    const errors = results.slice(0, batch.length).filter((result) => result instanceof Error && !isUnknownScript(result)) as Error[];
    const first = this.#isBehind ? 0 : results.findIndex((result) => isUnknownScript(result) || isForNow(result));
    const done = first < 0 || first >= batch.length ? batch.length : first;
    if (errors[0] !== undefined) this.#say(errors[0]);
    for (const [i, write] of batch.slice(0, done).entries()) {
      this.#landed(write);
      this.#options.redis.contain(() => this.#options.onDone?.(write, results[i]));
    }
    if (done < batch.length) {
      this.#keep(batch.slice(done));
      this.#isBehind = true;
      this.#timesBehind++;
      if (errors.some(isForNow)) this.#pauseFor(againMs);
    } else if (this.#waiting.size <= this.#options.waitingMax / 2) this.#makeGood();
  }

  /** Logs a refusal once per outage, and an error in the write itself each time. */
  #say(refused: Error): void {
    const now = performance.now();
    const isKnown = isForNow(refused) && now - this.#refusedAt < outageMs;
    if (isForNow(refused)) this.#refusedAt = now;
    if (!isKnown) this.#options.log.warn({ problem: refused.message }, `Redis refused a write of ${this.#options.what}`);
  }

  /** Redis may or may not have run the writes. */
  #failed(batch: readonly Numbered[]): void {
    this.#keep(batch);
    this.#isBehind = true;
    if (this.#options.redis.up) this.#pauseFor(againMs);
  }

  /** Queues the writes again, before later ones, unless a newer write of the same thing waits or is under way. */
  #keep(batch: readonly Numbered[]): void {
    for (const write of batch) this.#landed(write);
    if (this.#state === "stopped") return;
    const wanted = batch.filter(({ of, number }) => number > Math.max(this.#waiting.get(of)?.number ?? 0, this.#underWay.get(of) ?? 0));
    const all = [...wanted, ...this.#waiting.values()].sort((a, b) => a.number - b.number);
    this.#waiting.clear();
    for (const write of all) this.#waiting.set(write.of, write);
  }

  #landed({ of, number }: Numbered): void {
    if (this.#underWay.get(of) === number) this.#underWay.delete(of);
  }

  #pauseFor(ms: number): void {
    if (this.#state === "stopped") return;
    this.#state = "paused";
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#resume();
      if (this.#sending === 0) this.#send();
    }, ms).unref();
  }

  #resume(): void {
    clearTimeout(this.#pause);
    if (this.#state === "paused") this.#state = "sending";
  }

  #drop(): void {
    this.dropped++;
    if (!this.#hasDropped) {
      this.#options.log.warn({ waiting: this.#waiting.size }, `writes of ${this.#options.what} are dropped: too many wait for Redis; this node writes its state again when Redis accepts writes`);
    }
    this.#hasDropped = true;
  }

  #back(): void {
    // A server that is no primary any more refuses after each reconnect: wait, so as not to reconnect in a loop.
    const isRefusing = performance.now() - this.#refusedAt < backMs;
    if (isRefusing) this.#pauseFor(backMs);
    else this.#resume();
    if (!isRefusing && this.#sending === 0) this.#send();
    this.#makeGood();
  }

  #makeGood(): void {
    if (!this.#hasDropped) return;
    this.#hasDropped = false;
    this.#options.redis.contain(() => this.#options.onDropped());
  }
}

function isForNow(result: unknown): boolean {
  return result instanceof Error && forNow.test(result.message);
}

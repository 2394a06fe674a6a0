/**
 * Writes on their way to Redis: the newest for each thing that is written, sent together once a turn, one batch under
 * way at a time. While Redis is away, or refuses writes as it does when it is full or not a primary any more, they wait,
 * up to a number; what does not fit then is dropped, counted, and made good by whoever owns it once Redis is back.
 */
import { RedisAway, type Command, type RedisLink } from "./redis.ts";
import { isUnknownScript } from "./sending.ts";

export interface WritesOptions {
  readonly redis: RedisLink;
  /** What is written, for the log. */
  readonly what: string;
  readonly waitingMax: number;
  readonly log: { warn(fields: object, text: string): void };
  /** What a write came to; not called for those that were replaced by a newer one or dropped. */
  readonly onDone?: (write: Write, result: unknown) => void;
  /** Redis is back, and writes were dropped while it was away. */
  readonly onDropped: () => void;
}

export interface Write {
  readonly of: string;
  readonly command: Command;
}

/** One that waits or is under way: of two of the same, the one with the higher number is the one that counts. */
interface Numbered extends Write {
  readonly number: number;
}

/** Commands in one batch: more would keep answers behind it waiting. */
const batchMax = 512;
/** A batch that failed or was refused although Redis is up, such as in a cluster of which a part is away, is tried again after this. */
const againMs = 250;
const backMs = 1_000;
/** Refusals that are further apart are of another outage, and said again. */
const outageMs = 10_000;
/** What Redis says of the state it is in, not of the write; before version 7 a script's refusal holds it inside. */
const forNow = /(?:^|: -)(?:READONLY|OOM|MISCONF|NOREPLICAS|LOADING|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|BUSY)\b/;

export class Writes {
  dropped = 0;
  readonly #options: WritesOptions;
  /** By what is written. */
  readonly #waiting = new Map<string, Numbered>();
  /** By what is written, the newest number that is under way. */
  readonly #underWay = new Map<string, number>();
  #puts = 0;
  /** paused: nothing is sent until a timer or the return of Redis, which refused writes. stopped: nothing is kept any more. */
  #state: "sending" | "paused" | "stopped" = "sending";
  #pause: NodeJS.Timeout | undefined;
  /** Something was refused for now: what was sent behind it counts as refused too, until nothing of that is under way. */
  #isBehind = false;
  #timesBehind = 0;
  #refusedAt = -Infinity;
  #turn: NodeJS.Immediate | null = null;
  #sending = 0;
  /** All that is sent and not answered yet. */
  readonly #sent = new Set<Promise<void>>();
  /** The last of them: what they came to is heard in the order in which they left. */
  #last: Promise<void> = Promise.resolve();
  #hasDropped = false;

  constructor(options: WritesOptions) {
    this.#options = options;
    options.redis.onUp(() => this.#back());
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** `of` is what it writes: an earlier write of the same that still waits is not needed any more. */
  put(of: string, command: Command): void {
    if (!this.#waiting.delete(of) && this.#waiting.size >= this.#options.waitingMax) return this.#drop();
    this.#waiting.set(of, { of, command, number: ++this.#puts });
    this.#turn ??= setImmediate(() => {
      this.#turn = null;
      if (this.#sending === 0 && this.#state !== "paused") this.#send();
    });
  }

  /** What is waiting to be written of this, if anything: to be put again, or something in its place. */
  take(of: string): Command | undefined {
    const command = this.#waiting.get(of)?.command;
    this.#waiting.delete(of);
    return command;
  }

  /**
   * Reads what `of` is about, behind whatever is still to be written of it.
   * @throws RedisAway, and what Redis refuses it with.
   */
  async read(of: string, command: Command): Promise<unknown> {
    const { redis } = this.#options;
    const before = this.#waiting.get(of);
    if (before === undefined) return this.#readBehind(of, command);
    if (this.#state === "paused") throw new RedisAway("Redis does not take what was written before it");
    this.#waiting.delete(of);
    this.#underWay.set(of, before.number);
    // Whole: the read must not be answered where the write before it is not known.
    const reading = redis.runAll([before.command, command], { isWhole: true });
    this.#hear(reading, (results) => this.#settle([before], results), () => this.#failed([before]));
    const result = (await reading)[1];
    if (result instanceof Error) throw result;
    return result;
  }

  /** Behind the write of it that is under way, if any. Where that was of a script that Redis does not know, it is read again. */
  async #readBehind(of: string, command: Command): Promise<unknown> {
    const [isBehindWrite, last, behind] = [this.#underWay.has(of), this.#last, this.#timesBehind];
    const result = await this.#options.redis.run(...command);
    if (!isBehindWrite) return result;
    await last;
    return this.#timesBehind === behind ? result : this.read(of, command);
  }

  /** Sends everything now: what is sent after it finds it written. */
  flush(): void {
    while (this.#waiting.size > 0 && this.#state !== "paused" && this.#options.redis.up) this.#send();
  }

  /** Sends everything now, and resolves when it is answered, or waits because it could not be sent. */
  async settled(): Promise<void> {
    const last = this.#puts;
    do {
      this.flush();
      await Promise.all(this.#sent);
    } while (this.#state !== "paused" && this.#options.redis.up && this.#waiting.size + this.#sent.size > 0 && this.#isOpen(last));
  }

  /** Whether anything waits or is under way that was put up to then. */
  #isOpen(number: number): boolean {
    for (const write of this.#waiting.values()) if (write.number <= number) return true;
    for (const underWay of this.#underWay.values()) if (underWay <= number) return true;
    return false;
  }

  async stop(): Promise<void> {
    if (this.#turn !== null) clearImmediate(this.#turn);
    this.#turn = null;
    // Tried once more; what is refused then is lost with this node.
    this.#resume();
    do await this.settled();
    while (this.#waiting.size > 0 && this.#state !== "paused" && this.#options.redis.up);
    this.#resume();
    this.#state = "stopped";
    if (this.#waiting.size > 0) this.#options.log.warn({ waiting: this.#waiting.size }, `writes of ${this.#options.what} are lost: Redis did not take them before this node ended`);
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
    sending.catch(() => undefined); // heard below, behind those before it
    const heard = this.#last.then(() => sending).then(onResults, onFailed);
    this.#last = heard;
    this.#sent.add(heard);
    void heard.then(() => this.#sent.delete(heard));
  }

  #goOn(): void {
    if (this.#sending === 0 && this.#waiting.size > 0 && this.#turn === null && this.#state === "sending") this.#send();
  }

  /**
   * What writes came to. Those that were refused for now wait again, and with them all that were sent behind: each may
   * depend on what was before it, and written twice it is the same. Of a script that Redis does not know they leave at once.
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

  /** Once an outage; what is wrong with the write itself each time. */
  #say(refused: Error): void {
    const now = performance.now();
    const isKnown = isForNow(refused) && now - this.#refusedAt < outageMs;
    if (isForNow(refused)) this.#refusedAt = now;
    if (!isKnown) this.#options.log.warn({ problem: refused.message }, `Redis refused a write of ${this.#options.what}`);
  }

  /** Nobody knows what they came to. */
  #failed(batch: readonly Numbered[]): void {
    this.#keep(batch);
    this.#isBehind = true;
    if (this.#options.redis.up) this.#pauseFor(againMs);
  }

  /** They wait again, in front of what came meanwhile, unless something newer of the same waits or is under way. */
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
      this.#options.log.warn({ waiting: this.#waiting.size }, `writes of ${this.#options.what} are dropped until Redis is back: too many wait; they are written anew then`);
    }
    this.#hasDropped = true;
  }

  #back(): void {
    // Refused by one that is not a primary any more the connection is made anew each time: not at once, again and again.
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

/**
 * Writes on their way to Redis: the newest for each thing that is written, sent together once a turn, one batch under
 * way at a time. While Redis is away, or refuses writes as it does when it is full or not a primary any more, they wait,
 * up to a number; what does not fit then is dropped, counted, and made good by whoever owns it once Redis is back.
 *
 * Servers of a cluster carry out what they are sent each at its own time. Where that of others must be done before or
 * after, a write is put in turn: it is sent when all before it are answered, and what is behind it when it is.
 */
import { setImmediate as soon } from "node:timers/promises";
import { RedisAway, type Command, type RedisLink } from "./redis.ts";

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
  readonly inTurn: boolean;
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
  /** By what is written, those put in turn that wait or are under way. */
  readonly #inTurn = new Set<string>();
  /** Reads that wait for those. */
  #readers: (() => void)[] = [];
  /** Nothing is sent before it. */
  #again: NodeJS.Timeout | null = null;
  #refusedAt = -Infinity;
  #turn: NodeJS.Immediate | null = null;
  /** Batches that are under way, and reads with a write. */
  #sending = 0;
  #reading = 0;
  #hasDropped = false;
  #stopped = false;

  constructor(options: WritesOptions) {
    this.#options = options;
    options.redis.onUp(() => this.#back());
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** `of` is what it writes: an earlier write of the same that still waits is not needed any more. */
  put(of: string, command: Command): void {
    this.#put(of, command, false);
  }

  putInTurn(of: string, command: Command): void {
    this.#put(of, command, true);
  }

  #put(of: string, command: Command, inTurn: boolean): void {
    if (!this.#waiting.delete(of) && this.#waiting.size >= this.#options.waitingMax) return this.#drop();
    this.#waiting.set(of, { of, command, inTurn, number: ++this.#puts });
    if (inTurn) this.#inTurn.add(of);
    this.#turn ??= setImmediate(() => {
      this.#turn = null;
      if (this.#sending === 0 && this.#again === null) this.#send();
    });
  }

  /** What is waiting to be written of this, if anything: to be put again, or something in its place. */
  take(of: string): Command | undefined {
    const command = this.#waiting.get(of)?.command;
    if (this.#waiting.delete(of)) this.#hadTurn(of);
    return command;
  }

  /**
   * Reads what `of` is about, behind whatever is still to be written of it, and what was put in turn.
   * @throws RedisAway, and what Redis refuses it with.
   */
  async read(of: string, command: Command): Promise<unknown> {
    const { redis } = this.#options;
    if (this.#inTurn.size > 0 && this.#again === null && redis.up) await new Promise<void>((resolve) => this.#readers.push(resolve));
    const before = this.#waiting.get(of);
    if (before === undefined) return redis.run(...command);
    if (this.#again !== null) throw new RedisAway("Redis does not take what was written before it");
    this.#waiting.delete(of);
    this.#underWay.set(of, before.number);
    this.#reading++;
    const results = await redis.runAll([before.command, command]).finally(() => this.#reading--).catch((error: unknown) => {
      this.#failed([before]);
      throw error;
    });
    this.#settle([before], results);
    this.#goOn();
    if (results[1] instanceof Error) throw results[1];
    return results[1];
  }

  /** Sends everything now, as far as nothing is put in turn: what is sent after it finds it written. */
  flush(): void {
    while (this.#waiting.size > 0 && this.#again === null && this.#options.redis.up && this.#inTurn.size === 0) void this.#send();
  }

  async stop(): Promise<void> {
    if (this.#turn !== null) clearImmediate(this.#turn);
    this.#turn = null;
    // Tried once more; what is refused then is lost with this node.
    this.#pause(null);
    while (this.#waiting.size > 0 && this.#again === null && this.#options.redis.up) await this.#send();
    this.#pause(null);
    this.#stopped = true;
    this.#release();
    if (this.#waiting.size > 0) this.#options.log.warn({ waiting: this.#waiting.size }, `writes of ${this.#options.what} are lost: Redis did not take them before this node ended`);
    this.#waiting.clear();
  }

  /** What is next and may be sent together, if anything may be now. */
  #next(): readonly Numbered[] {
    const batch: Numbered[] = [];
    if (this.#inTurn.size > 0 && this.#sending > 0) return batch;
    for (const write of this.#waiting.values()) {
      if (batch.length === batchMax || write.inTurn !== (batch[0] ?? write).inTurn) break;
      if (write.inTurn && this.#reading > 0) break;
      batch.push(write);
    }
    return batch;
  }

  /** Resolves when that is answered; where it is not its turn yet, soon. */
  #send(): Promise<void> {
    const batch = this.#next();
    for (const { of, number } of batch) {
      this.#waiting.delete(of);
      this.#underWay.set(of, number);
    }
    if (batch.length === 0) return soon();
    this.#sending++;
    return this.#options.redis.runAll(batch.map(({ command }) => command)).then(
      (results) => this.#sent(batch, results),
      () => {
        this.#sending--;
        this.#failed(batch);
      },
    );
  }

  #sent(batch: readonly Numbered[], results: readonly unknown[]): void {
    this.#sending--;
    this.#settle(batch, results);
    this.#goOn();
  }

  #goOn(): void {
    if (this.#sending === 0 && this.#waiting.size > 0 && this.#turn === null && this.#again === null && !this.#stopped) void this.#send();
  }

  /**
   * What writes came to. Those that were refused for now wait again, and with them all that were sent behind: each may
   * depend on what was before it, and written twice it is the same.
   */
  #settle(batch: readonly Numbered[], results: readonly unknown[]): void {
    const refused = batch.map((_, i) => results[i]).find((result) => result instanceof Error);
    const first = this.#again === null ? results.findIndex((result) => result instanceof Error && forNow.test(result.message)) : 0;
    const done = first < 0 || first >= batch.length ? batch.length : first;
    if (refused instanceof Error) this.#say(refused);
    for (const [i, write] of batch.slice(0, done).entries()) {
      this.#landed(write);
      this.#options.onDone?.(write, results[i]);
    }
    if (done < batch.length) {
      this.#keep(batch.slice(done));
      this.#release();
      this.#pause(againMs);
    } else if (this.#waiting.size <= this.#options.waitingMax / 2) this.#makeGood();
  }

  /** Once an outage; what is wrong with the write itself each time. */
  #say(refused: Error): void {
    const now = performance.now();
    const isKnown = forNow.test(refused.message) && now - this.#refusedAt < outageMs;
    if (forNow.test(refused.message)) this.#refusedAt = now;
    if (!isKnown) this.#options.log.warn({ problem: refused.message }, `Redis refused a write of ${this.#options.what}`);
  }

  #failed(batch: readonly Numbered[]): void {
    this.#keep(batch);
    this.#release();
    if (this.#options.redis.up && !this.#stopped) this.#pause(againMs);
  }

  /** They wait again, in front of what came meanwhile, unless something newer of the same waits or is under way. */
  #keep(batch: readonly Numbered[]): void {
    for (const { of, number } of batch) if (this.#underWay.get(of) === number) this.#underWay.delete(of);
    if (this.#stopped) return;
    const wanted = batch.filter(({ of, number }) => number > Math.max(this.#waiting.get(of)?.number ?? 0, this.#underWay.get(of) ?? 0));
    const all = [...wanted, ...this.#waiting.values()].sort((a, b) => a.number - b.number);
    this.#waiting.clear();
    for (const write of all) this.#waiting.set(write.of, write);
  }

  #landed({ of, number }: Numbered): void {
    if (this.#underWay.get(of) === number) this.#underWay.delete(of);
    this.#hadTurn(of);
  }

  #hadTurn(of: string): void {
    if (this.#waiting.has(of) || this.#underWay.has(of)) return;
    if (this.#inTurn.delete(of) && this.#inTurn.size === 0) this.#release();
  }

  #release(): void {
    for (const resolve of this.#readers.splice(0)) resolve();
  }

  /** For so long; null: not any more. */
  #pause(ms: number | null): void {
    if (this.#again !== null) clearTimeout(this.#again);
    this.#again = ms === null ? null : setTimeout(() => {
      this.#again = null;
      if (this.#sending === 0 && !this.#stopped) void this.#send();
    }, ms).unref();
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
    this.#pause(isRefusing ? backMs : null);
    if (!isRefusing && this.#sending === 0) void this.#send();
    this.#makeGood();
  }

  #makeGood(): void {
    if (!this.#hasDropped) return;
    this.#hasDropped = false;
    this.#options.onDropped();
  }
}

/**
 * Writes on their way to Redis: the newest for each thing that is written, sent together once a turn, one batch under
 * way at a time. While Redis is away they wait, up to a number; what does not fit then is dropped, counted, and made
 * good by whoever owns it once Redis is back.
 */
import type { Command, RedisLink } from "./redis.ts";

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

/** Commands in one batch: more would keep answers behind it waiting. */
const batchMax = 512;
/** A batch that failed although Redis is up, such as in a cluster of which a part is away, is tried again after this. */
const againMs = 250;

export class Writes {
  dropped = 0;
  readonly #options: WritesOptions;
  /** By what is written. */
  readonly #waiting = new Map<string, Command>();
  #turn: NodeJS.Immediate | null = null;
  #sending = 0;
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
    if (!this.#waiting.delete(of) && this.#waiting.size >= this.#options.waitingMax) return this.#drop();
    this.#waiting.set(of, command);
    this.#turn ??= setImmediate(() => {
      this.#turn = null;
      if (this.#sending === 0) this.#send();
    });
  }

  /** What is waiting to be written of this, if anything: to be sent by the caller, in front of what must see it. */
  take(of: string): Command | undefined {
    const command = this.#waiting.get(of);
    this.#waiting.delete(of);
    return command;
  }

  /** Sends everything now: what is sent after it finds it written. */
  flush(): void {
    while (this.#waiting.size > 0 && this.#options.redis.up) this.#send();
  }

  async stop(): Promise<void> {
    if (this.#turn !== null) clearImmediate(this.#turn);
    this.#turn = null;
    while (this.#waiting.size > 0 && this.#options.redis.up) await this.#send();
    this.#stopped = true;
    this.#waiting.clear();
  }

  #send(): Promise<void> {
    const batch: Write[] = [];
    for (const [of, command] of this.#waiting) {
      if (batch.length === batchMax) break;
      batch.push({ of, command });
    }
    for (const { of } of batch) this.#waiting.delete(of);
    if (batch.length === 0) return Promise.resolve();
    this.#sending++;
    return this.#options.redis.runAll(batch.map(({ command }) => command)).then(
      (results) => this.#sent(batch, results),
      () => this.#failed(batch),
    );
  }

  #sent(batch: readonly Write[], results: readonly unknown[]): void {
    this.#sending--;
    const refused = results.find((result) => result instanceof Error);
    if (refused instanceof Error) this.#options.log.warn({ problem: refused.message }, `Redis refused a write of ${this.#options.what}`);
    batch.forEach((write, i) => this.#options.onDone?.(write, results[i]));
    if (this.#sending === 0 && this.#waiting.size > 0 && this.#turn === null && !this.#stopped) void this.#send();
  }

  /** They wait again, in front of what came meanwhile, unless that is newer. */
  #failed(batch: readonly Write[]): void {
    this.#sending--;
    if (this.#stopped) return;
    const newer = [...this.#waiting];
    this.#waiting.clear();
    for (const { of, command } of batch) this.#waiting.set(of, command);
    for (const [of, command] of newer) {
      this.#waiting.delete(of);
      this.#waiting.set(of, command);
    }
    if (this.#options.redis.up) setTimeout(() => this.#sending === 0 && !this.#stopped && this.#send(), againMs).unref();
  }

  #drop(): void {
    this.dropped++;
    if (!this.#hasDropped) {
      this.#options.log.warn({ waiting: this.#waiting.size }, `writes of ${this.#options.what} are dropped until Redis is back: too many wait; they are written anew then`);
    }
    this.#hasDropped = true;
  }

  #back(): void {
    if (this.#sending === 0) void this.#send();
    if (!this.#hasDropped) return;
    this.#hasDropped = false;
    this.#options.onDropped();
  }
}

/**
 * The questions of one hook under way: a bounded number at once, a bounded queue behind them, a deadline for each from
 * the moment it is asked, one repetition where a connection was lost, and the breaker. Every question ends in one call
 * of `done`.
 */
import type { Logger } from "../platform/log/log.ts";
import { randomId } from "../platform/ids.ts";
import { isLost, problemOf, type Backend, type BackendAnswer } from "./backend.ts";
import { Breaker, type BreakerState } from "./breaker.ts";
import type { Signer } from "./signature.ts";

/** Why there is no verdict. breaker: not asked, since the backend fails. full: not asked, since too many wait. */
export const failures = ["timeout", "connection", "status", "answer", "breaker", "full"] as const;
export type Failure = (typeof failures)[number];

export interface Failed {
  readonly failure: Failure;
  readonly text: string;
}

export interface QuestionsOptions {
  readonly backend: Pick<Backend, "post">;
  readonly signer: Signer;
  readonly connectionsMax: number;
  readonly timeoutMs: number;
  /** Called when the breaker opens, and when it closes. */
  onBreaker(state: BreakerState, text: string): void;
  readonly log: Logger;
  readonly clock?: () => number;
}

/** Questions that wait for a connection, and their bytes: a second of the fastest handshakes. */
const waitingMax = 10_000;
const waitingBytesMax = 16 * 2 ** 20;
/** A deadline that is noticed so much later says that this node stood still. */
const stallMs = 50;

interface Question<T> {
  readonly body: string;
  readonly read: (body: string) => T | string;
  readonly done: (outcome: T | Failed) => void;
  deadline: NodeJS.Timeout;
  /** When the deadline is due. */
  dueAt: number;
  /** It was put off once. */
  isLate: boolean;
  /** While it is sent. */
  sending: AbortController | null;
  isOver: boolean;
}

export class Questions<T extends object> {
  readonly #options: QuestionsOptions;
  readonly #breaker: Breaker;
  /** In order; the first that waits is at `#first`. */
  #waiting: Question<T>[] = [];
  #first = 0;
  #waitingBytes = 0;
  readonly #sending = new Set<Question<T>>();
  /** Requests sent, repetitions included. */
  sent = 0;

  constructor(options: QuestionsOptions) {
    this.#options = options;
    this.#breaker = new Breaker(options.clock);
  }

  get waiting(): number {
    return this.#waiting.length - this.#first;
  }

  get running(): number {
    return this.#sending.size;
  }

  get breaker(): BreakerState {
    return this.#breaker.state;
  }

  /**
   * Asks. `done` may be called at once.
   * @param read makes the verdict of an answer, or says what is wrong with it
   */
  ask(body: string, read: (body: string) => T | string, done: (outcome: T | Failed) => void): void {
    const { connectionsMax, timeoutMs } = this.#options;
    if (!this.#breaker.admits()) return done(failed("breaker", "it failed too often: it is asked again in a few seconds"));
    if (this.running >= connectionsMax && (this.waiting >= waitingMax || this.#waitingBytes + body.length > waitingBytesMax)) {
      this.#breaker.withdrawn();
      return done(failed("full", "too many questions wait for it"));
    }
    const deadline = setTimeout(() => this.#due(question), timeoutMs);
    const question: Question<T> = { body, read, done, deadline, dueAt: performance.now() + timeoutMs, isLate: false, sending: null, isOver: false };
    if (this.running < connectionsMax) return this.#start(question);
    this.#waiting.push(question);
    this.#waitingBytes += body.length;
  }

  /** Gives up all questions. */
  close(): void {
    for (const question of [...this.#takeAll(), ...this.#sending]) {
      this.#end(question, failed("connection", "the node closes"));
      question.sending?.abort();
    }
  }

  #start(question: Question<T>): void {
    this.#sending.add(question);
    question.sending = new AbortController();
    void this.#send(question, question.sending.signal).then((outcome) => {
      this.#sending.delete(question);
      question.sending = null;
      this.#settle(question, outcome);
      this.#next();
    });
  }

  /** Never rejects. */
  async #send(question: Question<T>, signal: AbortSignal): Promise<T | Failed> {
    const id = `msg_${randomId(16)}`;
    for (let attempt = 1; ; attempt++) {
      try {
        this.sent++;
        const { backend, signer } = this.#options;
        return verdictOf(await backend.post(question.body, signer.sign(id, Date.now(), question.body), signal), question.read);
      } catch (error) {
        if (attempt === 1 && isLost(error) && !question.isOver) continue;
        return failed("connection", problemOf(error));
      }
    }
  }

  #next(): void {
    while (this.running < this.#options.connectionsMax && this.waiting > 0) {
      const question = this.#waiting[this.#first++]!;
      // Copied now and then only: each removal from the front would copy all.
      if (this.#first > 1024 && this.#first * 2 > this.#waiting.length) {
        this.#waiting = this.#waiting.slice(this.#first);
        this.#first = 0;
      }
      this.#waitingBytes -= question.body.length;
      if (!question.isOver) this.#start(question);
    }
    if (this.waiting === 0) {
      this.#waiting = [];
      this.#first = 0;
    }
  }

  /**
   * Timers come before what sockets have received: an answer may be there, unread, while this node stood still. So it is
   * read first. After a stall the backend gets the time once more in which it could not be heard.
   */
  #due(question: Question<T>): void {
    const lateMs = performance.now() - question.dueAt;
    if (lateMs > stallMs && !question.isLate) {
      question.isLate = true;
      const moreMs = Math.min(lateMs, this.#options.timeoutMs);
      question.dueAt += lateMs + moreMs;
      question.deadline = setTimeout(() => this.#due(question), moreMs);
      return;
    }
    setImmediate(() => this.#expired(question));
  }

  #expired(question: Question<T>): void {
    if (question.isOver) return;
    const { sending } = question;
    this.#settle(question, failed("timeout", `it did not answer within ${this.#options.timeoutMs} ms`));
    sending?.abort();
  }

  #settle(question: Question<T>, outcome: T | Failed): void {
    if (question.isOver) return;
    if ("failure" in outcome) {
      const isOpened = this.#breaker.failed();
      this.#end(question, outcome);
      if (!isOpened) return;
      this.#options.onBreaker("open", outcome.text);
      for (const one of this.#takeAll()) this.#end(one, failed("breaker", outcome.text));
    } else {
      const isClosed = this.#breaker.succeeded();
      this.#end(question, outcome);
      if (isClosed) this.#options.onBreaker("closed", "");
    }
  }

  #end(question: Question<T>, outcome: T | Failed): void {
    if (question.isOver) return;
    question.isOver = true;
    clearTimeout(question.deadline);
    try {
      question.done(outcome);
    } catch (error) {
      this.#options.log.error({ err: error }, "hooks: handling a verdict failed: report this as a bug");
    }
  }

  #takeAll(): Question<T>[] {
    const all = this.#waiting.slice(this.#first);
    this.#waiting = [];
    this.#first = 0;
    this.#waitingBytes = 0;
    return all;
  }
}

function verdictOf<T extends object>({ status, body }: BackendAnswer, read: (body: string) => T | string): T | Failed {
  // A status alone is no verdict: a proxy in between, or a wrong path, answers 403 and 404 as well.
  if (status !== 200) return failed("status", `it answered with status ${status}`);
  const verdict = read(body);
  return typeof verdict === "string" ? failed("answer", verdict) : verdict;
}

function failed(failure: Failure, text: string): Failed {
  return { failure, text };
}

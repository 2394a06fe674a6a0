/**
 * Calls of the embedding program that have no answer yet. Their number is bounded, and each is settled exactly once,
 * also when the node closes. A call never throws: whatever fails becomes a rejection with a code.
 */
import type { Answer } from "../broker/broker.ts";
import type { ErrorCode } from "../errors.ts";
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { ApiError } from "./error.ts";

export const callNames = ["publish", "send", "history", "members", "stream", "join", "leave", "disconnect", "reconnect", "user", "rooms", "room"] as const;
export type CallName = (typeof callNames)[number];
export type Outcome = "ok" | ErrorCode;

/**
 * Calls without an answer: writes as many as NATS may owe acknowledgements for; reads fewer, since each holds a page.
 * A write's payload counts in the broker's own bounds.
 */
const writesMax = 65_536;
const readsMax = 1_000;
/** Each of these asks all nodes, and waits up to two seconds for those that do not answer. */
const surveysMax = 10_000;
const waitingMax: Readonly<Record<CallName, number>> = {
  publish: writesMax, send: writesMax, history: readsMax, members: readsMax, stream: readsMax,
  join: surveysMax, leave: surveysMax, disconnect: surveysMax, reconnect: surveysMax, user: readsMax, rooms: readsMax, room: readsMax,
};
/**
 * Calls answered in one turn of the event loop. An embedded broker answers at once, so a program that awaits publish
 * after publish would never let the loop hand the publications to the reactors.
 */
const perTurn = 256;

function forEach<T>(make: () => T): Readonly<Record<CallName, T>> {
  return Object.fromEntries(callNames.map((name) => [name, make()])) as Record<CallName, T>;
}

export class Calls {
  readonly #log: Logger;
  readonly #reported = new Sparse();
  readonly #rejects = forEach(() => new Set<(error: ApiError) => void>());
  readonly #counts = forEach(() => new Map<Outcome, number>());
  #answeredInTurn = 0;
  #closed = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @param begin checks the call and starts it. It may throw an ApiError; `done` is called at most once. */
  run<T>(name: CallName, begin: (done: (answer: Answer<T> | ApiError) => void) => void): Promise<T> {
    const rejects = this.#rejects[name];
    if (this.#closed) return this.#refuse(name, closing());
    if (rejects.size >= waitingMax[name]) return this.#refuse(name, new ApiError("overloaded", `${waitingMax[name]} calls of ${name} wait for an answer already`));
    return new Promise((resolve, reject) => {
      const settle = (answer: Answer<T> | ApiError) => {
        if (!rejects.delete(cancel)) return;
        const error = answer instanceof ApiError ? answer : "error" in answer ? new ApiError(answer.error) : null;
        this.count(name, error?.code ?? "ok");
        if (error === null) resolve((answer as { value: T }).value);
        else reject(error);
      };
      const cancel = (error: ApiError) => settle(error);
      // A program that repeats what was refused must not keep the loop from emptying the queues.
      const done = (answer: Answer<T> | ApiError) =>
        this.#mayAnswer() && !isRefused(answer) ? settle(answer) : void setImmediate(settle, answer);
      rejects.add(cancel);
      try {
        begin(done);
      } catch (error) {
        done(error instanceof ApiError ? error : this.failed(name, error));
      }
    });
  }

  #refuse(name: CallName, error: ApiError): Promise<never> {
    this.count(name, error.code);
    return new Promise((_, reject) => void setImmediate(reject, error));
  }

  /** A bug of ours, or of a part that the embedding program supplied. */
  failed(call: CallName, err: unknown): ApiError {
    const unsaid = this.#reported.due(call);
    if (unsaid !== null) this.#log.error({ err, call, unsaid }, `api: ${call} failed by a bug: report it`);
    return new ApiError("internal");
  }

  count(name: CallName, outcome: Outcome): void {
    const counts = this.#counts[name];
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  }

  usage(): { readonly waiting: number; readonly answered: readonly { readonly call: CallName; readonly outcome: Outcome; readonly count: number }[] } {
    const answered = callNames.flatMap((call) => [...this.#counts[call]].map(([outcome, count]) => ({ call, outcome, count })));
    return { waiting: callNames.reduce((sum, call) => sum + this.#rejects[call].size, 0), answered };
  }

  /** Rejects what waits, and every later call. What was published without an answer may have taken place. */
  close(): void {
    this.#closed = true;
    for (const call of callNames) for (const cancel of [...this.#rejects[call]]) cancel(closing());
  }

  #mayAnswer(): boolean {
    if (this.#answeredInTurn === 0) setImmediate(() => (this.#answeredInTurn = 0));
    return this.#answeredInTurn++ < perTurn;
  }
}

export function closing(): ApiError {
  return new ApiError("unavailable", "the node is closing");
}

function isRefused(answer: Answer<unknown> | ApiError): boolean {
  return answer instanceof ApiError ? answer.retryable : "error" in answer;
}

/** What became of the questions of one hook. */
import type { HookName } from "../link/hooks.ts";
import type { BreakerState } from "./breaker.ts";
import { failures, type Failure } from "./questions.ts";

/** Upper bounds of the histogram of answers, in milliseconds. One more slot holds the values above the last. */
export const answerBucketsMs = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;

export interface HookUsage {
  readonly hook: HookName;
  /** Empty for hooks without a room. */
  readonly namespace: string;
  readonly remembered: number;
  readonly allowed: number;
  readonly denied: number;
  readonly failures: Readonly<Record<Failure, number>>;
  /** Of all questions, those that failed too. A slot a bucket, not cumulative. */
  readonly buckets: readonly number[];
  readonly sumMs: number;
  /** Requests to the backend. */
  readonly sent: number;
  readonly running: number;
  readonly waiting: number;
  readonly breaker: BreakerState;
}

export class HookCounts {
  readonly #hook: HookName;
  readonly #namespace: string;
  readonly #decided = { allowed: 0, denied: 0 };
  readonly #failures = Object.fromEntries(failures.map((failure) => [failure, 0])) as Record<Failure, number>;
  readonly #buckets: number[] = Array.from({ length: answerBucketsMs.length + 1 }, () => 0);
  #sumMs = 0;
  remembered = 0;

  constructor(hook: HookName, namespace: string) {
    this.#hook = hook;
    this.#namespace = namespace;
  }

  decided(kind: "allowed" | "denied"): void {
    this.#decided[kind]++;
  }

  failed(failure: Failure): void {
    this.#failures[failure]++;
  }

  /** From the question to its verdict or failure. */
  took(ms: number): void {
    let bucket = 0;
    while (bucket < answerBucketsMs.length && ms > answerBucketsMs[bucket]!) bucket++;
    this.#buckets[bucket]!++;
    this.#sumMs += ms;
  }

  read(): Omit<HookUsage, "sent" | "running" | "waiting" | "breaker"> {
    return { hook: this.#hook, namespace: this.#namespace, remembered: this.remembered, ...this.#decided, failures: { ...this.#failures }, buckets: [...this.#buckets], sumMs: this.#sumMs };
  }
}

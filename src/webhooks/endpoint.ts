/** One endpoint: sends it messages, and says what became of each. */
import type { FactKind } from "../facts/facts.ts";
import { problemOf, type Backend } from "../hooks/backend.ts";
import { Breaker } from "../hooks/breaker.ts";
import type { Signer } from "../hooks/signature.ts";
import type { Message } from "./message.ts";

export const failureReasons = ["timeout", "connection", "address", "status"] as const;
export type FailureReason = (typeof failureReasons)[number];

/**
 * told: the endpoint has it. refused: it will never take it. gone: it wants nothing more. failed: it may take it later;
 * `afterMs` is what it asked for, 0 for nothing.
 */
export type Outcome =
  | { readonly kind: "told" }
  | { readonly kind: "refused" | "gone"; readonly text: string }
  | { readonly kind: "failed"; readonly reason: FailureReason; readonly text: string; readonly afterMs: number };

export interface EndpointOptions {
  readonly name: string;
  readonly url: string;
  readonly kinds: ReadonlySet<FactKind>;
  /** Of its rooms; null for all. */
  readonly namespaces: ReadonlySet<string> | null;
  readonly backend: Pick<Backend, "tell" | "close">;
  readonly signer: Signer;
  readonly timeoutMs: number;
  /** Milliseconds since 1970; replaced in tests. */
  readonly clock?: () => number;
}

/** Statuses below 500 that a repetition may change. */
const passing = new Set([408, 409, 425, 429]);
/** Somebody who asks for more is asked again all the same. */
const afterMsMax = 3_600_000;

export class Endpoint {
  readonly name: string;
  readonly url: string;
  readonly kinds: ReadonlySet<FactKind>;
  readonly namespaces: ReadonlySet<string> | null;
  readonly breaker: Breaker;
  readonly #options: EndpointOptions;
  readonly #clock: () => number;

  constructor(options: EndpointOptions) {
    const { name, url, kinds, namespaces, clock = Date.now } = options;
    this.#options = options;
    this.#clock = clock;
    this.name = name;
    this.url = url;
    this.kinds = kinds;
    this.namespaces = namespaces;
    this.breaker = new Breaker(clock);
  }

  /** Never rejects. */
  async send({ id, body }: Message, until: AbortSignal): Promise<Outcome> {
    const { backend, signer, timeoutMs } = this.#options;
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const { status, retryAfter } = await backend.tell(body, signer.sign(id, this.#clock(), body), AbortSignal.any([timeout, until]));
      return this.#outcomeOf(status, retryAfter);
    } catch (error) {
      if (timeout.aborted) return { kind: "failed", reason: "timeout", text: `it did not answer within ${timeoutMs} ms`, afterMs: 0 };
      const text = problemOf(error);
      return { kind: "failed", reason: text.includes("PRIVATE_ADDRESS") ? "address" : "connection", text, afterMs: 0 };
    }
  }

  close(): Promise<void> {
    return this.#options.backend.close();
  }

  #outcomeOf(status: number, retryAfter: string): Outcome {
    const text = `it answered with status ${status}`;
    if (status >= 200 && status < 300) return { kind: "told" };
    if (status === 410) return { kind: "gone", text };
    // A redirect is not followed: only the configuration names endpoints. It may be mended there.
    if (status >= 400 && status < 500 && !passing.has(status)) return { kind: "refused", text };
    return { kind: "failed", reason: "status", text, afterMs: msOf(retryAfter, this.#clock()) };
  }
}

/** A number of seconds, or a date; 0 for anything else. */
export function msOf(retryAfter: string, now: number): number {
  const ms = /^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - now;
  return ms > 0 ? Math.min(ms, afterMsMax) : 0;
}

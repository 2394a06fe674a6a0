/** One endpoint: sends it messages, and says what became of each. */
import type { FactKind } from "../facts/facts.ts";
import { problemOf, TimedOut, type Backend } from "../hooks/backend.ts";
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
    this.breaker = new Breaker(options.clock);
  }

  /** Never rejects. */
  async send({ id, body }: Message): Promise<Outcome> {
    const { backend, signer, timeoutMs } = this.#options;
    try {
      const { status, retryAfter } = await backend.tell(body, signer.sign(id, this.#clock(), body), timeoutMs);
      return this.#outcomeOf(status, retryAfter);
    } catch (error) {
      if (error instanceof TimedOut) return { kind: "failed", reason: "timeout", text: error.message, afterMs: 0 };
      const text = problemOf(error);
      return { kind: "failed", reason: text.includes("PRIVATE_ADDRESS") ? "address" : "connection", text, afterMs: 0 };
    }
  }

  /** Messages under way fail. */
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
  const isDate = /^[A-Z][a-z]+, /.test(retryAfter);
  const ms = /^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) * 1000 : isDate ? Date.parse(retryAfter) - now : 0;
  return ms > 0 ? Math.min(ms, afterMsMax) : 0;
}

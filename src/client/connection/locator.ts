/**
 * Finds the node to connect to: asks the application, or a URL such as `/api/connection-url` of any node, before each
 * attempt. Where there is no usable answer, the client uses a URL that worked before.
 */
import type { Clock } from "../clock.ts";

/** What is asked before an attempt to connect. */
export type LocateQuestion = {
  /** Nodes that this client could not reach. */
  readonly not: readonly string[];
  /** Ticket of the session that the client reconnects for; "" for none. */
  readonly ticket: string;
  /** Token that the next attempt sends; "" for none. */
  readonly token: string;
  /** Aborted after `locateTimeoutMs`. */
  readonly signal: AbortSignal;
};

/** Where to connect. */
export type Located = {
  /** WebSocket address. */
  readonly url: string;
  /** Name of the node there. */
  readonly node?: string;
  /** Time to wait before connecting. */
  readonly retryAfterMs?: number;
};

/** A URL that answers like `/api/connection-url`, or a function that returns an address. */
export type Locate = string | ((question: LocateQuestion) => string | Located | Promise<string | Located>);

export type LocatorOptions = {
  /** Null: the client connects to `url`. */
  locate: Locate | null;
  timeoutMs: number;
  /** The application's own address, "" without one. */
  url: string;
  /** Origins that addresses must have; empty: any. */
  origins: readonly string[];
  clock: Clock;
};

/** A node refuses names beyond this number. */
const notMax = 4;
const patientAttempts = 3;
/** Waits beyond this are not believed. */
const waitMsMax = 60_000;

export class Locator {
  readonly #options: LocatorOptions;
  readonly #isOwnSecure: boolean;
  #not: string[] = [];
  #last: Located | null = null;
  /** The last address that led to a session. */
  #good = "";
  #fallbacks = 0;

  constructor(options: LocatorOptions) {
    const { locate, url } = options;
    this.#options = options;
    this.#isOwnSecure = isSecure(url) || (typeof locate === "string" && /^https:/i.test(locate));
  }

  /** Whether to ask before an attempt. */
  get asks(): boolean {
    return this.#options.locate !== null;
  }

  /** Rejects where there is no usable answer in time. An error may have `retryAfterMs`. */
  async ask(ticket: string, token: string): Promise<Located> {
    const { locate, timeoutMs, clock } = this.#options;
    const abort = new AbortController();
    this.#last = null;
    const late = new Promise<never>((_, reject) => abort.signal.addEventListener("abort", () => reject(new Error("no answer within locateTimeoutMs"))));
    const cancel = clock.after(timeoutMs, () => abort.abort());
    try {
      const question = { not: this.#not.slice(-notMax), ticket, token, signal: abort.signal };
      const answer = await Promise.race([typeof locate === "function" ? locate(question) : fetchLocated(locate ?? "", question), late]);
      return (this.#last = this.#read(answer));
    } finally {
      cancel();
    }
  }

  /**
   * An address to try without an answer; "" where none is known, and in the first attempts where the answer was to ask
   * again later.
   */
  fallback(attempt: number): string {
    if (attempt < patientAttempts) return "";
    const known = [this.#good, this.#options.url].filter((url, i, all) => url !== "" && all.indexOf(url) === i);
    return known[this.#fallbacks++ % known.length] ?? "";
  }

  /** Why the client must not connect there, or null: its token would go to another party, or in plain text. */
  problem(url: string): string | null {
    const { origins } = this.#options;
    const origin = originOf(url);
    if (!/^wss?:/.test(origin)) return "it is no WebSocket address";
    if (!isSecure(url) && (this.#isOwnSecure || isSecure(this.#good))) return "it is not wss";
    return origins.length === 0 || origins.some((one) => matches(one, origin)) ? null : "its origin is not allowed";
  }

  /** A session began at this node. */
  reached(url: string): void {
    this.#good = url;
    this.#not = [];
    this.#fallbacks = 0;
  }

  /** An attempt ended without a session, or the node of a session has gone without a word. */
  lost(node = this.#last?.node): void {
    if (node && !this.#not.includes(node)) this.#not.push(node);
  }

  #read(answer: unknown): Located {
    const { url, node, retryAfterMs = 0 } = (typeof answer === "string" ? { url: answer } : (answer ?? {})) as Partial<Record<keyof Located, unknown>>;
    if (typeof url !== "string") throw new Error("the answer has no url");
    const problem = this.problem(url);
    if (problem !== null) throw new Error(`the answer's url cannot be used: ${problem}`);
    return { url, node: typeof node === "string" ? node : "", retryAfterMs: waitOf(retryAfterMs) };
  }
}

async function fetchLocated(locate: string, { not, ticket, token, signal }: LocateQuestion): Promise<unknown> {
  const url = new URL(locate, globalThis.location?.href);
  if (not.length > 0) url.searchParams.set("not", not.join());
  if (ticket !== "") url.searchParams.set("resume", ticket);
  const response = await fetch(url, { signal, cache: "no-store", credentials: "omit", ...(token !== "" && { headers: { Authorization: `Bearer ${token}` } }) });
  if (response.ok) return response.json();
  throw Object.assign(new Error(`answered ${response.status}`), { retryAfterMs: waitOf(1000 * Number(response.headers.get("Retry-After"))) });
}

function waitOf(ms: unknown): number {
  return typeof ms === "number" && ms > 0 ? Math.min(ms, waitMsMax) : 0;
}

/** "" for what is no address. */
function originOf(url: string): string {
  try {
    return new URL(url).origin;
  } catch {
    return "";
  }
}

function isSecure(url: string): boolean {
  return /^wss:/i.test(url);
}

/** `wss://*.example.com` matches all hosts below it. */
function matches(pattern: string, origin: string): boolean {
  const [before, behind] = pattern.split("*");
  return behind === undefined ? pattern === origin : origin.startsWith(before!) && origin.endsWith(behind);
}

/** @throws SyntaxError from the WebSocket, if the url is invalid. */
export function withTicket(url: string, ticket: string): string {
  if (ticket === "") return url;
  const [address, fragment] = url.split("#");
  return `${address}${address?.includes("?") ? "&" : "?"}resume=${ticket}${fragment === undefined ? "" : `#${fragment}`}`;
}

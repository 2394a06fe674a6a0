/**
 * Requests to one URL of the application's backend, over connections that stay open. Redirects are not followed: only
 * the configuration decides where requests go. Answers are bounded: a longer one fails, and its connection is closed.
 */
import type { IncomingHttpHeaders } from "node:http";
import { errors, Pool, type buildConnector, type Dispatcher } from "undici";

export interface BackendOptions {
  readonly url: string;
  /** Requests at once, each on a connection of its own. */
  readonly connectionsMax: number;
  readonly answerBytesMax: number;
  readonly connectTimeoutMs: number;
  readonly userAgent: string;
  /** Opens connections, in place of the usual way. */
  readonly connector?: buildConnector.connector;
}

export interface BackendAnswer {
  readonly status: number;
  readonly body: string;
}

/** An answer of which only the head counts. */
export interface BackendHead {
  readonly status: number;
  /** The header; "" without one. */
  readonly retryAfter: string;
}

/** Idle connections are kept this long, or as long as the backend says. */
const idleMs = 30_000;
const headersBytesMax = 16_384;
/** Of a body that nobody reads. Beyond it the connection is closed. */
const unreadBytesMax = 65_536;

export class Backend {
  readonly #path: string;
  readonly #pool: Pool;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ url, connectionsMax, answerBytesMax, connectTimeoutMs, userAgent, connector }: BackendOptions) {
    const { origin, pathname, search } = new URL(url);
    this.#path = pathname + search;
    this.#headers = { "content-type": "application/json", accept: "application/json", "user-agent": userAgent };
    this.#pool = new Pool(origin, {
      connections: connectionsMax,
      pipelining: 1,
      keepAliveTimeout: idleMs,
      maxHeaderSize: headersBytesMax,
      maxResponseSize: answerBytesMax,
      ...(connector === undefined ? { connectTimeout: connectTimeoutMs } : { connect: connector }),
      // The caller's signal bounds the whole request.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /**
   * Sends a request. An answer with another status than 2xx comes without its body, which says nothing that counts.
   * @throws whatever went wrong: see `isLost` and `problemOf`
   */
  async post(body: string, headers: object, signal: AbortSignal): Promise<BackendAnswer> {
    const answer = await this.#pool.request({ method: "POST", path: this.#path, headers: { ...this.#headers, ...headers }, body, signal });
    const { statusCode: status } = answer;
    if (status >= 200 && status < 300) return { status, body: await answer.body.text() };
    // Not read to its end: it may have none.
    answer.body.on("error", ignored).destroy();
    return { status, body: "" };
  }

  /**
   * Sends a request whose answer is its status. Without the streams that `post` reads, it costs half as much.
   * @param timeoutMs for all of it, the connection included
   * @throws as `post`
   */
  tell(body: string, headers: object, timeoutMs: number): Promise<BackendHead> {
    return new Promise((resolve, reject) => {
      const telling = new Telling(resolve, reject, timeoutMs);
      this.#pool.dispatch({ method: "POST", path: this.#path, headers: { ...this.#headers, ...headers }, body }, telling);
    });
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

/** A request under way, of whose answer only the head counts. Once that is there, nothing that follows is a failure. */
class Telling implements Dispatcher.DispatchHandler {
  readonly #resolve: (head: BackendHead) => void;
  readonly #reject: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #controller: Dispatcher.DispatchController | null = null;
  #head: BackendHead | null = null;
  #bytes = 0;
  #isOver = false;

  constructor(resolve: (head: BackendHead) => void, reject: (error: unknown) => void, timeoutMs: number) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#timer = setTimeout(() => {
      const late = new TimedOut(timeoutMs);
      this.#end(late);
      this.#controller?.abort(late);
    }, timeoutMs);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isOver) controller.abort(new Error("it took too long to begin"));
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    // What goes before an answer, such as 103, is none.
    if (status < 200) return;
    const after = headers["retry-after"];
    this.#head = { status, retryAfter: typeof after === "string" ? after : "" };
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= unreadBytesMax) return;
    this.#end(null);
    controller.abort(new Error("nobody reads so much"));
  }

  onResponseEnd(): void {
    this.#end(null);
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#end(error);
  }

  #end(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    if (this.#head !== null) this.#resolve(this.#head);
    else this.#reject(error ?? new Error("it closed the connection without an answer"));
  }
}

export class TimedOut extends Error {
  override readonly name = "TimedOut";

  constructor(timeoutMs: number) {
    super(`it did not answer within ${timeoutMs} ms`);
  }
}

/** The connection is closed with the answer that nobody reads. */
function ignored(): void {}

const lostCodes = new Set(["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"]);

/** Whether an open connection was lost: the backend may have closed it while it was idle. A repetition may succeed. */
export function isLost(error: unknown): boolean {
  return lostCodes.has(codeOf(error));
}

/** What went wrong, for the log. */
export function problemOf(error: unknown): string {
  if (error instanceof errors.ResponseExceededMaxSizeError) return "its answer is too long";
  if (error instanceof errors.HeadersOverflowError) return "the headers of its answer are too long";
  if (error instanceof errors.HTTPParserError) return "its answer is not HTTP";
  const code = codeOf(error);
  const text = error instanceof Error ? error.message : String(error);
  return code === "" || text.includes(code) ? text : `${code}: ${text}`;
}

function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return "";
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  return typeof code === "string" ? code : codeOf(cause);
}

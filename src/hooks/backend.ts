/**
 * Requests to one URL of the application's backend, over connections that stay open. Redirects are not followed: only
 * the configuration decides where requests go. Answers are bounded: a longer one fails, and its connection is closed.
 */
import { errors, Pool, type buildConnector } from "undici";

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
    const answer = await this.#request(body, headers, signal);
    const { statusCode: status } = answer;
    if (status >= 200 && status < 300) return { status, body: await answer.body.text() };
    // Not read to its end: it may have none.
    answer.body.on("error", ignored).destroy();
    return { status, body: "" };
  }

  /** Sends a request whose answer is its status. The body is not looked at. @throws as `post` */
  async tell(body: string, headers: object, signal: AbortSignal): Promise<BackendHead> {
    const { statusCode: status, headers: answered, body: unread } = await this.#request(body, headers, signal);
    const { "retry-after": after } = answered;
    // The status has been said, whatever becomes of the body: an endless one is cut off.
    await unread.dump({ limit: unreadBytesMax, signal }).catch(ignored);
    return { status, retryAfter: typeof after === "string" ? after : "" };
  }

  #request(body: string, headers: object, signal: AbortSignal): ReturnType<Pool["request"]> {
    return this.#pool.request({ method: "POST", path: this.#path, headers: { ...this.#headers, ...headers }, body, signal });
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
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

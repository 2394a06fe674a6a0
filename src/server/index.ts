/**
 * `flux-gateway/server`: the HTTP API for a backend on Node, over `fetch`. It imports nothing. A call that fails for now
 * is repeated with the same idempotency key, so a publication never appears twice in a room.
 */
import type { FluxServerOptions, HistoryPage, Joined, Left, MembersPage, Options, Publication, Published, Results, RoomInfo, RoomsPage, Sent, Surveyed, Token, UserInfo } from "./types.ts";

export type * from "./types.ts";

/** Why a call failed. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** A code of the API, such as `forbidden`. `unavailable` also where no answer came. */
  readonly code: string;
  /** The same call may succeed later. A publish has to have the same key then. */
  readonly retryable: boolean;
  /** 0: no answer came. */
  readonly status: number;
  /** Also in the node's log. Empty: no answer came, or not from a node. */
  readonly requestId: string;
  /** Time that the node asks to wait; 0: it does not say. */
  readonly retryAfterMs: number;

  constructor(code: string, text: string, { retryable = false, status = 0, requestId = "", retryAfterMs = 0, cause }: Partial<Pick<ApiError, "retryable" | "status" | "requestId" | "retryAfterMs" | "cause">> = {}) {
    super(text, { cause });
    this.code = code;
    this.retryable = retryable;
    this.status = status;
    this.requestId = requestId;
    this.retryAfterMs = retryAfterMs;
  }
}

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export class FluxServer {
  readonly #base: string;
  readonly #options: FluxServerOptions;

  /** @throws TypeError for a url that is none. */
  constructor(options: FluxServerOptions) {
    const { protocol, username, password } = new URL(options.url);
    if (!/^https?:$/.test(protocol) || username !== "" || password !== "") throw new TypeError("url: must begin with http:// or https://, and have no user and password");
    this.#base = `${options.url.replace(/\/+$/, "")}/api/v1`;
    this.#options = options;
  }

  /** Publishes into a room. Bytes (an ArrayBuffer, or a view on one) are sent as they are, anything else as JSON. */
  async publish(room: string, data: unknown, { key = crypto.randomUUID(), exclude, signal }: Options.Publish = {}): Promise<Published> {
    return this.#call("POST", `/rooms/${name(room)}/publications`, {}, { ...content(data), key, exclude }, signal);
  }

  /** Publishes up to 1,000, those into one room in this order. Each has a result of its own. To repeat one that failed, give it a key. */
  async publishMany(items: readonly Options.Item[], { signal }: Options.Signal = {}): Promise<Results> {
    const body = items.map(({ room, data, key = crypto.randomUUID(), exclude }) => ({ room, ...content(data), key, exclude }));
    return this.#call("POST", "/publications", {}, body, signal);
  }

  /** Publishes the same into up to 1,000 rooms. */
  async broadcast(rooms: readonly string[], data: unknown, { key = crypto.randomUUID(), signal }: Options.Send = {}): Promise<Results> {
    return this.#call("POST", "/broadcasts", {}, { rooms, ...content(data), key }, signal);
  }

  /** Sends a direct message into the inbox of a user, online or not. */
  async send(user: string, data: unknown, { key = crypto.randomUUID(), signal }: Options.Send = {}): Promise<Sent> {
    return this.#call("POST", `/users/${name(user)}/messages`, {}, { ...content(data), key }, signal);
  }

  /** Reads a page of a room's publications. Bytes come back as a Uint8Array. */
  async history(room: string, { signal, ...query }: Options.History = {}): Promise<HistoryPage> {
    const { publications, ...page } = await this.#call<{ publications: ({ b64?: string } & Publication)[] } & Omit<HistoryPage, "publications">>("GET", `/rooms/${name(room)}/history`, query, undefined, signal);
    return { ...page, publications: publications.map(({ b64, ...one }) => (b64 === undefined ? one : { ...one, data: new Uint8Array(Buffer.from(b64, "base64")) })) };
  }

  /** Reads a page of the users in a room. */
  async members(room: string, { signal, ...query }: Options.Members = {}): Promise<MembersPage> {
    return this.#call("GET", `/rooms/${name(room)}/members`, query, undefined, signal);
  }

  /** Reads a page of the rooms that have members. */
  async rooms({ signal, ...query }: Options.Rooms = {}): Promise<RoomsPage> {
    return this.#call("GET", "/rooms", query, undefined, signal);
  }

  /** Counts the members of a room on all nodes. */
  async room(room: string, { signal }: Options.Signal = {}): Promise<RoomInfo> {
    return this.#call("GET", `/rooms/${name(room)}`, {}, undefined, signal);
  }

  /** The sessions of a user on all nodes. */
  async user(user: string, { signal }: Options.Signal = {}): Promise<UserInfo> {
    return this.#call("GET", `/users/${name(user)}`, {}, undefined, signal);
  }

  /** Joins all sessions of a user into a room, and those to come, until `leave`. */
  async join(user: string, room: string, { signal }: Options.Signal = {}): Promise<Joined> {
    return this.#call("PUT", `/users/${name(user)}/rooms/${name(room)}`, {}, undefined, signal);
  }

  async leave(user: string, room: string, { signal }: Options.Signal = {}): Promise<Left> {
    return this.#call("DELETE", `/users/${name(user)}/rooms/${name(room)}`, {}, undefined, signal);
  }

  /** Closes and ends every session of a user. With `signOut`, tokens issued before now are rejected as well. */
  async disconnect(user: string, { signal, ...query }: Options.Disconnect = {}): Promise<Surveyed> {
    return this.#call("DELETE", `/users/${name(user)}/sessions`, query, undefined, signal);
  }

  /** Asks the clients of a user to connect again, to `url` if it is given. They resume their sessions. */
  async reconnect(user: string, { url, signal }: Options.Reconnect = {}): Promise<Surveyed> {
    return this.#call("POST", `/users/${name(user)}/reconnect`, {}, { url }, signal);
  }

  /** Creates a token with which a client connects as this user: where the node has `apiTokens` on, with a key of the scope `tokens`. */
  async token(user: string, { signal, ...wanted }: Options.Token = {}): Promise<Token> {
    return this.#call("POST", "/tokens", {}, { user, ...wanted }, signal);
  }

  async #call<T>(method: string, path: string, query: Query, body: unknown, signal: AbortSignal | undefined): Promise<T> {
    const { retries = 3, retryAfterMaxMs = 10_000, tenant } = this.#options;
    const given = Object.entries({ tenant, ...query }).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]]));
    const url = `${this.#base}${path}${given.length === 0 ? "" : `?${new URLSearchParams(given).toString()}`}`;
    const text = body === undefined ? null : jsonOf(body);
    for (let tries = 0; ; tries++) {
      try {
        return (await this.#ask(method, url, text, signal)) as T;
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof ApiError) || !error.retryable || tries >= retries || error.retryAfterMs > retryAfterMaxMs) throw error;
        // Spread, so that backends that failed together do not come back together.
        await pause(error.retryAfterMs + Math.min(retryAfterMaxMs, 100 * 2 ** tries) * (0.5 + Math.random() / 2), signal);
      }
    }
  }

  async #ask(method: string, url: string, body: string | null, signal: AbortSignal | undefined): Promise<unknown> {
    const { key, timeoutMs = 10_000, fetch: ask = fetch } = this.#options;
    const timeout = AbortSignal.timeout(timeoutMs);
    const headers = { ...(key !== undefined && { Authorization: `Bearer ${key}` }), ...(body !== null && { "Content-Type": "application/json" }) };
    let response: Response, answer: string;
    try {
      // A redirect would take the key to another server.
      response = await ask(url, { method, headers, body, redirect: "error", signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]) });
      answer = await response.text();
    } catch (cause) {
      const what = timeout.aborted ? `no answer within ${timeoutMs} ms` : `no answer: ${cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause)}`;
      throw new ApiError("unavailable", what, { retryable: true, cause });
    }
    const value = parse(answer);
    if (response.ok && value !== undefined) return value;
    throw refusal(response, value);
  }
}

/** A proxy may answer in place of the node, in any form. */
function refusal({ status, headers }: Response, value: unknown): ApiError {
  const { code, detail, retryable, requestId } = (value ?? {}) as Partial<Record<string, unknown>>;
  const retryAfterMs = 1_000 * (Number(headers.get("retry-after")) || 0);
  if (typeof code === "string") return new ApiError(code, String(detail), { retryable: retryable === true, status, requestId: String(requestId), retryAfterMs });
  const isAway = status >= 500 || status === 429;
  return new ApiError(isAway ? "unavailable" : "internal", `answered ${status}, not as a node does; check the url`, { retryable: isAway, status, retryAfterMs });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not of a node
  }
}

function content(data: unknown): { readonly data: unknown } | { readonly b64: string } {
  const bytes = bytesOf(data);
  return bytes === null ? { data } : { b64: bytes.toString("base64") };
}

function bytesOf(data: unknown): Buffer | null {
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  // `instanceof` does not know those of another realm.
  return /^\[object (Shared)?ArrayBuffer\]$/.test(Object.prototype.toString.call(data)) ? Buffer.from(new Uint8Array(data as ArrayBuffer)) : null;
}

/** @throws ApiError for a BigInt, or a cycle */
function jsonOf(body: unknown): string {
  try {
    return JSON.stringify(body);
  } catch (cause) {
    throw new ApiError("bad_request", `the data cannot be written as JSON: ${String(cause)}`, { cause });
  }
}

/** URLs take these names for steps in the path, also when they are escaped. */
function name(given: string): string {
  if (/^\.{0,2}$/.test(given) || !given.isWellFormed()) throw new ApiError("bad_request", `${JSON.stringify(given)} cannot be part of a URL`);
  return encodeURIComponent(given);
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => (clearTimeout(timer), reject(signal?.reason as Error));
    const timer = setTimeout(() => resolve(signal?.removeEventListener("abort", stop)), ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

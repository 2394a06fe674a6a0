import type { Backoff, Clock } from "./clock.ts";
import type { Position, Publication } from "./rooms/publication.ts";
import type { Schema } from "./rooms/schema.ts";
import type { StorageLike } from "./saved.ts";
import type { TokenProvider } from "./connection/tokens.ts";
import type { Locate } from "./connection/locator.ts";
import type { Debug } from "./connection/traffic.ts";
import type { WebSocketConstructor } from "./connection/websocket.ts";

export type ClientOptions = {
  /** WebSocket class. Only needed where the platform has none (Node 20): pass the one of the package `ws`. */
  WebSocket?: WebSocketConstructor;
  /** Token, or a function that returns one. The client calls it for the first connection, before the token expires, and after the node rejected a token. */
  token?: string | TokenProvider;
  /** Where to connect, asked before every attempt: the URL of `/api/connection-url` of any node, or a function that returns an address. Without a usable answer the client uses an address that worked before. */
  locate?: Locate;
  /** Time to get an answer from `locate`. */
  locateTimeoutMs?: number;
  /** Origins that the client may be sent to, by `locate` or by a node: `wss://gw.example.com`, or `wss://*.example.com` for every host below it. Default: any. It never goes from wss to ws. */
  origins?: readonly string[];
  /** Name and version of the application. The node logs it. */
  name?: string;
  /** Stable name of this device. The node stores under it which direct messages the device has acknowledged. In browsers the client generates one and keeps it in `localStorage`. */
  device?: string;
  /** Storage that keeps the session over a reload. In browsers `sessionStorage`; null: the session is not kept. */
  storage?: StorageLike | null;
  /** Waits between attempts to connect: exponential with full jitter, from `baseMs` to `capMs`. A node with many sessions asks for a wider first wait; `capMs` bounds that, too. */
  backoff?: Backoff;
  /** Time to get a token, and time from opening a socket to a session. A slower attempt is given up and repeated. */
  connectTimeoutMs?: number;
  /** Time to wait for the answer to a command. Then it rejects with `timeout`. */
  commandTimeoutMs?: number;
  /** Time a socket may be silent beyond the node's heartbeat, and time to answer a ping after that. Then the client drops the socket and reconnects. */
  graceMs?: number;
  /** Publishes and sends that may wait for a connection or an answer. Beyond, they reject with `overloaded`. */
  waitingPublishesMax?: number;
  /** Payload bytes of waiting publishes and sends. Beyond, they reject with `overloaded`. */
  waitingBytesMax?: number;
  /** Publications per room that may wait while the client fetches what is missing before them. Beyond, the room emits `gap`. The same number of direct messages may wait for the handler. */
  heldPublicationsMax?: number;
  /** Time the node remembers idempotency keys (its option `keyWindowMs`). The client repeats nothing that is older. */
  keyWindowMs?: number;
  /** Called with every socket, frame and close, without payloads and tokens: `debug: console.debug`. */
  debug?: Debug;
  /** For tests. */
  clock?: Clock;
  random?: () => number;
};

export type JoinOptions<Data = unknown> = {
  /** Position to recover from: the room begins with everything after it. After a reload the client knows the position itself. */
  recover?: Position;
  /** Number of publications to begin with: the newest, or, after a reload, those before the stored position. */
  history?: number;
  /** Listener for `publication`, added before anything can arrive. */
  onPublication?: (publication: Publication<Data>) => void;
  /** Schema for data that arrives, of any library with Standard Schema. It must answer at once. Data that does not match is an `error` (`invalid_data`) instead of a `publication`. */
  schema?: Schema<Data>;
  /** Leaves the room when aborted. Aborted before, `join()` throws its reason. */
  signal?: AbortSignal;
};

export type SendOptions = {
  /** Idempotency key. A second send with the same key has no effect while the node remembers the key. Random by default. */
  key?: string;
  /** Gives up waiting: the promise rejects with its reason. What was not sent by then is not sent. What was sent may take place. */
  signal?: AbortSignal;
};

/** How long to wait for an answer. */
export type WaitOptions = {
  /** Gives up waiting: the promise rejects with its reason. */
  signal?: AbortSignal;
};

/** Position of a direct message in the inbox of its recipient. */
export type Sent = Position & {
  /** The key had been used before: this is the position of the first message. */
  readonly duplicate: boolean;
};

export const defaults = {
  token: "",
  name: "flux-client",
  backoff: { baseMs: 500, capMs: 20_000 },
  locateTimeoutMs: 3000,
  connectTimeoutMs: 10_000,
  commandTimeoutMs: 10_000,
  graceMs: 10_000,
  waitingPublishesMax: 1000,
  waitingBytesMax: 4 * 1024 * 1024,
  heldPublicationsMax: 1000,
  keyWindowMs: 120_000,
} as const;

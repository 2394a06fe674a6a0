import type { Backoff, Clock } from "./clock.ts";
import type { Position, Publication } from "./rooms/publication.ts";
import type { StorageLike } from "./saved.ts";
import type { TokenProvider } from "./connection/tokens.ts";
import type { WebSocketConstructor } from "./connection/wire.ts";

export type ClientOptions = {
  /** Where the platform has no WebSocket of its own (Node 20): the one of the package `ws`. */
  WebSocket?: WebSocketConstructor;
  /** A token, or who to ask for one: at first, before it expires, and when the node did not take the one before. */
  token?: string | TokenProvider;
  /** Name and version of the application, for the node's logs. */
  name?: string;
  /** A stable name of this device, under which the node knows what it has read of its inbox. In browsers one is made and kept. */
  device?: string;
  /** Keeps the session over a reload of the page. In browsers the tab's sessionStorage; null: it is not kept. */
  storage?: StorageLike | null;
  /** Waits between attempts to connect: base 500 ms, cap 20 s, with full jitter. A node that holds many widens the first one, below the cap. */
  backoff?: Backoff;
  /** For a token, and from opening a socket to having a session. 10 s. */
  connectTimeoutMs?: number;
  /** For the answer to a command. 10 s. */
  commandTimeoutMs?: number;
  /** How long a socket may be silent beyond the node's heartbeat, and then take to answer a ping. 10 s. */
  graceMs?: number;
  /** Publishes and sends that may wait for their answers or for a connection; beyond, they reject with `overloaded`. 1,000. */
  waitingPublishesMax?: number;
  /** Bytes of their payloads. 4 MiB. */
  waitingBytesMax?: number;
  /** Publications per room that may wait while a gap before them is being closed; beyond, the gap is told. 1,000. */
  heldPublicationsMax?: number;
  /** How long the node remembers idempotency keys (its keyWindowMs): nothing is repeated after it. 2 min. */
  keyWindowMs?: number;
  /** For tests. */
  clock?: Clock;
  random?: () => number;
};

export type JoinOptions = {
  /** Go on from this position, of an earlier stay. Where the page was reloaded, the client knows it by itself. */
  recover?: Position;
  /** Begin with this many publications from before: the newest, or those before the position that is gone on from. */
  history?: number;
  onPublication?: (publication: Publication) => void;
};

export type SendOptions = {
  /** Idempotency key: while the node remembers it, a second send with it changes nothing. Random unless given. */
  key?: string;
};

/** Where the node put a direct message. */
export type Sent = Position & {
  /** It had been sent before, by a try whose answer was lost or by someone who used the same key. */
  readonly duplicate: boolean;
};

export const defaults = {
  token: "",
  name: "flux-client",
  backoff: { baseMs: 500, capMs: 20_000 },
  connectTimeoutMs: 10_000,
  commandTimeoutMs: 10_000,
  graceMs: 10_000,
  waitingPublishesMax: 1000,
  waitingBytesMax: 4 * 1024 * 1024,
  heldPublicationsMax: 1000,
  keyWindowMs: 120_000,
} as const;

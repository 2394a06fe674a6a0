/** What a connection needs, and what it tells. */
import type { Ready, Resume, ServerFrame } from "../../protocol/messages.ts";
import type { Backoff, Clock } from "../clock.ts";
import type { FluxError } from "../flux-error.ts";
import type { Locator } from "./locator.ts";
import type { StateChange } from "./state.ts";
import type { Tokens } from "./tokens.ts";
import type { Traffic } from "./traffic.ts";
import type { WebSocketConstructor } from "./websocket.ts";

export type ConnectionOptions = {
  /** "" where the locator finds it. */
  url: string;
  locator: Locator;
  traffic: Traffic;
  WebSocket: WebSocketConstructor;
  tokens: Tokens;
  name: string;
  device: string;
  backoff: Backoff;
  connectTimeoutMs: number;
  commandTimeoutMs: number;
  graceMs: number;
  clock: Clock;
  random: () => number;
};

export type ConnectionOwner = {
  onState(change: StateChange): void;
  /** The session can be resumed from now on. Called before listeners hear of it, since they may leave it. */
  onSession(ready: Ready): void;
  onReady(ready: Ready): void;
  /** The session to resume in hello; null: start a new one. */
  resume(): Resume | null;
  /** Ticket that gives precedence at an overloaded node; "" before the first session. */
  ticket(): string;
  /** The session cannot be resumed: another socket has it, or it needs a token. */
  onForfeited(): void;
  /** Called with each event: a frame that is no reply. */
  onEvent(event: ServerFrame): void;
  /** The socket is lost and waiting commands have failed. Another socket may follow. */
  onLost(): void;
  onError(error: FluxError): void;
};

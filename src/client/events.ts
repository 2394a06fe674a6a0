/** What a client tells. */
import type { Closed } from "./connection/closed.ts";
import type { State, StateChange } from "./connection/state.ts";
import type { FluxError } from "./flux-error.ts";
import type { Ready } from "./rooms/publication.ts";
import type { Room } from "./rooms/room.ts";
import type { UserStatus } from "./watches.ts";

export type ClientEvents = {
  /** A session began, or the previous one was resumed on a new socket (`resumed`). */
  ready: Ready;
  /** The connection changed its state. */
  state: StateChange;
  /** The token expires at this time. With a token provider the client fetches a new one; without, call `refresh()`. */
  expiring: Date;
  /** The node accepted a new token, which expires at this time; null: never. */
  refreshed: Date | null;
  /** A watched user came online or went offline. */
  status: UserStatus;
  /** The application joined this user into a room. Add listeners to the room at once; it rejoins like any other. */
  joined: Room;
  /** Something failed that no promise reports. */
  error: FluxError;
  /** The client gave up: `close()` was called, or the node closed the socket with a code that forbids reconnecting. */
  closed: Closed;
};

/** Counts of a client since it was made. `client.stats()` returns them. */
export type ClientStats = {
  /** State of the connection. */
  readonly state: State;
  /** Name of the node of the current session; "" without one. */
  readonly node: string;
  /** Sockets that were opened, those that failed included. */
  readonly sockets: number;
  /** Sessions that began or were resumed. */
  readonly sessions: number;
  /** Among them, those that were resumed. */
  readonly resumed: number;
  /** Frames sent. */
  readonly framesSent: number;
  /** Frames received. */
  readonly framesReceived: number;
  /** Bytes of the frames sent. */
  readonly bytesSent: number;
  /** Bytes of the frames received. */
  readonly bytesReceived: number;
  /** Rooms that the client is in or is joining, its inbox included. */
  readonly rooms: number;
  /** Publishes and sends that wait for a connection or an answer. */
  readonly waiting: number;
  /** Bytes of their payloads. */
  readonly waitingBytes: number;
};

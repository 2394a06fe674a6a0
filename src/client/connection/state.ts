import type { Closed } from "./closed.ts";

/** State of the connection. `waiting`: the next attempt is scheduled. `closed`: the client gave up. */
export type State = "connecting" | "ready" | "waiting" | "closed";

/** A change of the connection's state. */
export type StateChange = {
  /** New state. */
  readonly state: State;
  /** While `waiting`: milliseconds until the next attempt; null while the client is suspended. */
  readonly retryInMs: number | null;
  /** While `waiting` or `closed`: why the last socket closed. */
  readonly cause: Closed | null;
};

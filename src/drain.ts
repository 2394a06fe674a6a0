/** What can be asked of a node that is to end, and how far it is. */

export interface DrainOptions {
  /** Over how long the sessions are sent away, in milliseconds; `drainMs` unless given, 0: at once. */
  readonly windowMs?: number | undefined;
  /** Where clients are sent; unless given, where they came from, which mostly is a balancer. */
  readonly url?: string | undefined;
}

/** `over`: nobody is left, the node ends. */
export interface DrainProgress {
  readonly state: "serving" | "draining" | "over";
  /** Sockets there were when it began, and those that are left. */
  readonly sessions: number;
  readonly left: number;
  readonly windowMs: number;
  readonly elapsedMs: number;
}

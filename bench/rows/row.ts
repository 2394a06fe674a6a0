/** A row of the bench: one kind of load, measured on one server at a time. */
import type { Format } from "../load/conversation.ts";
import type { ServerName } from "../servers/start.ts";

export type RowName =
  | "archive" | "archive-away" | `connects-${Format}-${number}-${"open" | "token" | "resume"}`
  | `fanout-${number}` | `fanout-${Format}-${number}` | `speed-${Format}-${number}-${number}` | `speed-${Format}-reactors-${number}-${number}-${number}` | `speed-${Format}-idle` | `speed-${Format}-idle-awake` | `speed-${Format}-exclude-self-${number}-${number}` | `peers-${number}-${number}` | `load-client-${Format}-${number}-${number}` | "echo" | "idle" | "idle-presence" | "idle-cost" | "cross" | "handshake" | "connection-url" | "storm" | "lost-node-any" | "lost-node-hash" | "elastic-any" | "elastic-hash" | "broadcast-any" | "broadcast-hash" | "durable" | "catchup" | "flush"
  | "lb" | "nodes" | "nats-durable" | "durable-nodes" | "nats-fanout" | "partition" | "recovery" | "recovery-storm" | "rolling" | "rooms" | "api" | "api-members" | "hooks" | "webhooks";

/** By metric key. */
export type Values = Readonly<Record<string, number>>;

export type Metric = { key: string; title: string; unit: string; digits: number };

/**
 * A goal for the judged server. `ratio`: to bare uWS in the same round; `above`: what it has more than bare uWS there. Figures are judged by their median over the rounds,
 * events that must not occur (`never`) by the worst round.
 */
export type Bar =
  | { metric: string; of: "value" | "ratio" | "above"; atMost?: number; below?: number; atLeast?: number }
  | { metric: string; of: "value"; never: true };

export type Scale = {
  /** Seconds per measurement. */
  seconds: number;
  members: number;
  sockets: number;
  relaySamples: number;
  profileDir: string | null;
};

/** Reports the current phase and its expected seconds. */
export type Say = (phase: string, seconds: number) => void;

export type Row = {
  name: RowName;
  /** Servers to measure. Default: flux-gateway and the controls that are packages. */
  servers?: readonly ServerName[];
  title(scale: Scale): string;
  metrics: readonly Metric[];
  /** Metric whose ratio to bare uWS is shown. */
  compared: string;
  /**
   * Metric that says which part of the offered load was delivered, in per cent. A round in which it is further from 100 is
   * no comparison: CPU and latency belong to another rate. More than 100 is a backlog of the warm-up.
   */
  equalRate?: { metric: string; within: number };
  /** Server that the bars judge. Default: flux-gateway. */
  judged?: ServerName;
  bars: readonly Bar[];
  secondsPlanned(scale: Scale): number;
  run(server: ServerName, scale: Scale, say: Say): Promise<Values>;
};

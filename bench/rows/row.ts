/** What a row of the bench is: one kind of load, measured at one server at a time. */
import type { ServerName } from "../servers/start.ts";

export type RowName =
  | "fanout-100" | "fanout-2000" | "fanout-json-100" | "fanout-json-2000" | "echo" | "idle" | "idle-presence" | "cross" | "handshake" | "storm" | "durable" | "catchup" | "flush"
  | "nodes" | "nats-durable" | "nats-fanout" | "recovery" | "recovery-storm" | "rolling" | "rooms";

/** By metric key. */
export type Values = Readonly<Record<string, number>>;

export type Metric = { key: string; title: string; unit: string; digits: number };

/**
 * What flux-gateway must reach. `ratio`: to bare uWS in the same round. Figures are judged by their median over the
 * rounds; what may never happen (`never`) by the worst round.
 */
export type Bar =
  | { metric: string; of: "value" | "ratio"; atMost?: number; below?: number; atLeast?: number }
  | { metric: string; of: "value"; never: true };

export type Scale = {
  /** Seconds of measuring. */
  seconds: number;
  members: number;
  sockets: number;
  relaySamples: number;
  profileDir: string | null;
};

/** Says what happens now and how many seconds that takes. */
export type Say = (phase: string, seconds: number) => void;

export type Row = {
  name: RowName;
  /** Who can be measured; everybody unless given. */
  servers?: readonly ServerName[];
  title(scale: Scale): string;
  metrics: readonly Metric[];
  /** The metric whose ratio to bare uWS is printed. */
  compared: string;
  bars: readonly Bar[];
  secondsPlanned(scale: Scale): number;
  run(server: ServerName, scale: Scale, say: Say): Promise<Values>;
};

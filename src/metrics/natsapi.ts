/** Metrics of calls that came over NATS. Only with natsApi. */
import type { Registry } from "prom-client";
import { total } from "./metrics.ts";

export interface NatsApiUsage {
  readonly answered: number;
  readonly unanswered: number;
  readonly dropped: number;
}

export function addNatsApiMetrics(registry: Registry, usage: () => NatsApiUsage): void {
  const help = "Messages on the subjects of the HTTP API: answered, unanswered (done, nobody waited for the answer) or dropped (refused, nobody waited)";
  total(registry, "flux_nats_api_messages_total", help, ["outcome"], (add) => {
    for (const [outcome, count] of Object.entries(usage())) add({ outcome }, count as number);
  });
}

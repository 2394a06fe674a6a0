/** Metrics of hooks: what the application's backend was asked, and what it said. */
import type { Registry } from "prom-client";
import { gauge, histogram, total } from "./metrics.ts";

/** Of one hook; see src/hooks/counts.ts. */
interface Usage {
  readonly hook: string;
  readonly namespace: string;
  readonly sent: number;
  readonly remembered: number;
  readonly allowed: number;
  readonly denied: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly running: number;
  readonly waiting: number;
  readonly breaker: "closed" | "open" | "trial";
  readonly buckets: readonly number[];
  readonly sumMs: number;
}

export interface HooksUsage {
  readonly remembered: number;
  readonly boundsMs: readonly number[];
  readonly hooks: readonly Usage[];
}

const labels = ["hook", "namespace"] as const;

export function addHookMetrics(registry: Registry, usage: () => HooksUsage): void {
  const each = (use: (hook: Usage, labels: { hook: string; namespace: string }) => void) => usage().hooks.forEach((one) => use(one, { hook: one.hook, namespace: one.namespace }));
  const named = [...labels];
  total(registry, "flux_hook_requests_total", "Requests to the application's backend, repetitions included", named, (add) => each(({ sent }, of) => add(of, sent)));
  total(registry, "flux_hook_verdicts_total", "Questions of hooks by verdict: allowed, denied, or remembered (answered by an earlier verdict)", [...named, "verdict"], (add) =>
    each(({ allowed, denied, remembered }, of) => {
      add({ ...of, verdict: "allowed" }, allowed);
      add({ ...of, verdict: "denied" }, denied);
      add({ ...of, verdict: "remembered" }, remembered);
    }),
  );
  total(registry, "flux_hook_failures_total", "Questions of hooks without a verdict, which hookOnFailure decided, by reason: timeout, connection, status, answer, breaker (not asked, as the backend fails), full (not asked, as too many wait)", [...named, "reason"], (add) =>
    each(({ failures }, of) => Object.entries(failures).forEach(([reason, count]) => add({ ...of, reason }, count))),
  );
  gauge(registry, "flux_hook_running", "Questions of hooks under way", named, (metric) => each(({ running }, of) => metric.set(of, running)));
  gauge(registry, "flux_hook_waiting", "Questions of hooks that wait for a connection", named, (metric) => each(({ waiting }, of) => metric.set(of, waiting)));
  gauge(registry, "flux_hook_breaker_open", "1 while the backend of a hook fails and is not asked; 0.5 while one question tries it", named, (metric) =>
    each(({ breaker }, of) => metric.set(of, breaker === "closed" ? 0 : breaker === "open" ? 1 : 0.5)),
  );
  gauge(registry, "flux_hook_verdicts_kept", "Verdicts of hooks that are remembered", [], (metric) => metric.set(usage().remembered));
  const { boundsMs } = usage();
  registry.registerMetric(histogram("flux_hook_seconds", "Time from a question of a hook to its verdict or failure", boundsMs, () => usage().hooks.map(({ hook, namespace, buckets, sumMs }) => ({ labels: { hook, namespace }, buckets, sumMs }))));
}

/** Metrics of webhooks: what endpoints were told, and what waits. */
import type { Registry } from "prom-client";
import { gauge, total } from "./metrics.ts";

/** Of one endpoint. Reading it costs the same whatever waits: each metric reads it again. */
export interface WebhookUsage {
  readonly endpoint: string;
  readonly told: number;
  readonly deadLetters: number;
  readonly lost: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly running: number;
  /** Subjects with facts, those under way included, and those among them that the endpoint did not take. */
  readonly subjects: number;
  readonly parked: number;
  /** Facts that wait, as far as this node has looked. */
  readonly waiting: number;
  /** Of the oldest fact that waits. */
  readonly ageMs: number;
  readonly breaker: "closed" | "open" | "trial";
  readonly isDisabled: boolean;
}

/** Of all endpoints together: what waits, its bounds, and what was refused at them. */
export interface WebhookQueue {
  readonly events: number;
  readonly eventsMax: number;
  readonly bytes: number;
  readonly bytesMax: number;
  readonly refused: { readonly events: number; readonly bytes: number };
}

export function addWebhookMetrics(registry: Registry, usage: () => readonly WebhookUsage[], queue: () => WebhookQueue): void {
  const labels = ["endpoint"];
  const counted = (name: string, help: string, read: (one: WebhookUsage) => number) => total(registry, name, help, [...labels], (add) => usage().forEach((one) => add({ endpoint: one.endpoint }, read(one))));
  const shown = (name: string, help: string, read: (one: WebhookUsage) => number) => gauge(registry, name, help, [...labels], (metric) => usage().forEach((one) => metric.set({ endpoint: one.endpoint }, read(one))));
  counted("flux_webhook_told_total", "Events that the endpoint of a webhook took from this node", ({ told }) => told);
  total(registry, "flux_webhook_failures_total", "Attempts to tell the endpoint of a webhook an event that failed and are repeated, by reason: timeout, connection, address (in a private network), status", [...labels, "reason"], (add) =>
    usage().forEach(({ endpoint, failures }) => Object.entries(failures).forEach(([reason, count]) => add({ endpoint, reason }, count))));
  counted("flux_webhook_dead_letters_total", "Events that became dead letters: the endpoint refused them, or failed for too long", ({ deadLetters }) => deadLetters);
  counted("flux_webhook_lost_total", "Events that were deleted untold: too many of one room or user waited", ({ lost }) => lost);
  shown("flux_webhook_running", "Rooms and users whose events are being told", ({ running }) => running);
  shown("flux_webhook_queues", "Rooms and users with events that the endpoint of a webhook was not told yet, as far as this node tells them", ({ subjects }) => subjects);
  shown("flux_webhook_parked", "Rooms and users among them whose event failed five times or more", ({ parked }) => parked);
  shown("flux_webhook_waiting", "Events that the endpoint of a webhook was not told yet, as far as this node has looked", ({ waiting }) => waiting);
  shown("flux_webhook_age_seconds", "Age of the oldest of these events", ({ ageMs }) => ageMs / 1000);
  shown("flux_webhook_breaker_open", "1 while the endpoint of a webhook fails and is tried every few seconds only; 0.5 while it is tried", ({ breaker }) => (breaker === "closed" ? 0 : breaker === "open" ? 1 : 0.5));
  shown("flux_webhook_disabled", "1 where the endpoint of a webhook has answered 410 (gone)", ({ isDisabled }) => (isDisabled ? 1 : 0));
  const ofQueue = (name: string, help: string, read: (one: WebhookQueue) => number) => gauge(registry, name, help, [], (metric) => metric.set(read(queue())));
  ofQueue("flux_webhook_queue_events", "Events of all webhooks that wait, as far as this node tells them", ({ events }) => events);
  ofQueue("flux_webhook_queue_events_limit", "The bound of these events, webhookEventsMax: above it new ones are refused", ({ eventsMax }) => eventsMax);
  ofQueue("flux_webhook_queue_bytes", "Bytes of these events", ({ bytes }) => bytes);
  ofQueue("flux_webhook_queue_bytes_limit", "The bound of these bytes, webhookEventsBytesMax", ({ bytesMax }) => bytesMax);
  total(registry, "flux_webhook_refused_total", "Changes of rooms and users of which no event was kept, as too many waited, by the bound: events, bytes", ["bound"], (add) =>
    Object.entries(queue().refused).forEach(([bound, count]) => add({ bound }, count)));
}

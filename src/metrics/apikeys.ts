/** Metrics of API keys: what is known of them, and what was done with each. */
import type { Registry } from "prom-client";
import type { ApiKeysUsage } from "../auth/apikeys.ts";
import { gauge, total } from "./metrics.ts";

export function addApiKeyMetrics(registry: Registry, usage: () => ApiKeysUsage): void {
  gauge(registry, "flux_api_keys", "API keys that this node knows", [], (metric) => metric.set(usage().keys));
  gauge(registry, "flux_api_keys_stale", "1 while the API keys cannot be read: the node goes on with those it read last", [], (metric) => metric.set(usage().problem === "" ? 0 : 1));
  const named = "by key: its name, or jwt, admin, nats, open (no key needed), or other (more than 100 names)";
  total(registry, "flux_api_key_requests_total", `Requests to the HTTP API that were let in, ${named}`, ["key"], (add) => {
    for (const { key, requests } of usage().byKey) add({ key }, requests);
  });
  total(registry, "flux_api_key_publications_total", `Publications that requests to the HTTP API asked for, ${named}`, ["key"], (add) => {
    for (const { key, publications } of usage().byKey) add({ key }, publications);
  });
  total(registry, "flux_api_key_limited_total", `Requests to the HTTP API refused by the limits of the key, ${named}`, ["key"], (add) => {
    for (const { key, limited } of usage().byKey) add({ key }, limited);
  });
  total(registry, "flux_api_unauthorized_total", "Requests to the HTTP API without a valid credential", [], (add) => add({}, usage().unauthorized));
}

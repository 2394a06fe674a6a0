/** The board of all nodes of a gateway, and of what they depend on. */
import type { Board, Line } from "./panels.ts";

const of = '{job="$job"}';
const each = (metric: string, by = "instance") => `sum by (${by}) (${metric}${of})`;
const rate = (metric: string, by = "instance") => `sum by (${by}) (rate(${metric}${of}[$__rate_interval]))`;
const quantiles = (metric: string): Line[] => [["p50", 0.5], ["p99", 0.99]].map(([name, q]) => [String(name), `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket${of}[$__rate_interval])))`]);

export const fleet: Board = {
  uid: "flux-fleet",
  title: "flux-gateway: fleet",
  says: "All nodes side by side, and what they depend on: NATS, Redis, the backend of hooks and webhooks, PostgreSQL.",
  ofOneNode: false,
  rows: [
    {
      title: "Fleet",
      panels: [
        { title: "Nodes up", says: "Nodes that Prometheus scrapes.", unit: "short", stat: true, lines: [["up", `sum(up${of})`]] },
        { title: "Nodes ready", says: "Nodes that accept sockets.", unit: "short", stat: true, lines: [["ready", `sum(flux_ready${of})`]] },
        { title: "Sockets", says: "On all nodes.", unit: "short", stat: true, lines: [["sockets", `sum(flux_sockets${of})`]] },
        { title: "Users online", says: "As presence counts them, the same on all nodes where they share Redis.", unit: "short", stat: true, lines: [["users", `max(flux_users_online${of})`]] },
        { title: "Deliveries/s", says: "On all nodes.", unit: "ops", stat: true, lines: [["deliveries", `sum(rate(flux_deliveries_total${of}[$__rate_interval]))`]] },
        { title: "Draining", says: "Nodes that drain.", unit: "short", stat: true, lines: [["draining", `sum(flux_draining${of})`]] },
      ],
    },
    {
      title: "Nodes",
      panels: [
        { title: "Sockets", says: "By node.", unit: "short", stacked: true, lines: [["{{instance}}", each("flux_sockets")]] },
        { title: "Sessions resumed", says: "Peaks: clients of a lost or draining node come to the others.", unit: "ops", lines: [["{{instance}}", rate("flux_sessions_resumed_total")]] },
        { title: "Refusals by reason", says: "Of all nodes, before the upgrade.", unit: "ops", lines: [["{{reason}}", rate("flux_refusals_total", "reason")]] },
        { title: "Deliveries", says: "By node.", unit: "ops", stacked: true, lines: [["{{instance}}", rate("flux_deliveries_total")]] },
        { title: "Slowest event loop", says: "p99 of the last second, of the slowest reactor of each node.", unit: "s", lines: [["{{instance}}", `max by (instance) (flux_reactor_loop_lag_seconds{job="$job", quantile="0.99"})`]] },
        { title: "Memory beside the limit", says: "At 1 a node refuses sockets.", unit: "percentunit", lines: [["{{instance}}", `flux_memory_used_bytes${of} / flux_memory_limit_bytes${of}`]] },
        { title: "Versions", says: "Two during an upgrade.", unit: "short", lines: [["{{version}}", `count by (version) (flux_info${of})`]] },
        { title: "Slow readers closed", says: "With 3008.", unit: "ops", lines: [["{{instance}}", rate("flux_slow_consumers_total")]] },
        { title: "Nodes as the nodes see them", says: "The most of each state that any node knows.", unit: "short", lines: [["{{state}}", `max by (state) (flux_nodes${of})`]] },
      ],
    },
    {
      title: "NATS",
      panels: [
        { title: "Connected", says: "1: NATS answers.", unit: "short", lines: [["{{instance}}", `flux_nats_connected${of}`]] },
        { title: "Broker's answer", says: "From a publish to its position, of one publication in 16.", unit: "s", lines: quantiles("flux_broker_answer_seconds") },
        { title: "Unacknowledged", says: "Publications that NATS has not acknowledged yet.", unit: "short", lines: [["{{instance}}", `flux_nats_pending_acks${of}`]] },
        { title: "Timeouts, gaps, restarts", says: "Not acknowledged in time; read from a stream since a copy was missing; streams that lost what they kept.", unit: "ops", lines: [["timeouts", rate("flux_nats_timeouts_total", "job")], ["gaps", rate("flux_nats_gap_publications_total", "job")], ["stream restarts", rate("flux_nats_stream_restarts_total", "job")], ["reconnects", rate("flux_nats_reconnects_total", "job")]] },
      ],
    },
    {
      title: "Redis",
      panels: [
        { title: "Connected", says: "1: Redis answers and delivers messages.", unit: "short", lines: [["{{instance}}", `flux_redis_connected${of}`]] },
        { title: "Commands", says: "Sent, and failed.", unit: "ops", lines: [["sent", rate("flux_redis_commands_total", "job")], ["failed", rate("flux_redis_failures_total", "job")]] },
        { title: "Session writes that wait", says: "They grow while Redis is unavailable.", unit: "short", lines: [["{{instance}}", `flux_sessions_writes_waiting${of}`]] },
      ],
    },
    {
      title: "Partitions (--placement partition)",
      panels: [
        { title: "Partitions held", says: "By node.", unit: "short", stacked: true, lines: [["{{instance}}", `flux_partitions_held${of}`]] },
        { title: "Partitions without a holder", says: "Their users wait.", unit: "short", lines: [["unowned", `max(flux_partitions_unowned${of})`]] },
        { title: "Backlog by partition", says: "Direct messages that were not handed to sessions yet. At most 32 partitions are named.", unit: "short", lines: [["{{partition}}", `max by (partition) (flux_partition_backlog_messages${of})`]] },
        { title: "Oldest message by partition", says: "Age of the oldest direct message.", unit: "s", lines: [["{{partition}}", `max by (partition) (flux_partition_backlog_seconds${of})`]] },
      ],
    },
    {
      title: "Hooks",
      panels: [
        { title: "Latency of the backend", says: "From a question to its verdict or failure.", unit: "s", lines: quantiles("flux_hook_seconds") },
        { title: "Verdicts and failures", says: "A failure is decided by hookOnFailure.", unit: "ops", lines: [["{{hook}} {{verdict}}", rate("flux_hook_verdicts_total", "hook, verdict")], ["{{hook}} failed: {{reason}}", rate("flux_hook_failures_total", "hook, reason")]] },
        { title: "Breaker", says: "1: the backend of a hook fails, and is not asked.", unit: "short", lines: [["{{hook}} {{instance}}", `max by (hook, instance) (flux_hook_breaker_open${of})`]] },
      ],
    },
    {
      title: "Webhooks",
      panels: [
        { title: "Events told", says: "Events that endpoints took, and those that became dead letters.", unit: "ops", lines: [["{{endpoint}} told", rate("flux_webhook_told_total", "endpoint")], ["{{endpoint}} dead letters", rate("flux_webhook_dead_letters_total", "endpoint")]] },
        { title: "Failed attempts", says: "They are repeated. address: the endpoint is in a private network.", unit: "ops", lines: [["{{endpoint}} {{reason}}", rate("flux_webhook_failures_total", "endpoint, reason")]] },
        { title: "Oldest event", says: "Age of the oldest event that waits for an endpoint.", unit: "s", lines: [["{{endpoint}}", `max by (endpoint) (flux_webhook_age_seconds${of})`]] },
        { title: "Events that wait", says: "By endpoint, beside the bound of a node: at it new events are refused.", unit: "short", lines: [["{{endpoint}}", each("flux_webhook_waiting", "endpoint")], ["bound of a node", `max(flux_webhook_queue_events_limit${of})`]] },
        { title: "Breaker and 410", says: "1: an endpoint fails and is tried every few seconds; or it answered 410 and is told nothing.", unit: "short", lines: [["{{endpoint}} fails", `max by (endpoint) (flux_webhook_breaker_open${of})`], ["{{endpoint}} disabled", `max by (endpoint) (flux_webhook_disabled${of})`]] },
        { title: "Refused and lost", says: "Changes of which no event was kept, as too many waited; events deleted since too many of one room waited.", unit: "ops", lines: [["refused: {{bound}}", rate("flux_webhook_refused_total", "bound")], ["{{endpoint}} lost", rate("flux_webhook_lost_total", "endpoint")]] },
      ],
    },
    {
      title: "PostgreSQL",
      panels: [
        { title: "Archive lag", says: "Age of the oldest publication that waits, beside the age at which streams delete it.", unit: "s", lines: [["{{instance}}", `flux_archive_lag_seconds${of}`], ["limit", `max(flux_archive_lag_limit_seconds${of})`]] },
        { title: "Archived", says: "Rows, and publications that are missing.", unit: "ops", lines: [["rows", rate("flux_archive_rows_total", "job")], ["missing", rate("flux_archive_missing_publications_total", "job")]] },
        { title: "Outbox", says: "Taken from the outbox, and refused for good.", unit: "ops", lines: [["published", rate("flux_outbox_published_total", "job")], ["refused", rate("flux_outbox_refused_total", "job")]] },
      ],
    },
  ],
};

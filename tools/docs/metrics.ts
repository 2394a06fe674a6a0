/** The page of metrics, from the registry that a node fills: with a disk, NATS and Redis, so that none is missing. */
import { collectDefaultMetrics, Registry } from "prom-client";
import { code, sentence, table } from "../../src/cli/tables.ts";
import { createCounters, Counters } from "../../src/link/counters.ts";
import { addApiMetrics } from "../../src/metrics/api.ts";
import { addApiKeyMetrics } from "../../src/metrics/apikeys.ts";
import { addArchiveMetrics } from "../../src/metrics/archive.ts";
import { addOutboxMetrics } from "../../src/metrics/outbox.ts";
import { addDiskMetrics } from "../../src/metrics/disk.ts";
import { addLbMetrics } from "../../src/metrics/lb.ts";
import { createMetrics } from "../../src/metrics/metrics.ts";
import { addHttpMetrics } from "../../src/metrics/http.ts";
import { addNatsApiMetrics } from "../../src/metrics/natsapi.ts";
import { addHookMetrics } from "../../src/metrics/hooks.ts";
import { addWebhookMetrics } from "../../src/metrics/webhooks.ts";
import { addNatsMetrics } from "../../src/metrics/nats.ts";
import { addHoldingMetrics, addPlacementMetrics } from "../../src/metrics/placement.ts";
import { addRedisMetrics } from "../../src/metrics/redis.ts";

interface Row {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
}

/** Groups by what a name begins with; the first that fits. */
const groups: readonly (readonly [title: string, starts: readonly string[]])[] = [
  ["Load balancer (`flux-gateway lb`, and none of the others)", ["flux_lb_"]],
  ["Disk (only with `dataDir`)", ["flux_disk_"]],
  ["Archive (only with `archive`)", ["flux_archive_"]],
  ["Outbox (only with `outbox`)", ["flux_outbox_"]],
  ["NATS (only with `nats`)", ["flux_nats_"]],
  ["Redis (only with `redis`)", ["flux_redis_", "flux_sessions_writes_"]],
  ["Hooks (only with a hook)", ["flux_hook_"]],
  ["Webhooks (only with an endpoint)", ["flux_webhook_"]],
  ["Partitions (only with `--placement partition`)", ["flux_partition"]],
  ["Sockets, sessions and handshakes", ["flux_sockets", "flux_socket_", "flux_transport_", "flux_refusals", "flux_handshakes", "flux_resumes", "flux_sessions_", "flux_closes", "flux_unreadable", "flux_tokens", "flux_auth"]],
  ["Commands, publications and deliveries", ["flux_publi", "flux_commands_", "flux_deliver", "flux_error", "flux_rate", "flux_frames", "flux_bytes", "flux_fanout"]],
  ["API keys", ["flux_api_key", "flux_api_unauthorized"]],
  ["Calls of the embedding program", ["flux_api_"]],
  ["Slow readers", ["flux_slow", "flux_queues", "flux_dropped", "flux_members_behind", "flux_reactor_publications", "flux_reactor_rooms_behind"]],
  ["Rooms, presence and history", ["flux_rooms", "flux_members", "flux_reactor_rooms", "flux_broker", "flux_presence", "flux_users", "flux_watches", "flux_hub_tail", "flux_hub_replays"]],
  ["Node, reactors and memory", ["flux_"]],
];

export async function metricsDoc(): Promise<string> {
  const rows = (await metricsOf(everything())).filter(({ name }) => name.startsWith("flux_"));
  const left = new Set(rows);
  const parts = groups.map(([title, starts]) => {
    const group = [...left].filter(({ name }) => starts.some((start) => name.startsWith(start)));
    for (const row of group) left.delete(row);
    return `## ${title}\n\n${table(["metric", "type", "labels", "what it is"], group.map(cells))}`;
  });
  return [...parts, `## Process and Node.js\n\n${await platformDoc()}`].join("\n\n");
}

/** What prom-client adds by itself. Some are there on Linux only, so the list is not made of the values. */
async function platformDoc(): Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const rows = await metricsOf(registry);
  return table(["metric", "type", "what it is"], rows.map(({ name, type, help }) => [code(name), type, sentence(help.replace(/\.$/, ""))]));
}

function cells({ name, type, labels, help }: Row): string[] {
  return [code(name), type, labels.map(code).join(", ") || "none", sentence(help)];
}

/** A registry with every metric a node can have, its values being of no interest. */
function everything(): Registry {
  const registry = createMetrics({
    nodeId: "a", version: "1", counters: [new Counters(createCounters())],
    hub: () => ({ rooms: 0, publications: 0, refusals: 0, failures: 0, tailBytes: 0, replays: 0, caughtUp: 0, skipped: 0, roomsBehind: 0, assignmentsRefused: 0, late: 0, lost: 0, begun: 0, resumed: 0, sizes: { bounds: [], counts: [0] }, answers: { boundsMs: [], buckets: [0], sumMs: 0 } }),
    presence: () => ({ rooms: 0, members: 0, users: 0, watches: 0, changes: 0 }),
    broker: () => ({ rooms: 0, publications: 0, bytes: 0 }),
    queue: () => ({ ring: 0, overflow: 0 }),
    reactors: () => ({ serving: 1, restarts: 0 }),
    ready: () => true,
    drain: () => ({ state: "serving", left: 0 }),
    nodes: () => ({ stale: false, states: ["up"] }),
    memory: () => ({ limitBytes: 0, usedBytes: 0, short: false }),
  });
  addLbMetrics(registry, () => ({ counts: { waiting: 0, dialling: 0, joined: 0, accepted: 0, redials: 0, refused: {} }, bytes: { toNodes: 0, toClients: 0 }, nodes: [], stale: false, table: 0 }));
  addHttpMetrics(registry, () => ({ waiting: 0, streams: 0, answered: [] }));
  addHoldingMetrics(registry, () => ({ held: 0, maxPartitions: 0, unowned: 0, unownedMs: 0, leaseMs: 0, claims: 0, losses: 0, handovers: 0, backlogs: [] }));
  addPlacementMetrics(registry, () => ({ table: 0, owned: 0, movesPerSecond: 0 }));
  addApiMetrics(registry, () => ({ waiting: 0, streams: 0, streamBytes: 0, answered: [] }));
  addApiKeyMetrics(registry, () => ({ keys: 0, problem: "", byKey: [], unauthorized: 0 }));
  const hook = { hook: "join", namespace: "chat", sent: 0, remembered: 0, allowed: 0, denied: 0, failures: {}, running: 0, waiting: 0, breaker: "closed", buckets: [0], sumMs: 0 } as const;
  addHookMetrics(registry, () => ({ remembered: 0, boundsMs: [], hooks: [hook] }));
  addWebhookMetrics(registry, () => [{ endpoint: "main", told: 0, deadLetters: 0, lost: 0, failures: {}, running: 0, subjects: 0, parked: 0, waiting: 0, ageMs: 0, breaker: "closed", isDisabled: false }], () => ({ events: 0, eventsMax: 0, bytes: 0, bytesMax: 0, refused: { events: 0, bytes: 0 } }));
  addArchiveMetrics(registry, () => ({ up: true, streams: 0, pending: 0, lagMs: 0, rows: 0, gaps: 0, missing: 0, failures: 0 }), 0);
  addOutboxMetrics(registry, () => ({ up: true, published: 0, refused: 0, repeated: 0, doubled: 0, failures: 0 }));
  addDiskMetrics(registry, { rooms: () => ({ bytes: 0, uncommittedBytes: 0, failing: false, counts: { commits: 0, failedCommits: 0, records: 0, bytes: 0, buckets: [], sumMs: 0 } }) });
  addNatsMetrics(registry, () => ({ away: false, reconnects: 0, waiting: 0, waitingBytes: 0, timeouts: 0, filled: 0, reads: 0, undeliverable: 0, refused: {}, unheard: 0, restarts: 0 }));
  addNatsApiMetrics(registry, () => ({ answered: 0, unanswered: 0, dropped: 0 }));
  addRedisMetrics(registry, () => ({ up: true, hears: true, commands: 0, failures: 0, returns: 0, exceptions: 0 }), () => ({ waiting: 0, dropped: 0 }));
  return registry;
}

/** A metric of ours that is no object of prom-client names its labels in its values only. */
async function metricsOf(registry: Registry): Promise<Row[]> {
  const rows = registry.getMetricsAsArray().map(async (metric) => {
    const { name, help, labelNames } = metric as unknown as { name: string; help: string; labelNames?: string[] };
    const { type, values } = await registry.getSingleMetric(name)!.get();
    const found = [...new Set(values.flatMap(({ labels }) => Object.keys(labels)))].filter((label) => label !== "le");
    return { name, type: String(type), labels: labelNames ?? found, help };
  });
  return Promise.all(rows);
}

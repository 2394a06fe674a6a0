/**
 * The node's metrics in Prometheus's format. Nothing is counted here: at each scrape, values are read from the
 * reactors' shared counters, the hub and the rings. Clients choose no label.
 */
import { Counter, Gauge, Registry, collectDefaultMetrics, type Metric } from "prom-client";
import { closes } from "../errors.ts";
import { fanoutBucketsMs, formatSockets, type CounterName, type Counters } from "../link/counters.ts";
import { linesLost } from "../platform/log/output.ts";
import { formats } from "../protocol/formats/formats.ts";

/** The values that the registry reads. */
export interface MetricsSource {
  readonly nodeId: string;
  readonly version: string;
  /** By reactor index. */
  readonly counters: readonly Counters[];
  hub(): Hub;
  presence(): { rooms: number; members: number; users: number; watches: number; changes: number };
  broker(): { rooms: number; publications: number; bytes: number };
  /** Bytes queued from the hub to a reactor. */
  queue(reactor: number): { ring: number; overflow: number };
  reactors(): { serving: number; restarts: number };
  ready(): boolean;
  drain(): { readonly state: string; readonly left: number };
  nodes(): { readonly stale: boolean; readonly states: readonly ("up" | "draining" | "down")[] };
  memory(): { readonly limitBytes: number; readonly usedBytes: number; readonly short: boolean };
}

interface Hub {
  readonly rooms: number;
  readonly publications: number;
  readonly refusals: number;
  readonly failures: number;
  readonly tailBytes: number;
  readonly replays: number;
  readonly caughtUp: number;
  readonly skipped: number;
  readonly roomsBehind: number;
  readonly assignmentsRefused: number;
  readonly begun: number;
  readonly resumed: number;
  /** Rooms by number of members: a slot a bound, and one more above the last. */
  readonly sizes: { readonly bounds: readonly number[]; readonly counts: readonly number[] };
  /** Sampled answers of the broker, in the same way. */
  readonly answers: { readonly boundsMs: readonly number[]; readonly buckets: readonly number[]; readonly sumMs: number };
  readonly late: number;
  readonly lost: number;
}

const states = ["handshake", "ready", "closing"] as const;
const nodeStates = ["up", "draining", "down"] as const;

/** One row for each counter of a reactor: metric, source, help. */
const reactorTotals: readonly (readonly [string, CounterName, string])[] = [
  ["flux_sockets_opened_total", "opened", "Sockets accepted. With resumes and hellos refused, this is how often clients come"],
  ["flux_connection_urls_total", "urlsAnswered", "Requests to /api/connection-url answered with a node"],
  ["flux_connection_urls_refused_total", "urlsRefused", "Requests to /api/connection-url refused: invalid, forbidden, or no slot free"],
  ["flux_http_malformed_total", "httpMalformed", "Requests on the port for clients refused because their end is not certain: two lengths, a length that is no number, or another Transfer-Encoding than chunked"],
  ["flux_http_public_requests_total", "apiRequests", "Requests to the HTTP API on the port for clients that reached the main thread"],
  ["flux_http_public_unauthorized_total", "apiUnauthorized", "Requests to the HTTP API on the port for clients that reactors refused with unauthorized: they had no credential"],
  ["flux_http_public_rate_limited_total", "apiRateLimited", "Requests to the HTTP API on the port for clients that reactors refused with rate_limited: many requests of their address were refused before"],
  ["flux_http_public_overloaded_total", "apiOverloaded", "Requests to the HTTP API on the port for clients that reactors refused with overloaded: too many wait, of all or of one address, or memory is short"],
  ["flux_http_public_bad_total", "apiBad", "Requests to the HTTP API on the port for clients that reactors refused with bad_request: their headers were too large"],
  ["flux_placement_sent_on_total", "sentOn", "Clients that were sent on at hello, as their user belongs on another node"],
  ["flux_placement_moved_total", "moved", "Sessions that were sent on later, since their user got another owner"],
  ["flux_placement_unknown_total", "servedUnknown", "Hellos served here since no owner of the user is known"],
  ["flux_placement_unreachable_total", "servedUnreachable", "Hellos of users of other nodes served here, since that node does not take clients"],
  ["flux_placement_ticket_total", "servedByTicket", "Hellos of users of other nodes served here, since another node sent them here by its table"],
  ["flux_placement_hops_total", "servedAfterHops", "Hellos of users of other nodes served here, since the client was sent on twice and did not arrive"],
  ["flux_placement_waits_total", "toldToWait", "Clients that were told to come again, since no node holds their user's partition or they did not reach it (--placement partition)"],
  ["flux_placement_held_back_total", "heldBack", "Deliveries of direct messages that this node did not make, since it does not hold the partition any more: the sessions reconnect and recover"],
  ["flux_tokens_verified_total", "tokensVerified", "Tokens whose signature was verified; remembered tokens are not counted"],
  ["flux_tokens_refused_total", "tokensRefused", "Tokens that are invalid or could not be verified"],
  ["flux_unreadable_total", "unreadable", "Sockets dropped without a close code (clients see 1006), for a message that is too long, inflates to too much, or is text and not UTF-8"],
  ["flux_frames_received_total", "framesIn", "Frames from clients"],
  ["flux_frames_sent_total", "framesOut", "Frames to clients; a delivery to each member counts as one"],
  ["flux_bytes_received_total", "bytesIn", "Bytes of WebSocket messages from clients"],
  ["flux_bytes_sent_total", "bytesOut", "Bytes of frames to clients"],
  ["flux_publishes_total", "publishes", "Publish commands handed to the hub"],
  ["flux_deliveries_total", "deliveries", "Publications delivered to sockets of members"],
  ["flux_error_replies_total", "errorReplies", "Commands that reactors rejected"],
  ["flux_rate_limited_total", "rateLimited", "Commands rejected with rate_limited"],
  ["flux_commands_held_refused_total", "heldRefused", "Frames refused because too many waited behind a command"],
  ["flux_slow_consumers_total", "slowConsumers", "Sessions closed with 3008 because their socket queue was full"],
  ["flux_queues_cut_total", "queuesCut", "Sockets dropped because the queues of all sockets exceeded their share of the memory"],
  ["flux_dropped_batches_total", "droppedBatches", "Message batches that a full socket lost"],
  ["flux_buffers_allocated_total", "buffersAllocated", "Buffers allocated on the data path since start"],
];

/** Sockets and handshakes refused, by reason; and the name that each had before there was one metric for all. */
export const refusalReasons: readonly (readonly [reason: string, CounterName, before: string])[] = [
  ["sockets_max", "refusedSockets", "flux_sockets_refused_total"],
  ["draining", "refusedLeaving", "flux_sockets_refused_leaving_total"],
  ["memory", "refusedMemory", "flux_sockets_refused_memory_total"],
  ["handshakes", "refusedHandshakes", "flux_handshakes_refused_total"],
  ["returns", "refusedResumes", "flux_resumes_refused_total"],
];

const reactorGauges: readonly (readonly [string, CounterName, string, number])[] = [
  ["flux_auth_keys_unavailable", "keysAway", "1 while keys cannot be fetched from authJwksUrl", 1],
  ["flux_socket_queue_longest_bytes", "queueLongestBytes", "Bytes queued for the slowest socket", 1],
  ["flux_members_behind", "behind", "Members that receive nothing until their full socket queue has room", 1],
  ["flux_commands_held_bytes", "heldBytes", "Bytes of frames that wait behind a command: behind hello, or one that a hook decides on", 1],
  ["flux_members", "members", "Memberships: a session in two rooms counts twice", 1],
  ["flux_reactor_rooms", "rooms", "Rooms with members on the reactor", 1],
  ["flux_reactor_loop_utilization_ratio", "loopUtilization", "Share of the last second in which the event loop was busy", 1],
  ["flux_reactor_heap_bytes", "heapBytes", "JavaScript heap in use", 1],
  ["flux_reactor_heap_limit_bytes", "heapLimitBytes", "Heap size at which V8 ends the process", 1],
];

/** The boards subtract it. */
const lagTimerMs = 50;

/**
 * What prom-client tells of the process. It measures the lag of the event loop with a timer, by default one of 10 ms,
 * which wakes an idle process a hundred times a second. The lag includes the timer's interval.
 */
export function collectProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: lagTimerMs });
}

export function createMetrics(source: MetricsSource): Registry {
  const registry = new Registry();
  collectProcessMetrics(registry);
  addReactorMetrics(registry, source);
  addNodeMetrics(registry, source);
  return registry;
}

function addReactorMetrics(registry: Registry, { counters, queue }: MetricsSource): void {
  const each = (use: (counters: Counters, reactor: string, index: number) => void) =>
    counters.forEach((one, index) => use(one, String(index), index));

  gauge(registry, "flux_sockets", "Sockets by state of their session", ["reactor", "state"], (metric) =>
    each((one, reactor) => states.forEach((state) => metric.set({ reactor, state }, one.get(state)))),
  );
  gauge(registry, "flux_transport_sockets", "Sockets by transport", ["reactor", "transport"], (metric) =>
    each((one, reactor) => {
      const tcp = one.get("tcpSockets");
      metric.set({ reactor, transport: "tcp" }, tcp);
      metric.set({ reactor, transport: "websocket" }, states.reduce((sum, state) => sum + one.get(state), -tcp));
    }),
  );
  gauge(registry, "flux_format_sockets", "Sockets by wire format: binary, json or json-arrays, by the subprotocol that the client offered", ["reactor", "format"], (metric) =>
    each((one, reactor) => formats.forEach(({ name: format }, wire) => metric.set({ reactor, format }, one.get(formatSockets[wire]!)))),
  );
  for (const [name, from, help] of reactorTotals) {
    total(registry, name, help, ["reactor"], (add) => each((one, reactor) => add({ reactor }, one.get(from))));
  }
  total(registry, "flux_refusals_total", "Sockets refused before the upgrade, by reason: sockets_max (socketsMax), draining (the node drains or stops), memory (it is short of it), handshakes and returns (handshakesPerSecond: clients without a ticket, and reconnecting ones with one)", ["reactor", "reason"], (add) =>
    each((one, reactor) => refusalReasons.forEach(([reason, from]) => add({ reactor, reason }, one.get(from)))),
  );
  for (const [reason, from, before] of refusalReasons) {
    total(registry, before, `Deprecated: use flux_refusals_total{reason="${reason}"}. The next release drops this name`, ["reactor"], (add) => each((one, reactor) => add({ reactor }, one.get(from))));
  }
  total(registry, "flux_closes_total", "Sockets the node closed, by close code", ["reactor", "code"], (add) =>
    each((one, reactor) => one.closes().forEach(([name, count]) => add({ reactor, code: String(closes[name].code) }, count))),
  );
  for (const [name, from, help, factor] of reactorGauges) {
    gauge(registry, name, help, ["reactor"], (metric) =>
      each((one, reactor) => metric.set({ reactor }, one.get(from) * factor)),
    );
  }
  registry.registerMetric(loopLag(counters));
  gauge(registry, "flux_ring_depth_bytes", "Bytes in the ring between hub and reactor", ["reactor", "direction"], (metric) =>
    each((one, reactor, index) => {
      metric.set({ reactor, direction: "to_reactor" }, queue(index).ring);
      metric.set({ reactor, direction: "to_hub" }, one.get("ringDepthBytes"));
    }),
  );
  gauge(registry, "flux_ring_overflow_bytes", "Bytes queued for a full ring", ["reactor", "direction"], (metric) =>
    each((one, reactor, index) => {
      metric.set({ reactor, direction: "to_reactor" }, queue(index).overflow);
      metric.set({ reactor, direction: "to_hub" }, one.get("overflowBytes"));
    }),
  );
  gauge(registry, "flux_sockets_queued", "Sockets whose queue exceeds this share of socketQueueBytesMax", ["reactor", "over"], (metric) =>
    each((one, reactor) => {
      metric.set({ reactor, over: "0.1" }, one.get("queuesOver10"));
      metric.set({ reactor, over: "0.5" }, one.get("queuesOver50"));
      metric.set({ reactor, over: "1" }, one.get("queuesFull"));
    }),
  );
  total(registry, "flux_slow_rooms_total", "Rooms whose publications a full socket missed, by policy of slowReaders", ["reactor", "policy"], (add) =>
    each((one, reactor) => {
      add({ reactor, policy: "drop" }, one.get("slowSkips"));
      add({ reactor, policy: "catch-up" }, one.get("slowCatchUps"));
    }),
  );
  registry.registerMetric(fanoutHistogram(counters));
}

function addNodeMetrics(registry: Registry, source: MetricsSource): void {
  const { nodeId, version } = source;
  gauge(registry, "flux_info", "Name and version of the node; always 1", ["node", "version"], (metric) => metric.set({ node: nodeId, version }, 1));
  gauge(registry, "flux_ready", "1 while the node is ready: it accepts sockets", [], (metric) => metric.set(source.ready() ? 1 : 0));
  gauge(registry, "flux_memory_limit_bytes", "Memory the node may use", [], (metric) => metric.set(source.memory().limitBytes));
  gauge(registry, "flux_memory_used_bytes", "Memory in use: of the container without file cache, else of the process", [], (metric) => metric.set(source.memory().usedBytes));
  gauge(registry, "flux_memory_short", "1 while the node rejects sockets because memory is short", [], (metric) => metric.set(source.memory().short ? 1 : 0));
  gauge(registry, "flux_draining", "1 while the node drains", [], (metric) => metric.set(source.drain().state === "serving" ? 0 : 1));
  gauge(registry, "flux_drain_sessions_left", "Sockets that the drain has still to close; 0 while the node does not drain", [], (metric) => {
    const { state, left } = source.drain();
    metric.set(state === "serving" ? 0 : left);
  });
  gauge(registry, "flux_nodes", "Nodes that this node knows, itself included, by state", ["state"], (metric) => {
    const { states: all } = source.nodes();
    nodeStates.forEach((state) => metric.set({ state }, all.filter((one) => one === state).length));
  });
  gauge(registry, "flux_nodes_stale", "1 while the list of nodes is stale because Redis is unavailable", [], (metric) => metric.set(source.nodes().stale ? 1 : 0));
  gauge(registry, "flux_rooms", "Rooms on the node", [], (metric) => metric.set(source.hub().rooms));
  gauge(registry, "flux_rooms_sized", "Rooms on the node with at most this many members on it, and not within a smaller bound", ["members"], (metric) => {
    const { bounds, counts } = source.hub().sizes;
    counts.forEach((count, i) => metric.set({ members: String(bounds[i] ?? "more") }, count));
  });
  total(registry, "flux_sessions_begun_total", "Sessions begun by hellos: new ones, and those that replace one that could not be resumed", [], (add) => add({}, source.hub().begun));
  total(registry, "flux_sessions_resumed_total", "Sessions resumed on a new socket", [], (add) => add({}, source.hub().resumed));
  registry.registerMetric(histogram("flux_broker_answer_seconds", "Time from a publish to the broker until its answer, of one publication in 16", source.hub().answers.boundsMs, () => [{ ...source.hub().answers, labels: {} }]));
  gauge(registry, "flux_hub_tail_bytes", "Bytes of recent publications kept encoded for recovery", [], (metric) => metric.set(source.hub().tailBytes));
  gauge(registry, "flux_hub_replays", "Members in recovery", [], (metric) => metric.set(source.hub().replays));
  gauge(registry, "flux_hub_queue_bytes", "Bytes of records queued for the hub", [], (metric) =>
    metric.set(source.counters.reduce((sum, one) => sum + one.get("ringDepthBytes") + one.get("overflowBytes"), 0)),
  );
  total(registry, "flux_publications_total", "Publications delivered to this node", [], (add) => add({}, source.hub().publications));
  total(registry, "flux_publications_caught_up_total", "Publications delivered late to slow readers (slowReaders: catch-up)", [], (add) => add({}, source.hub().caughtUp));
  total(registry, "flux_publications_skipped_total", "Publications that slow readers lost (slowReaders: drop); over NATS an upper bound", [], (add) => add({}, source.hub().skipped));
  gauge(registry, "flux_reactor_rooms_behind", "Rooms behind on a slow reactor, counted per format", [], (metric) => metric.set(source.hub().roomsBehind));
  total(registry, "flux_reactor_publications_late_total", "Publications delivered late to slow reactors", [], (add) => add({}, source.hub().late));
  total(registry, "flux_reactor_publications_lost_total", "Publications that slow reactors lost because the history no longer had them; members received sync", [], (add) => add({}, source.hub().lost));
  total(registry, "flux_hub_refusals_total", "Commands that the hub rejected, in addition to flux_error_replies_total", [], (add) => add({}, source.hub().refusals));
  total(registry, "flux_hub_failures_total", "Records that the hub failed to handle: a bug", [], (add) => add({}, source.hub().failures));
  total(registry, "flux_reactor_restarts_total", "Reactors that crashed and were replaced", [], (add) => add({}, source.reactors().restarts));
  gauge(registry, "flux_reactors", "Reactors that accept sockets", [], (metric) => metric.set(source.reactors().serving));
  gauge(registry, "flux_broker_rooms", "Rooms in the embedded broker", [], (metric) => metric.set(source.broker().rooms));
  gauge(registry, "flux_broker_publications", "Publications in the embedded broker", [], (metric) => metric.set(source.broker().publications));
  gauge(registry, "flux_broker_bytes", "Bytes of history in the embedded broker", [], (metric) => metric.set(source.broker().bytes));
  gauge(registry, "flux_presence_rooms", "Rooms with presence", [], (metric) => metric.set(source.presence().rooms));
  gauge(registry, "flux_presence_members", "Users in rooms with presence; a user in two rooms counts twice", [], (metric) => metric.set(source.presence().members));
  gauge(registry, "flux_users_online", "Users online, including those within presenceGraceMs", [], (metric) => metric.set(source.presence().users));
  gauge(registry, "flux_watches", "Watches: a user watched by two sessions counts twice", [], (metric) => metric.set(source.presence().watches));
  total(registry, "flux_assignments_refused_total", "Sessions that could not join a room into which the application joined their user", [], (add) => add({}, source.hub().assignmentsRefused));
  total(registry, "flux_presence_changes_total", "Presence events and status changes sent", [], (add) => add({}, source.presence().changes));
  total(registry, "flux_log_lines_lost_total", "Log lines that standard output did not accept", [], (add) => add({}, linesLost()));
  total(registry, "flux_context_switches_total", "Context switches of the process", ["kind"], (add) => {
    const { voluntaryContextSwitches, involuntaryContextSwitches } = process.resourceUsage();
    add({ kind: "voluntary" }, voluntaryContextSwitches);
    add({ kind: "involuntary" }, involuntaryContextSwitches);
  });
}

export function gauge<L extends string>(registry: Registry, name: string, help: string, labelNames: L[], read: (metric: Gauge<L>) => void): void {
  registry.registerMetric(new Gauge({ name, help, labelNames, registers: [], collect() { read(this); } }));
}

/** A counter whose value is kept elsewhere. prom-client can only add, so it is reset at every scrape. */
export function total<L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: L[],
  read: (add: (labels: Partial<Record<L, string>>, value: number) => void) => void,
): void {
  registry.registerMetric(
    new Counter({
      name,
      help,
      labelNames,
      registers: [],
      collect() {
        this.reset();
        read((labels, value) => this.inc(labels as Record<L, string>, value));
      },
    }),
  );
}

function fanoutHistogram(reactors: readonly Counters[]): Metric {
  return histogram("flux_fanout_seconds", "Time from the hub's decision to the write to all sockets of a reactor", fanoutBucketsMs, () =>
    reactors.map((counters, reactor) => ({ labels: { reactor: String(reactor) }, buckets: counters.fanoutBuckets(), sumMs: counters.get("fanoutSumMs") })),
  );
}

/** Quantiles of the last second. A summary, as Prometheus reserves the label for it; without sum and count, as samples come by the clock. */
function loopLag(reactors: readonly Counters[]): Metric {
  const name = "flux_reactor_loop_lag_seconds";
  const help = "Delay of the event loop in the last second, sampled every 50 ms";
  const quantiles = [["0.5", "loopLagP50Ms"], ["0.99", "loopLagP99Ms"], ["1", "loopLagMaxMs"]] as const;
  const values = () => reactors.flatMap((one, reactor) => quantiles.map(([quantile, from]) => ({ labels: { reactor: String(reactor), quantile }, value: one.get(from) / 1000 })));
  return { name, help, get: async () => ({ name, help, type: "summary", aggregator: "average", values: values() }), reset() {} } as unknown as Metric;
}

/** A histogram that is counted elsewhere: a slot a bucket, and one more above the last. */
export interface Counted {
  readonly labels: Readonly<Record<string, string>>;
  readonly buckets: readonly number[];
  readonly sumMs: number;
}

/** prom-client's histogram only observes; this one is read. */
export function histogram(name: string, help: string, boundsMs: readonly number[], read: () => readonly Counted[]): Metric {
  const get = async () => ({ name, help, type: "histogram", aggregator: "sum", values: read().flatMap((counted) => samplesOf(name, boundsMs, counted)) });
  return { name, help, get, reset() {} } as unknown as Metric;
}

function samplesOf(name: string, boundsMs: readonly number[], { labels, buckets, sumMs }: Counted) {
  let below = 0;
  const samples = buckets.map((count, i) => {
    below += count;
    const le = i < boundsMs.length ? String(boundsMs[i]! / 1000) : "+Inf";
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below };
  });
  return [...samples, { metricName: `${name}_sum`, labels, value: sumMs / 1000 }, { metricName: `${name}_count`, labels, value: below }];
}

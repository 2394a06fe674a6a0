/** The board of one node. */
import type { Board, Line } from "./panels.ts";

const of = '{job="$job", instance="$instance"}';
const with_ = (more: string) => `{job="$job", instance="$instance", ${more}}`;
const rate = (metric: string, by = "") => (by === "" ? `sum(rate(${metric}[$__rate_interval]))` : `sum by (${by}) (rate(${metric}[$__rate_interval]))`);
const quantiles = (metric: string): Line[] => [["p50", 0.5], ["p99", 0.99]].map(([name, q]) => [String(name), `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket${of}[$__rate_interval])))`]);

export const node: Board = {
  uid: "flux-node",
  title: "flux-gateway: node",
  says: "One node: who is connected, what it delivers and how late, and what it runs short of.",
  ofOneNode: true,
  rows: [
    {
      title: "State",
      panels: [
        { title: "Ready", says: "1: the node accepts sockets. GET /ready says why not.", unit: "short", stat: true, lines: [["ready", `flux_ready${of}`]] },
        { title: "Sockets", says: "Sockets in any state.", unit: "short", stat: true, lines: [["sockets", `sum(flux_sockets${of})`]] },
        { title: "Rooms", says: "Rooms on the node.", unit: "short", stat: true, lines: [["rooms", `flux_rooms${of}`]] },
        { title: "Memberships", says: "A session in two rooms counts twice.", unit: "short", stat: true, lines: [["members", `sum(flux_members${of})`]] },
        { title: "Deliveries/s", says: "Publications delivered to sockets of members.", unit: "ops", stat: true, lines: [["deliveries", rate(`flux_deliveries_total${of}`)]] },
        { title: "Memory", says: "Share of the limit. Near 1 the node refuses sockets.", unit: "percentunit", stat: true, lines: [["used", `flux_memory_used_bytes${of} / flux_memory_limit_bytes${of}`]] },
      ],
    },
    {
      title: "Sockets and sessions",
      panels: [
        { title: "Sockets by state", says: "handshake: before hello is answered. ready: with a session. closing: the close is under way.", unit: "short", stacked: true, lines: [["{{state}}", `sum by (state) (flux_sockets${of})`]] },
        { title: "Handshakes", says: "Sockets accepted, and sessions that began or were resumed. Many resumes: clients reconnect.", unit: "ops", lines: [["sockets", rate(`flux_sockets_opened_total${of}`)], ["new sessions", rate(`flux_sessions_begun_total${of}`)], ["resumed", rate(`flux_sessions_resumed_total${of}`)]] },
        { title: "Refusals by reason", says: "Sockets refused before the upgrade. The runbook has each reason.", unit: "ops", lines: [["{{reason}}", rate(`flux_refusals_total${of}`, "reason")]] },
        { title: "Closes by code", says: "Sockets that the node closed. The runbook has each code.", unit: "ops", lines: [["{{code}}", `${rate(`flux_closes_total${of}`, "code")} > 0 or on() vector(0)`]] },
        { title: "Tokens", says: "Signatures verified, and tokens refused.", unit: "ops", lines: [["verified", rate(`flux_tokens_verified_total${of}`)], ["refused", rate(`flux_tokens_refused_total${of}`)]] },
        { title: "Rooms by members", says: "Members on this node: 1 is rooms of one member, 10 of 2 to 10, and so on.", unit: "short", stacked: true, lines: [["up to {{members}}", `flux_rooms_sized${of}`]] },
      ],
    },
    {
      title: "Publications and latency",
      panels: [
        { title: "Publications and deliveries", says: "Commands of clients, publications that reached this node, and deliveries to members.", unit: "ops", lines: [["publishes", rate(`flux_publishes_total${of}`)], ["publications", rate(`flux_publications_total${of}`)], ["deliveries", rate(`flux_deliveries_total${of}`)]] },
        { title: "Broker's answer", says: "From a publish to its position: NATS, the disk, or memory. Of one publication in 16.", unit: "s", lines: quantiles("flux_broker_answer_seconds") },
        { title: "Order to sockets", says: "From the hub's decision to the write to all sockets of a reactor. With the broker's answer, this is publish to deliver.", unit: "s", lines: quantiles("flux_fanout_seconds") },
        { title: "Errors", says: "Commands rejected by reactors and by the hub.", unit: "ops", lines: [["reactors", rate(`flux_error_replies_total${of}`)], ["hub", rate(`flux_hub_refusals_total${of}`)], ["rate limited", rate(`flux_rate_limited_total${of}`)]] },
        { title: "Bytes", says: "WebSocket messages from clients, and frames to clients.", unit: "Bps", lines: [["in", rate(`flux_bytes_received_total${of}`)], ["out", rate(`flux_bytes_sent_total${of}`)]] },
        { title: "Late and lost", says: "Publications delivered late to slow readers or slow reactors, and those that they lost.", unit: "ops", lines: [["caught up", rate(`flux_publications_caught_up_total${of}`)], ["skipped", rate(`flux_publications_skipped_total${of}`)], ["late reactor", rate(`flux_reactor_publications_late_total${of}`)], ["lost by reactor", rate(`flux_reactor_publications_lost_total${of}`)]] },
      ],
    },
    {
      title: "Queues and slow readers",
      panels: [
        { title: "Sockets with a long queue", says: "Sockets whose queue exceeds this share of socketQueueBytesMax.", unit: "short", lines: [["over {{over}}", `sum by (over) (flux_sockets_queued${of})`]] },
        { title: "Slow readers", says: "Sessions closed with 3008, queues cut for want of memory, batches lost.", unit: "ops", lines: [["closed", rate(`flux_slow_consumers_total${of}`)], ["cut", rate(`flux_queues_cut_total${of}`)], ["lost batches", rate(`flux_dropped_batches_total${of}`)]] },
        { title: "Queues in the node", says: "Rings between the hub and the reactors, and what waits for a full one.", unit: "bytes", lines: [["ring {{direction}}", `sum by (direction) (flux_ring_depth_bytes${of})`], ["overflow {{direction}}", `sum by (direction) (flux_ring_overflow_bytes${of})`]] },
      ],
    },
    {
      title: "Event loops and memory",
      panels: [
        { title: "Loop lag, p99", says: "Delay of each reactor's event loop in the last second. The main thread's is nodejs_eventloop_lag without the 50 ms of its timer.", unit: "s", lines: [["reactor {{reactor}}", `flux_reactor_loop_lag_seconds${with_('quantile="0.99"')}`], ["main", `clamp_min(nodejs_eventloop_lag_p99_seconds${of} - 0.05, 0)`]] },
        { title: "Loop utilization", says: "Share of the last second in which the loop was busy. Above 0.9 latency grows.", unit: "percentunit", lines: [["reactor {{reactor}}", `flux_reactor_loop_utilization_ratio${of}`]] },
        { title: "CPU", says: "Cores in use.", unit: "short", lines: [["cores", `rate(process_cpu_seconds_total${of}[$__rate_interval])`]] },
        { title: "Memory", says: "In use, beside the limit at which the node refuses sockets.", unit: "bytes", lines: [["used", `flux_memory_used_bytes${of}`], ["limit", `flux_memory_limit_bytes${of}`], ["resident", `process_resident_memory_bytes${of}`]] },
        { title: "Heaps", says: "JavaScript heaps of the reactors, beside V8's limit.", unit: "bytes", lines: [["reactor {{reactor}}", `flux_reactor_heap_bytes${of}`], ["limit {{reactor}}", `flux_reactor_heap_limit_bytes${of}`]] },
        { title: "Buffers allocated", says: "Allocations on the data path. Steady traffic needs none.", unit: "ops", lines: [["reactor {{reactor}}", `rate(flux_buffers_allocated_total${of}[$__rate_interval])`]] },
        { title: "Open files", says: "Each socket is one.", unit: "short", lines: [["open", `process_open_fds${of}`], ["limit", `process_max_fds${of}`]] },
      ],
    },
  ],
};

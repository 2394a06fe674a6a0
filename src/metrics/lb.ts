/** The metrics of a load balancer: src/lb/. */
import { Registry } from "prom-client";
import { collectProcessMetrics, gauge, total } from "./metrics.ts";

export interface LbUsage {
  readonly counts: { readonly waiting: number; readonly dialling: number; readonly joined: number; readonly accepted: number; readonly redials: number; readonly refused: Readonly<Record<string, number>> };
  readonly bytes: { readonly toNodes: number; readonly toClients: number };
  readonly nodes: readonly { readonly id: string; readonly open: number; readonly opened: number; readonly failed: number; readonly usable: boolean }[];
  readonly stale: boolean;
  readonly table: number;
}

export function createLbMetrics(read: () => LbUsage): Registry {
  const registry = new Registry();
  collectProcessMetrics(registry);
  addLbMetrics(registry, read);
  return registry;
}

export function addLbMetrics(registry: Registry, read: () => LbUsage): void {
  const states = ["waiting", "dialling", "joined"] as const;
  gauge(registry, "flux_lb_connections", "Clients by state: waiting for their first request, being connected to a node, forwarded", ["state"], (metric) => {
    const { counts } = read();
    for (const state of states) metric.set({ state }, counts[state]);
  });
  total(registry, "flux_lb_accepted_total", "Connections of clients", [], (add) => add({}, read().counts.accepted));
  total(registry, "flux_lb_refused_total", "Connections that were closed without a node. full: connectionsMax. silent: dropped for another client. slow: no request within firstBytesMs. large: longer than firstBytesMax. no-node: no node accepts. draining: the load balancer exits", ["reason"], (add) => {
    for (const [reason, count] of Object.entries(read().counts.refused)) add({ reason }, count);
  });
  total(registry, "flux_lb_redials_total", "Connections that a further node was tried for, since the one before did not accept", [], (add) => add({}, read().counts.redials));
  total(registry, "flux_lb_bytes_total", "Bytes forwarded, by direction", ["to"], (add) => {
    const { toNodes, toClients } = read().bytes;
    add({ to: "nodes" }, toNodes);
    add({ to: "clients" }, toClients);
  });
  const each = (use: (node: LbUsage["nodes"][number]) => void) => read().nodes.forEach(use);
  gauge(registry, "flux_lb_node_connections", "Connections that are open to a node, and being opened", ["node"], (metric) => {
    metric.reset();
    each(({ id: node, open }) => metric.set({ node }, open));
  });
  gauge(registry, "flux_lb_node_usable", "1 while the node gets new connections", ["node"], (metric) => {
    metric.reset();
    each(({ id: node, usable }) => metric.set({ node }, usable ? 1 : 0));
  });
  total(registry, "flux_lb_node_opened_total", "Connections that a node accepted", ["node"], (add) => each(({ id: node, opened }) => add({ node }, opened)));
  total(registry, "flux_lb_node_failed_total", "Connections that a node did not accept", ["node"], (add) => each(({ id: node, failed }) => add({ node }, failed)));
  gauge(registry, "flux_lb_nodes_stale", "1 while the list of nodes may be out of date, as Redis is unavailable", [], (metric) => metric.set(read().stale ? 1 : 0));
  gauge(registry, "flux_lb_table", "Number of the nodes' table of owners; 0 where the load balancer makes its own from the list of nodes", [], (metric) => metric.set(read().table));
}

/** Assembles the parts of a node (parts.ts), starts them in order and stops them in reverse. */
import type { Served } from "../admin/admin.ts";
import type { Drains } from "../admin/drain.ts";
import type { Placements } from "../admin/placement.ts";
import { openDashboard } from "./dashboard.ts";
import { expiryWarning, renewCertificate, watchCertificate } from "../config/certificate.ts";
import type { Api } from "../api/types.ts";
import { addApiMetrics } from "../metrics/api.ts";
import { addApiKeyMetrics } from "../metrics/apikeys.ts";
import { openMessages, openRegistry } from "./cluster.ts";
import type { Config, GatewayOptions } from "../config/config.ts";
import { addDiskMetrics } from "../metrics/disk.ts";
import { drainShape, type DrainOptions } from "../messages/drainoptions.ts";
import type { Logger } from "../platform/log/log.ts";
import type { NodeMessage, Question } from "../messages/messages.ts";
import { createMetrics } from "../metrics/metrics.ts";
import type { NatsApi } from "./natsapi.ts";
import { watchNatsAway } from "./natsaway.ts";
import { addHookMetrics } from "../metrics/hooks.ts";
import { addWebhookMetrics } from "../metrics/webhooks.ts";
import { addHttpMetrics } from "../metrics/http.ts";
import { addNatsApiMetrics } from "../metrics/natsapi.ts";
import { addArchiveMetrics } from "../metrics/archive.ts";
import { addOutboxMetrics } from "../metrics/outbox.ts";
import { addNatsMetrics } from "../metrics/nats.ts";
import { addHoldingMetrics, addPlacementMetrics } from "../metrics/placement.ts";
import { assemble, type Node } from "./parts.ts";
import { knownNode, nodeFacts, type KnownNode } from "./nodefacts.ts";
import { openHttpApis, type HttpApis } from "./httpapis.ts";
import { startPorts, type HttpPorts } from "./httpports.ts";
import { holdsNothing, openPartitions } from "./partitions.ts";
import { at, reachable } from "./ports.ts";
import { explain, overview, plan } from "../placement/explain.ts";
import { addRedisMetrics } from "../metrics/redis.ts";
import { userKey } from "../protocol/roomkeys.ts";
import type { RegistryEvents } from "../registry/registry.ts";
import { checkPlacement } from "./sameplacement.ts";
import { RunningSettings } from "./settings.ts";
import { openOutbox } from "./outbox.ts";
import { readSetup } from "./setup.ts";
import type { Outbox } from "../outbox/outbox.ts";
import type { Parts } from "./stores.ts";
import type { Survey, SurveyOptions } from "../messages/survey.ts";
import { version } from "../platform/version.ts";

/** A running node. */
export interface Gateway extends Api {
  readonly config: Config;
  /** The port clients connect to. If 0 was given, a free one. */
  readonly port: number;
  /** The port for raw TCP, or null. */
  readonly tcpPort: number | null;
  readonly adminPort: number;
  /** The port of the HTTP API: the admin port, unless it has one of its own. */
  readonly apiPort: number;
  /** The port that serves only the metrics, or null. */
  readonly metricsPort: number | null;
  /** The address clients connect to, from this machine. */
  readonly url: string;
  readonly log: Logger;
  /** All metrics, in Prometheus's text format. */
  metrics(): Promise<string>;
  /**
   * Asks all nodes: their health, the sessions of a user, or the members of a room. Never rejects; the result names the
   * nodes that did not answer in time.
   */
  survey<Q extends Question>(question: Q, options?: SurveyOptions): Promise<Survey<Q["kind"]>>;
  /** All nodes of the gateway, this one first. `stale`: Redis is unavailable, and the list may be out of date. */
  nodes(): { readonly node: string; readonly stale: boolean; readonly nodes: readonly KnownNode[] };
  /**
   * Reads the certificate's files again, for new connections. False: the files are invalid, the log says why, and the
   * node keeps the old certificate. The node also does this by itself soon after a file has changed.
   */
  reloadCertificate(): boolean;
  /** Makes a reactor throw as a bug would; with `whenFull` inside uWS, once a socket's queue is full. For tests. */
  failReactor(index: number, whenFull?: boolean): void;
  /**
   * Takes no new sockets, disconnects every session (`reconnect`, then close 3001) spread over `drainMs`, and closes. A
   * second call joins the first.
   */
  drain(options?: DrainOptions): Promise<void>;
  /** Closes every session with 3001 at once, frees the ports and stops the threads. Also ends a drain in progress. */
  close(): Promise<void>;
  /** Resolves when the node has closed, for whatever reason. */
  readonly ended: Promise<void>;
}

/**
 * Starts a node. Only `options` count: flags, environment and file are read by `flux-gateway start`.
 * @throws ConfigError that names the option, where a value is wrong or a port is in use.
 */
export async function createGateway(options: GatewayOptions = {}, parts: Parts = {}): Promise<Gateway> {
  const setup = await readSetup(options);
  const node = await assemble(setup, parts);
  const { config, certificate, log, port, tcpPort } = setup;
  const { reactors, stores, draining, surveys, others, redis, api, placement } = node;

  // The node shuts down once, however often it is asked to.
  let ports: HttpPorts | null = null;
  let natsApi: NatsApi | null = null;
  let outbox: Outbox | null = null;
  let onEnded = () => {};
  const ended = new Promise<void>((resolve) => (onEnded = resolve));
  let closing: Promise<void> | null = null;
  const close = () => (closing ??= shutDown(node, unwatch, ports, natsApi, outbox).finally(onEnded));
  const drains = drainsOf(node, close);
  const settings = new RunningSettings(node);
  const reloadCertificate = () => renewCertificate(config, log, (renewed) => reactors.renew(renewed));
  const unwatch = watch(node, reloadCertificate);

  // Served on the admin port and to the embedding program.
  const nodes = () => ({ node: config.nodeId, stale: others.stale, nodes: others.nodes().map(knownNode) });
  const placements: Placements = {
    overview: () => overview(placement.known),
    explain: (tenant, user) => explain({ ...placement.known, reportOf: node.partitions?.report }, tenant, user),
    partitions: () => node.partitions && node.partitions.reports(),
    plan: (changes) => plan(placement.known, changes),
    sessionsOf: (tenant, user) => surveys.ask({ kind: "user", tenant, user }),
  };
  const survey: Gateway["survey"] = (question, options) => surveys.ask(question, options);
  const disconnect: Served["disconnect"] = (user, options) => api.endSessions(user, options);

  const http = openHttpApis(node, nodes);
  const { natsInput } = http;
  const metrics = metricsOf(node, http);
  draining.onBegin = (windowMs) => http.drain(windowMs);
  draining.handOver = async () => node.partitions?.drain();

  // The node knows the others before clients come. The others hear of it when it can take clients.
  try {
    others.hear(await openMessages(config, redis, log, { received: (message) => onMessage(node, drains, settings, message) }));
    const facts = nodeFacts(config, setup, node.counters, () => reactors.serving, () => settings.own, () => node.partitions?.holds());
    const nodeChanged: RegistryEvents["nodeChanged"] = (change) => {
      stores.nodeChanged(change);
      void placement.look().then(() => node.partitions?.look());
    };
    others.know(await openRegistry(config, redis, facts, log, { nodeChanged }));
    await checkPlacement(config, () => others.nodes());
    await node.webhooks?.start();
    await placement.start();
    node.partitions = await openPartitions({ config, gate: node.gate, queues: stores.queues, hub: node.hub, placement, nodes: () => others.nodes(), log });
    node.dashboard = openDashboard(node, http);
    ports = await startPorts(config, log, http, { metrics, dashboard: node.dashboard.serve, slow: () => reactors.slow(), disconnect, drains, nodes, survey, placements, settings, webhooks: node.webhooks });
    await reactors.start();
    // Loaded only where NATS is configured.
    if (natsInput !== null) natsApi = await (await import("./natsapi.ts")).startNatsApi(config, natsInput, log);
    outbox = await openOutbox(node);
    if (outbox !== null) addOutboxMetrics(metrics, outbox.usage);
    await others.announce("up");
    await placement.look();
    node.partitions?.start();
    node.guard.start();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    config,
    port,
    tcpPort,
    adminPort: ports.admin,
    apiPort: ports.api,
    metricsPort: ports.metrics,
    url: `${certificate ? "wss" : "ws"}://${at(reachable(config.host), port)}/ws`,
    log,
    metrics: () => metrics.metrics(),
    publish: (...call) => api.publish(...call),
    send: (...call) => api.send(...call),
    history: (...call) => api.history(...call),
    members: (...call) => api.members(...call),
    stream: (...call) => api.stream(...call),
    join: (...call) => api.join(...call),
    leave: (...call) => api.leave(...call),
    reconnect: (...call) => api.reconnect(...call),
    user: (...call) => api.user(...call),
    rooms: (...call) => api.rooms(...call),
    room: (...call) => api.room(...call),
    disconnect: (...call) => api.disconnect(...call),
    survey,
    nodes,
    reloadCertificate,
    failReactor: (index, whenFull = false) => reactors.fail(index, whenFull),
    drain: (options) => draining.begin(options).then(close),
    close,
    ended,
  };
}

function metricsOf(node: Node, http: HttpApis): ReturnType<typeof createMetrics> {
  const { setup: { config }, state, counters, redis, others, stores, tailBudget, hub, hooks, webhooks, reactors, guard, draining, api, apiKeys, placement } = node;
  const registry = createMetrics({
    nodeId: config.nodeId,
    version,
    counters,
    hub: () => ({ ...hub.usage(), tailBytes: tailBudget.used }),
    presence: () => hub.presence.usage(),
    broker: () => stores.broker.usage(),
    queue: (reactor) => reactors.queue(reactor),
    reactors: () => ({ serving: reactors.serving, restarts: reactors.restarts }),
    ready: () => state.ready,
    drain: () => draining.progress(),
    nodes: () => ({ stale: others.stale, states: others.nodes().map((one) => one.state) }),
    memory: () => ({ limitBytes: config.memoryLimitBytes, usedBytes: guard.usedBytes(), short: guard.short }),
  });
  addApiMetrics(registry, () => api.usage());
  addPlacementMetrics(registry, () => placement.usage());
  if (config.placement === "partition") addHoldingMetrics(registry, () => node.partitions?.usage() ?? holdsNothing(config));
  addApiKeyMetrics(registry, () => apiKeys.usage());
  addHttpMetrics(registry, () => http.usage());
  const { natsInput } = http;
  if (natsInput !== null) addNatsApiMetrics(registry, () => natsInput.usage());
  if (hooks !== null) addHookMetrics(registry, () => hooks.usage());
  if (webhooks !== null) addWebhookMetrics(registry, () => webhooks.usage(), () => webhooks.queue());
  if (redis !== null) addRedisMetrics(registry, () => redis, stores.writes);
  if (config.dataDir !== "") addDiskMetrics(registry, stores.journals);
  if (stores.nats !== null) addNatsMetrics(registry, stores.nats);
  if (stores.archive !== null) addArchiveMetrics(registry, stores.archive, config.archiveLagMs);
  return registry;
}

/** Handles a message of another node. */
function onMessage({ setup: { config, log }, hub, surveys, others }: Node, drains: Drains, settings: RunningSettings, message: NodeMessage): void {
  const { sessions, lateDisconnects } = hub;
  switch (message.kind) {
    case "taken": return sessions.taken(message.session, message.generation);
    case "disconnect": {
      if (message.signedOutAt !== undefined) sessions.signedOut(message.tenant, message.user, message.signedOutAt);
      if (message.agoMs !== undefined) {
        const key = userKey(message.tenant, message.user);
        // One that began since then comes again.
        sessions.onClosed(key);
        return lateDisconnects.disconnect(key, message.agoMs);
      }
      const closed = sessions.close(message.tenant, message.user);
      if (message.replyTo !== undefined) surveys.reply(message.replyTo, { kind: "user", sessions: closed });
      return;
    }
    case "assigned": {
      const { tenant, user, room = null, replyTo } = message;
      return sessions.assigned.changed(userKey(tenant, user), room, (assignment) => {
        if (replyTo !== undefined && assignment !== null) surveys.reply(replyTo, { kind: "assigned", ...assignment });
      });
    }
    case "reconnect": return surveys.reply(message.replyTo, { kind: "user", sessions: hub.reconnect(userKey(message.tenant, message.user), message.url) });
    case "question": return surveys.asked(message.question, message.replyTo);
    case "answer": return surveys.answered(message);
    case "settings": return settings.told(message);
    case "drain": {
      const { kind: _, started, ...options } = message;
      // Ignored if meant for an earlier node of this name, or if this node is not in the registry.
      if (started !== others.nodes().find(({ id }) => id === config.nodeId)?.started) return;
      const asked = drainShape.safeParse(options);
      if (asked.success) void drains.begin(asked.data);
      else log.warn({ problem: asked.error.issues[0]?.message }, "drain: a request of another node is invalid and was ignored");
    }
  }
}

/** Watches NATS and the certificate until the returned function is called. */
function watch({ setup: { config, certificate, log }, stores: { nats }, state }: Node, onNewCertificate: () => void): () => void {
  const unwatchNats = nats && watchNatsAway(nats, config.natsGraceMs, state, log);
  const unwatchCertificate = certificate && watchCertificate(certificate, onNewCertificate);
  const warning = certificate && expiryWarning(certificate);
  if (warning) log.warn(warning);
  return () => {
    unwatchCertificate?.();
    unwatchNats?.();
  };
}

/** The drain of this node, which closes it at the end, and the drains of others. */
function drainsOf({ setup: { config }, draining, others, redis, surveys }: Node, close: () => Promise<void>): Drains {
  const look = async (id: string) => (await surveys.askOne(id, { kind: "health" }))?.drain ?? null;
  const own: Drains = {
    of: (id) => {
      if (id === config.nodeId) return own;
      return redis !== null && !redis.up ? "unavailable" : others.drainOf(id, look);
    },
    progress: () => draining.progress(),
    begin: (options: DrainOptions) => {
      const over = draining.begin(options);
      void over.then(close);
      return over;
    },
  };
  return own;
}

/** Stops the serving parts before the stores they use. The admin port is last, so that operators can watch. */
async function shutDown({ state, dashboard, guard, looks, others, reactors, hub, hooks, webhooks, stores, surveys, redis, api, apiKeys, placement, partitions }: Node, unwatch: () => void, ports: HttpPorts | null, natsApi: NatsApi | null, outbox: Outbox | null): Promise<void> {
  state.leaving = true;
  await natsApi?.stop();
  await outbox?.stop();
  api.close();
  ports?.leave();
  dashboard?.stop();
  guard.stop();
  looks.stop();
  unwatch();
  await placement.stop();
  // First: from here on the other nodes send no clients here.
  await others.leave();
  await reactors.close("shutdown");
  // Before the broker closes: the other nodes need not wait for the lease to expire.
  await partitions?.stop();
  await hooks?.close();
  hub.close();
  await stores.presence.stop();
  await webhooks?.close();
  surveys.stop();
  await others.stopHearing();
  await stores.close();
  await apiKeys.stop();
  await redis?.close();
  await ports?.close();
}

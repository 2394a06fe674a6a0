/** Composition: the one place that picks the parts of a node, starts them in order and ends them in reverse. */
import { startAdmin, type Admin, type Served } from "./admin/admin.ts";
import { readKeys } from "./auth/files.ts";
import type { ConnectionUsage } from "./broker/broker.ts";
import { expiryWarning, readCertificate, watchCertificate } from "./certificate.ts";
import { connectRedis, openMessages, openPresence, openRegistry, openSessions } from "./cluster.ts";
import { ConfigError, resolveConfig, type Config, type GatewayOptions } from "./config.ts";
import { addDiskMetrics } from "./diskmetrics.ts";
import type { Drains } from "./admin/drain.ts";
import { drainShape, type DrainOptions } from "./drain.ts";
import { Drain } from "./hub/drain.ts";
import { Hub } from "./hub/hub.ts";
import { Reactors } from "./hub/reactors.ts";
import { pageBytesFor } from "./hub/replays.ts";
import { Rooms } from "./hub/rooms.ts";
import { TailBudget } from "./hub/tail.ts";
import { Counters, createCounters } from "./link/counters.ts";
import { at, findPorts, listenProblem, reachable } from "./ports.ts";
import { RemoteDrain } from "./remotedrain.ts";
import { Surveys, type Survey, type SurveyOptions } from "./survey.ts";
import { NodeState } from "./threads.ts";
import { createLogger, type Logger } from "./log.ts";
import { openFilesMax } from "./machine.ts";
import { MemoryGuard } from "./memoryguard.ts";
import { createMetrics } from "./metrics.ts";
import { nodeFacts } from "./nodefacts.ts";
import { Encoder } from "./protocol/encoder.ts";
import { addNatsMetrics } from "./natsmetrics.ts";
import type { NodeAnswer, NodeMessage, NodeMessages, Question } from "./messages/messages.ts";
import type { RedisLink } from "./redis/redis.ts";
import { addRedisMetrics } from "./redismetrics.ts";
import type { RegisteredNode, Registry as NodeRegistry } from "./registry/registry.ts";
import { nameOfRoom, roomKey } from "./roomkeys.ts";
import { compileKinds } from "./roomnames.ts";
import type { SessionHere } from "./sessions/sessions.ts";
import { filesOnDisk, openStores, type Parts } from "./stores.ts";
import { version } from "./version.ts";

/** A running node. */
export interface Gateway {
  readonly config: Config;
  /** The port clients connect to; the one that was free if 0 was asked for. */
  readonly port: number;
  /** The port for raw TCP, null where there is none. */
  readonly tcpPort: number | null;
  readonly adminPort: number;
  /** Where clients connect to, seen from this machine. */
  readonly url: string;
  readonly log: Logger;
  /** Everything the node counts, in Prometheus's text format. */
  metrics(): Promise<string>;
  /**
   * Closes every session of a user (3504) and ends it; with `signOut` tokens and resumes given out until now are refused
   * from here on too. It is done on this node when the call returns, and on the others as they hear of it. Resolves with
   * how many sessions each of them had; never rejects, so nobody has to wait for it.
   */
  disconnect(user: string, options?: { readonly tenant?: string; readonly signOut?: boolean } & SurveyOptions): Promise<Survey<"user">>;
  /**
   * Asks all nodes: how they are, how many sessions of a user or members of a room each of them has. Never rejects: it
   * names the nodes that did not answer in time.
   */
  survey<Q extends Question>(question: Q, options?: SurveyOptions): Promise<Survey<Q["kind"]>>;
  /** All nodes of the gateway, this one first; stale: Redis is away, and this is what was known before. */
  nodes(): { readonly node: string; readonly stale: boolean; readonly nodes: readonly RegisteredNode[] };
  /**
   * Reads the certificate's files again, for connections to come. False: they are no good, the log says why, and the
   * certificate there was goes on. The node does it by itself soon after a file has changed.
   */
  reloadCertificate(): boolean;
  /** Makes a reactor throw, as a bug in it would, or not before a socket is full, inside uWS: for tests of what that costs. */
  failReactor(index: number, whenFull?: boolean): void;
  /**
   * Takes no more sockets, sends every session away (`reconnect`, then a close with 3001), spread over `drainMs`, and
   * closes. A second call joins the first.
   */
  drain(options?: DrainOptions): Promise<void>;
  /** Closes every session with 3001, frees the ports and ends the threads, at once, also in the middle of a drain. */
  close(): Promise<void>;
  /** Resolves when the node has closed, whoever asked for it. */
  readonly ended: Promise<void>;
}

/** What is held back of the open files for everything that is not a client's socket. */
const otherFiles = 60;
/** Listen sockets (main.ts of the reactor), and what an event loop needs. */
const filesPerReactor = 32;
/** And for sockets on their way in and out, which are in no session yet or any more. */
const spareShare = 0.05;
/** How often it is looked whether NATS is there. */
const awayLookMs = 250;
/** Bytes that the tails of all rooms together may take, and the share of the memory that is more than enough for them. */
const tailsBytesMax = 256 * 1024 * 1024;
const tailsShare = 1 / 8;

/**
 * Starts a node. Only `options` count: flags, environment and file are for `flux-gateway start` to read.
 * @throws ConfigError that names the option, where one is wrong or a port is taken.
 */
export async function createGateway(options: GatewayOptions = {}, parts: Parts = {}): Promise<Gateway> {
  const { config: asked } = resolveConfig({ options });
  const authKeys = readKeys(asked);
  const certificate = readCertificate(asked);
  const log = createLogger(asked);
  const config = { ...asked, socketsMax: affordableSockets(asked, log) };
  const { port, tcpPort } = await findPorts(config);

  const nodeState = NodeState.create();
  const state = new NodeState(nodeState);
  const counters = Array.from({ length: config.reactors }, createCounters);
  const redis = await connectRedis(config, log);
  const tailBudget = new TailBudget(Math.min(tailsBytesMax, config.memoryLimitBytes * tailsShare));
  const tailLimits = { publicationsMax: config.tailPublicationsMax, bytesMax: config.tailBytesMax };
  const rooms = new Rooms({ roomsMax: config.roomsMax, reactors: config.reactors, tailLimits, tailBudget });
  const { watchedPerSessionMax } = config;
  const kindOf = compileKinds(config);
  const retentionOf = (room: string) => kindOf(nameOfRoom(room))?.retention ?? null;
  const opened: (() => Promise<void>)[] = [async () => redis?.close()];
  const openAll = async () => {
    const sockets = { here: () => hub.sessions.here(), end: (sessions: readonly SessionHere[]) => hub.sessions.end(sessions) };
    const shared = redis && (await openSessions(config, redis, log, (id) => hub.sessions.forgotten(id), sockets));
    opened.unshift(async () => shared?.store.stop());
    const presence = await openPresence(config, redis, log, {
      roomChanged: (room, change) => hub.presence.roomChanged(room, change),
      statusChanged: (status) => hub.presence.statusChanged(status),
    });
    opened.unshift(() => presence.presence.stop());
    const stores = await openStores({
      config, log, parts, shared, retentionOf,
      deliver: (room, publication) => hub.deliver(room, publication),
      moved: (room, position) => hub.moved(room, position),
    });
    return { ...stores, ...presence };
  };
  const stores = await openAll().catch(async (error: unknown) => {
    for (const stop of opened) await stop();
    throw error;
  });
  const { broker, store, presence, nodeChanged, resumeSecret } = stores;
  const { sessionTtlMs: ttlMs, sessionsPerUserMax, sendsPerMinute, newInboxesPerHour, nodeId: node } = config;
  const encoder = new Encoder(2 * config.frameBytesMax);
  const pageBytesMax = pageBytesFor(config.ringBytes);
  const hub: Hub = new Hub({
    broker, store, presence, rooms, node, toNode: (to, message) => messages?.send(to, message), sessionsPerUserMax, watchedPerSessionMax, roomNamesBytesMax: config.frameBytesMax / 2,
    keepMs: keepWithin(ttlMs), sendsPerMinute, newInboxesPerHour, kindOf, pageBytesMax, encoder, log,
  });
  const onServing = (serving: number) => (state.serving = serving > 0);
  const unwatchNats = stores.nats && watchAway(stores.nats, config.natsGraceMs, (away) => {
    state.cutOff = away;
    if (away) log.warn(`NATS has been away for ${config.natsGraceMs} ms: the node is not ready until it is back`);
    else log.info("NATS is back: the node is ready again");
  });
  const reactors = new Reactors({ config, resumeSecret, authKeys, certificate, port, tcpPort, hub, counters, nodeState, log, onServing });
  const guard = guardMemory(config, state, log);
  const allCounters = counters.map((shared) => new Counters(shared));
  const draining = new Drain({ state, reactors, counters: allCounters, drainMs: config.drainMs, announce: async () => nodes?.announce("draining"), log });
  const registry = createMetrics({
    nodeId: config.nodeId,
    version,
    counters: allCounters,
    hub: () => ({ ...hub.usage(), tailBytes: tailBudget.used }),
    presence: () => hub.presence.usage(),
    broker: () => broker.usage(),
    queue: (reactor) => reactors.queue(reactor),
    reactors: () => ({ serving: reactors.serving, restarts: reactors.restarts }),
    ready: () => state.ready,
    drain: () => draining.progress(),
    nodes: () => ({ stale: nodes?.stale ?? false, states: nodes?.nodes().map((one) => one.state) ?? [] }),
    memory: () => ({ limitBytes: config.memoryLimitBytes, usedBytes: guard.usedBytes(), short: guard.short }),
  });
  if (redis !== null) addRedisMetrics(registry, () => redis, stores.writes);
  if (config.dataDir !== "") addDiskMetrics(registry, stores.journals);
  if (stores.nats !== null) addNatsMetrics(registry, stores.nats);

  const surveys = new Surveys({
    node,
    nodes: () => nodes?.nodes() ?? [],
    answer: (question) => answerTo(question, { hub, rooms, state, redis, nats: stores.nats }),
    reachable: () => redis?.up ?? false,
    send: (to, message) => messages?.send(to, message),
    sendAll: (message) => messages?.sendAll(message),
  });
  const disconnect: Gateway["disconnect"] = (user, { tenant = "", signOut = false, timeoutMs } = {}) => {
    const sessions = signOut ? hub.sessions.signOut(tenant, user) : hub.sessions.disconnect(tenant, user);
    return surveys.hear<"user">({ kind: "user", sessions }, (replyTo) => messages?.sendAll({ kind: "disconnect", tenant, user, replyTo }), { timeoutMs });
  };
  let admin: Admin | null = null;
  let nodes: NodeRegistry | null = null;
  let messages: NodeMessages | null = null;
  const reloadCertificate = () => renewCertificate(config, reactors, log);
  const unwatch = certificate && watchCertificate(certificate, reloadCertificate);
  const warning = certificate && expiryWarning(certificate);
  if (warning) log.warn(warning);
  const shutDown = async (): Promise<void> => {
    state.leaving = true;
    guard.stop();
    unwatch?.();
    unwatchNats?.();
    // Told first: from here on nobody sends clients to this node.
    await nodes?.stop();
    await reactors.close("shutdown");
    hub.close();
    await presence.stop();
    surveys.stop();
    await messages?.stop();
    await stores.close();
    await redis?.close();
    await admin?.close();
  };
  let onEnded = () => {};
  const ended = new Promise<void>((resolve) => (onEnded = resolve));
  let closing: Promise<void> | null = null;
  const close = () => (closing ??= shutDown().finally(onEnded));
  const drain = (options?: DrainOptions) => draining.begin(options).then(close);
  const drains: Drains = {
    of: (id) => {
      if (id === node) return drains;
      const isKnown = nodes?.nodes().some((one) => one.id === id && one.state !== "down") ?? false;
      return isKnown && nodes !== null && messages !== null ? new RemoteDrain(id, nodes, messages) : null;
    },
    progress: () => draining.progress(),
    begin: (options: DrainOptions) => {
      const over = draining.begin(options);
      void over.then(close);
      return over;
    },
  };
  const known = () => ({ node, stale: nodes?.stale ?? false, nodes: nodes?.nodes() ?? [] });
  try {
    messages = await openMessages(config, redis, log, { received: (message) => onMessage({ hub, drains, surveys, log }, message) });
    nodes = await openRegistry(config, redis, nodeFacts(config, port, allCounters, () => reactors.serving), log, { nodeChanged });
    const survey: Gateway["survey"] = (question, options) => surveys.ask(question, options);
    admin = await startAdminPort(config, { metrics: registry, slow: () => reactors.slow(), disconnect, drains, nodes: known, survey });
    await reactors.start();
    await nodes.announce("up");
    guard.start();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    config,
    port,
    tcpPort,
    adminPort: admin.port,
    url: `${certificate ? "wss" : "ws"}://${at(reachable(config.host), port)}/ws`,
    log,
    metrics: () => registry.metrics(),
    disconnect,
    survey: (question, options) => surveys.ask(question, options),
    nodes: known,
    reloadCertificate,
    failReactor: (index, whenFull = false) => reactors.fail(index, whenFull),
    drain,
    close,
    ended,
  };
}

/** What another node has to say. */
function onMessage({ hub: { sessions }, drains, surveys, log }: { hub: Hub; drains: Drains; surveys: Surveys; log: Logger }, message: NodeMessage): void {
  switch (message.kind) {
    case "taken": return sessions.taken(message.session, message.generation);
    case "disconnect": {
      const closed = sessions.close(message.tenant, message.user);
      if (message.replyTo !== undefined) surveys.reply(message.replyTo, { kind: "user", sessions: closed });
      return;
    }
    case "question": return surveys.asked(message.question, message.replyTo);
    case "answer": return surveys.answered(message);
    case "drain": {
      const { kind: _, ...options } = message;
      const asked = drainShape.safeParse(options);
      if (asked.success) void drains.begin(asked.data);
      else log.warn({ problem: asked.error.issues[0]?.message }, "a drain that was asked for through Redis is not possible as it was asked");
    }
  }
}

/** What this node says for itself when all are asked. */
function answerTo(question: Question, { hub, rooms, state, redis, nats }: Answering): NodeAnswer {
  switch (question.kind) {
    case "user": return { kind: "user", sessions: hub.sessions.countOf(question.tenant ?? "", question.user) };
    case "room": return { kind: "room", members: rooms.named(roomKey(question.tenant ?? "", question.room))?.members ?? 0 };
    case "health": {
      const { sessions: { size: sessions, users } } = hub;
      const { problem } = state;
      return { kind: "health", ready: problem === "", problem, sessions, users, rooms: rooms.size, redis: redis && redis.up, nats: nats && !nats().away };
    }
  }
}

interface Answering {
  readonly hub: Hub;
  readonly rooms: Rooms;
  readonly state: NodeState;
  readonly redis: RedisLink | null;
  readonly nats: (() => ConnectionUsage) | null;
}

/** Tells when NATS has been away for longer than the grace, and when it is back. */
function watchAway(usage: () => ConnectionUsage, graceMs: number, tell: (away: boolean) => void): () => void {
  let since = 0;
  let told = false;
  const timer = setInterval(() => {
    since = usage().away ? since || performance.now() : 0;
    const away = since > 0 && performance.now() - since >= graceMs;
    if (away !== told) tell((told = away));
  }, awayLookMs).unref();
  return () => clearInterval(timer);
}

function guardMemory({ memoryLimitBytes: limitBytes, memoryHighPercent: highPercent }: Config, state: NodeState, log: Logger): MemoryGuard {
  const onChange = (short: boolean, usedBytes: number) => {
    state.shortOfMemory = short;
    if (short) log.warn({ usedBytes, limitBytes }, `more than ${highPercent} % of the memory is used: no more sockets are taken`);
    else log.info({ usedBytes, limitBytes }, "there is memory again: sockets are taken");
  };
  return new MemoryGuard({ limitBytes, highPercent, onChange });
}

function renewCertificate(config: Config, reactors: Reactors, log: Logger): boolean {
  try {
    const renewed = readCertificate(config);
    if (renewed === null) return false;
    const warning = expiryWarning(renewed);
    if (warning !== null) log.warn(warning);
    reactors.renew(renewed);
    log.info({ certificate: renewed.certFile, expires: new Date(renewed.expiresAt).toISOString() }, "the certificate was read again");
    return true;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    log.error(`${error.message}; the certificate there was goes on`);
    return false;
  }
}

/** Stored sessions that have a socket are kept alive this often: several times in their life. */
function keepWithin(ttlMs: number): number {
  return Math.max(10, Math.min(30_000, ttlMs / 4));
}

async function startAdminPort(config: Config, served: Served): Promise<Admin> {
  try {
    return await startAdmin(config.adminHost, config.adminPort, served);
  } catch (error) {
    throw new ConfigError([listenProblem("--admin-host", "--admin-port", config.adminHost, config.adminPort, error)]);
  }
}

/** Every socket is a file: past the process's limit uWS could neither accept a socket nor refuse it, and would spin. */
function affordableSockets({ socketsMax, reactors, dataDir }: Config, log: Logger): number {
  const files = openFilesMax() ?? Infinity;
  const others = otherFiles + (dataDir === "" ? 0 : filesOnDisk);
  const affordable = Math.max(1, Math.floor((files - others - filesPerReactor * reactors) * (1 - spareShare)));
  if (socketsMax <= affordable) return socketsMax;
  log.warn(
    `--sockets-max ${socketsMax} is lowered to ${affordable}: this process may open ${files} files; raise the limit (ulimit -n)`,
  );
  return affordable;
}

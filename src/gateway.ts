/** Composition: the one place that picks the parts of a node, starts them in order and ends them in reverse. */
import { createServer, type AddressInfo } from "node:net";
import { startAdmin, type Admin } from "./admin/admin.ts";
import { readKeys } from "./auth/files.ts";
import { expiryWarning, readCertificate, watchCertificate } from "./certificate.ts";
import type { Broker, Deliver, Moved, Retention } from "./broker/broker.ts";
import { connectRedis, openMessages, openRegistry, openSessions, type SharedSessions } from "./cluster.ts";
import { createLogBroker } from "./broker/log.ts";
import { createMemoryBroker } from "./broker/memory.ts";
import type { NatsBroker } from "./broker/nats.ts";
import { ConfigError, resolveConfig, showValue, type Config, type GatewayOptions } from "./config.ts";
import { addDiskMetrics, type DiskUsage } from "./diskmetrics.ts";
import type { DrainOptions } from "./drain.ts";
import { openDataDir } from "./disk/datadir.ts";
import { explained } from "./disk/error.ts";
import { Drain } from "./hub/drain.ts";
import { Hub } from "./hub/hub.ts";
import { Reactors } from "./hub/reactors.ts";
import { pageBytesFor } from "./hub/replays.ts";
import { Rooms } from "./hub/rooms.ts";
import { TailBudget } from "./hub/tail.ts";
import { Counters, createCounters } from "./link/counters.ts";
import { randomId } from "./ids.ts";
import { createMemoryPresence } from "./presence/memory.ts";
import { createDiskSessions } from "./sessions/disk.ts";
import { createMemorySessions } from "./sessions/memory.ts";
import type { Sessions } from "./sessions/sessions.ts";
import { NodeState } from "./threads.ts";
import { createLogger, type Logger } from "./log.ts";
import { openFilesMax } from "./machine.ts";
import { MemoryGuard } from "./memoryguard.ts";
import { createMetrics } from "./metrics.ts";
import { nodeFacts } from "./nodefacts.ts";
import { Encoder } from "./protocol/encoder.ts";
import { addNatsMetrics, type NatsUsage } from "./natsmetrics.ts";
import type { NodeMessage, NodeMessages } from "./messages/messages.ts";
import { addRedisMetrics } from "./redismetrics.ts";
import type { RegisteredNode, Registry as NodeRegistry } from "./registry/registry.ts";
import { nameOfRoom } from "./roomkeys.ts";
import { compileKinds, durableNamespaces, namespaceOf } from "./roomnames.ts";
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
   * from here on too. How many sessions there were.
   */
  disconnect(user: string, options?: { readonly tenant?: string; readonly signOut?: boolean }): number;
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
/** Sessions that are stored at most, with and without a socket, and devices whose place in an inbox is remembered. */
const storedSessionsMax = 1_000_000;
const cursorsMax = 1_000_000;
/** Bytes of publications that may wait for their commit to the disk, and the files that are open with a data directory. */
const uncommittedBytesMax = 16 * 1024 * 1024;
const filesOnDisk = 120;
/** How often it is looked whether NATS is there. */
const awayLookMs = 250;
/** Bytes that the tails of all rooms together may take, and the share of the memory that is more than enough for them. */
const tailsBytesMax = 256 * 1024 * 1024;
const tailsShare = 1 / 8;

/**
 * Starts a node. Only `options` count: flags, environment and file are for `flux-gateway start` to read.
 * @throws ConfigError that names the option, where one is wrong or a port is taken.
 */
export async function createGateway(options: GatewayOptions = {}): Promise<Gateway> {
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
  const presence = createMemoryPresence(presenceOptions(config), {
    roomChanged: (room, change) => hub.presence.roomChanged(room, change),
    statusChanged: (status) => hub.presence.statusChanged(status),
  });
  const kindOf = compileKinds(config);
  const retentionOf = (room: string) => kindOf(nameOfRoom(room))?.retention ?? null;
  const openAll = async () => {
    const shared = redis && (await openSessions(config, redis, log, (id) => hub.sessions.forgotten(id)));
    return openStores(config, log, shared, retentionOf, (room, publication) => hub.deliver(room, publication), (room, position) => hub.moved(room, position));
  };
  const stores = await openAll().catch(async (error: unknown) => {
    await redis?.close();
    throw error;
  });
  const { broker, store, resumeSecret } = stores;
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

  const disconnect: Gateway["disconnect"] = (user, { tenant = "", signOut = false } = {}) => {
    const sessions = signOut ? hub.sessions.signOut(tenant, user) : hub.sessions.disconnect(tenant, user);
    messages?.sendAll({ kind: "disconnect", tenant, user });
    return sessions;
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
  const drains = {
    progress: () => draining.progress(),
    begin: (options: DrainOptions) => {
      const over = draining.begin(options);
      void over.then(close);
      return over;
    },
  };
  const known = () => ({ node, stale: nodes?.stale ?? false, nodes: nodes?.nodes() ?? [] });
  try {
    messages = await openMessages(config, redis, log, { received: (message) => onMessage(hub, message) });
    nodes = await openRegistry(config, redis, nodeFacts(config, port, allCounters, () => reactors.serving), log);
    admin = await startAdminPort(config, registry, () => reactors.slow(), disconnect, drains, known);
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
    nodes: known,
    reloadCertificate,
    failReactor: (index, whenFull = false) => reactors.fail(index, whenFull),
    drain,
    close,
    ended,
  };
}

/** What another node has to say. */
function onMessage({ sessions }: Hub, message: NodeMessage): void {
  switch (message.kind) {
    case "taken": return sessions.taken(message.session, message.generation);
    case "disconnect": return void sessions.close(message.tenant, message.user);
  }
}

/** What outlives a socket, and with a data directory the node. */
interface Stores {
  readonly broker: Broker;
  readonly store: Sessions;
  readonly resumeSecret: string;
  /** The journals of a data directory, for metrics. */
  readonly journals: Readonly<Record<string, () => DiskUsage>>;
  /** Writes of sessions that nodes share. */
  readonly writes: () => { readonly waiting: number; readonly dropped: number };
  /** What the connection to NATS says of itself; null where there is none. */
  readonly nats: (() => NatsUsage) | null;
  close(): Promise<void>;
}

async function openStores(config: Config, log: Logger, shared: SharedSessions | null, retentionOf: (room: string) => Retention | null, deliver: Deliver, moved: Moved): Promise<Stores> {
  const { roomsMax, historyTotalBytesMax, keyWindowMs, keysPerRoomMax, sessionTtlMs: ttlMs, dataDir: path, dataBytesMax } = config;
  const rooms = { roomsMax, historyTotalBytesMax, keyWindowMs, keysPerRoomMax };
  const sessions = { ttlMs, sessionsMax: storedSessionsMax, cursorsMax };
  if (path === "") {
    const nats = config.nats.length === 0 ? null : await openNats(config, log, deliver, moved);
    const broker = nats ?? createMemoryBroker(rooms, deliver);
    const store = shared?.store ?? createMemorySessions(sessions);
    const close = async () => void (await store.stop(), await broker.stop());
    return { broker, store, resumeSecret: config.resumeSecret || (shared?.secret ?? randomId(32)), journals: {}, writes: shared?.store.writes ?? noWrites, nats: nats && (() => nats.nats()), close };
  }
  const opened: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const end of opened.splice(0).reverse()) await end();
  };
  try {
    const dataDir = await openDataDir(path);
    opened.push(() => dataDir.close());
    const disk = { sync: config.dataSync === "commit", uncommittedBytesMax: Math.min(uncommittedBytesMax, dataBytesMax / 8), log };
    const broker = await createLogBroker({ ...rooms, ...disk, folder: dataDir.folder("log"), dataBytesMax, retentionOf }, deliver);
    opened.push(() => broker.stop());
    const store = await createDiskSessions({ ...sessions, ...disk, folder: dataDir.folder("sessions") });
    opened.push(() => store.stop());
    const journals = { log: () => broker.disk(), sessions: () => store.disk() };
    return { broker, store, resumeSecret: config.resumeSecret || (await dataDir.secret()), journals, writes: noWrites, nats: null, close };
  } catch (error) {
    await close();
    throw new ConfigError([`--data-dir ${path}: ${explained(error).message}`]);
  }
}

const noWrites = () => ({ waiting: 0, dropped: 0 });

/** The client library is loaded where it is needed only. */
async function openNats(config: Config, log: Logger, deliver: Deliver, moved: Moved): Promise<NatsBroker> {
  const { createNatsBroker, NatsProblem } = await import("./broker/nats.ts");
  const { nats: servers, natsUser: user, natsPassword: password, natsToken: token, natsCreds: creds } = config;
  const { natsTlsCa: tlsCa, natsTlsCert: tlsCert, natsTlsKey: tlsKey, natsPrefix: prefix, natsTimeoutMs: timeoutMs } = config;
  const { natsPartitions: partitions, natsStorage: storage, roomsMax, keyWindowMs, keysPerRoomMax, nodeId: node } = config;
  const access = { servers, user, password, token, creds, tlsCa, tlsCert, tlsKey };
  const kept = { prefix, partitions, replicas: Number(config.natsReplicas), storage, keyWindowMs, namespaces: durableNamespaces(config), namespaceOf };
  const limits = { timeoutMs, roomsMax, keysPerRoomMax, payloadBytesMax: config.frameBytesMax };
  try {
    return await createNatsBroker({ ...access, ...kept, ...limits, node, log }, deliver, moved);
  } catch (error) {
    if (!(error instanceof NatsProblem)) throw error;
    throw new ConfigError([`--nats ${showValue(config, "nats")}: ${error.message}`]);
  }
}

/** Tells when NATS has been away for longer than the grace, and when it is back. */
function watchAway(usage: () => NatsUsage, graceMs: number, tell: (away: boolean) => void): () => void {
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

function presenceOptions(config: Config): Parameters<typeof createMemoryPresence>[0] {
  return {
    graceMs: config.presenceGraceMs,
    intervalMs: config.presenceIntervalMs,
    namedUsersMax: config.presenceNamedUsersMax,
    namedChangesMax: config.presenceNamedChangesMax,
    lastSeenTtlMs: config.lastSeenTtlMs,
    lastSeenMax: config.lastSeenMax,
  };
}

/** Stored sessions that have a socket are kept alive this often: several times in their life. */
function keepWithin(ttlMs: number): number {
  return Math.max(10, Math.min(30_000, ttlMs / 4));
}

type Served = Parameters<typeof startAdmin> extends [string, number, ...infer Rest] ? Rest : never;

async function startAdminPort(config: Config, ...served: Served): Promise<Admin> {
  try {
    return await startAdmin(config.adminHost, config.adminPort, ...served);
  } catch (error) {
    throw new ConfigError([listenProblem("--admin-host", "--admin-port", config.adminHost, config.adminPort, error)]);
  }
}

/**
 * The ports to listen on, free ones for 0. Reactors share them on purpose (SO_REUSEPORT, which uWS does not set for
 * port 0), and would share them with another node without a word: this sees first that nobody is there.
 */
async function findPorts({ host, port, tcpHost, tcpPort }: Config): Promise<{ port: number; tcpPort: number | null }> {
  const web = await probe("--host", "--port", host, port);
  try {
    if (tcpPort === null) return { port: web.port, tcpPort };
    const raw = await probe("--tcp-host", "--tcp-port", tcpHost || host, tcpPort);
    await raw.close();
    return { port: web.port, tcpPort: raw.port };
  } finally {
    await web.close();
  }
}

async function probe(hostFlag: string, portFlag: string, host: string, port: number) {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, () => resolve());
    });
  } catch (error) {
    throw new ConfigError([listenProblem(hostFlag, portFlag, host, port, error)]);
  }
  const found = (server.address() as AddressInfo).port;
  return { port: found, close: () => new Promise((resolve) => server.close(resolve)) };
}

function listenProblem(hostFlag: string, portFlag: string, host: string, port: number, error: unknown): string {
  const where = at(host, port);
  switch ((error as NodeJS.ErrnoException).code) {
    case "EADDRINUSE":
      return `${portFlag} ${port}: something else listens on ${where}; end it or choose another port`;
    case "EACCES":
      return `${portFlag} ${port}: this user may not listen on ${where}; choose a port from 1024 on`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `${hostFlag} ${host}: this machine has no such address; choose one of its own, or 0.0.0.0 for all`;
    default:
      return `${hostFlag} ${host} ${portFlag} ${port}: cannot listen: ${String((error as Error).message)}`;
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

/** A host to connect to where `host` may mean every address. */
function reachable(host: string): string {
  return host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
}

function at(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}


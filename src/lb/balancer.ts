/** A load balancer: its parts, its ports, reload and exit. It forwards bytes, and never looks into what nodes and clients say. */
import { createServer, type AddressInfo, type Server } from "node:net";
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket, type TlsOptions } from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";
import { startMetrics, startOwnAdmin, type Admin } from "../admin/admin.ts";
import { expiryWarning, readCertificate, type Certificate } from "../config/certificate.ts";
import { ConfigError, type Config } from "../config/config.ts";
import { createLbMetrics, type LbUsage } from "../metrics/lb.ts";
import { listenProblem } from "../node/ports.ts";
import { createLogger, type Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { canSharePorts } from "../platform/machine.ts";
import { Door } from "./door.ts";
import { Health } from "./health.ts";
import { acceptFrom, acceptOptions } from "./link.ts";
import { openMembers, type Members } from "./members.ts";
import { isUsable, Nodes } from "./nodes.ts";

export interface Balancer {
  readonly config: Config;
  readonly log: Logger;
  readonly port: number;
  readonly adminPort: number;
  readonly metricsPort: number | null;
  /** What /nodes of the admin port answers. */
  nodes(): object;
  usage(): LbUsage;
  /** Uses what can change while clients are connected. Options that cannot are named in the log. */
  reload(config: Config): void;
  /** Takes no more clients, and waits for those that are there, at most `drainMs`. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

const backlog = 4096;
const drainLookMs = 50;
/** Options that a reload cannot change. */
const fixed = ["host", "port", "adminHost", "adminPort", "adminKey", "metricsHost", "metricsPort", "logLevel", "logFormat", "redis", "redisPrefix", "redisTlsCa", "redisAnswerMs", "nodeHeartbeatMs", "nodeDeadMs", "placementPartitions", "sharePort"] as const;

/** @throws ConfigError */
export async function createBalancer(config: Config): Promise<Balancer> {
  const certificate = readCertificate(config);
  if (config.sharePort && !canSharePorts()) throw new ConfigError([`--share-port: needs Node 22.12 or later on Linux, and this is ${process.version} on ${process.platform}; remove it, or run one load balancer a port`]);
  const log = createLogger(config);
  const members = await openMembers(config, log);
  const opened: { close(): unknown }[] = [{ close: () => members.stop() }];
  try {
    return await open(config, certificate, members, log, opened);
  } catch (error) {
    for (const one of opened) await one.close();
    throw error;
  }
}

async function open(config: Config, certificate: Certificate | null, members: Members, log: Logger, opened: { close(): unknown }[]): Promise<Balancer> {
  const sparse = new Sparse();
  const nodes = followed(members);
  const door = doorTo(nodes, config, log, sparse);
  const health = healthOf(nodes, config, log);
  opened.push(door, { close: () => health.stop() });
  const warning = certificate && expiryWarning(certificate);
  if (warning) log.warn(warning);

  const state: State = { config, draining: false, closing: null };
  const { usage, list, ready } = reports(state, { members, nodes, door });
  const metrics = createLbMetrics(usage);
  const paths = { "/nodes": () => ({ status: 200, value: list() }), "/health": () => ({ status: 200, value: {} }), "/ready": ready };
  const [admin, own] = await startPorts(config, log, metrics, paths, opened);
  const { server, secure } = serve(door, certificate, config.firstBytesMs);
  const port = await listening(server, config);
  opened.unshift({ close: () => void server.close() });
  // A connection that could not be accepted is lost. The others go on.
  server.on("error", (error) => {
    if (sparse.due("accept") !== null) log.warn({ err: error }, "accepting a connection failed, maybe at the limit of open files (ulimit -n)");
  });
  health.checkAll();
  return {
    get config() { return state.config; },
    log, port, adminPort: admin.port, metricsPort: own?.port ?? null, nodes: list, usage,
    close: () => (state.closing ??= (async () => { for (const one of opened) await one.close(); })()),
    reload: (renewed) => reload(renewed, state, { members, door, health, secure, log }),
    drain: () => drain(state, door, server),
  };
}

/** What changes while it runs. */
interface State {
  config: Config;
  draining: boolean;
  closing: Promise<void> | null;
}

/** The nodes, as the list has them at any time. */
function followed(members: Members): Nodes {
  const nodes = new Nodes();
  const update = () => nodes.update(members.nodes(), members.table(), members.partitions());
  members.onChange(update);
  update();
  return nodes;
}

function doorTo(nodes: Nodes, config: Config, log: Logger, sparse: Sparse): Door {
  return new Door({
    nodes, config,
    dialFailed: ({ listed: { id, host, port } }, code) => {
      const unsaid = sparse.due(`dial ${code}`);
      if (unsaid !== null) log.warn({ peer: id, host, port, problem: code, ...(unsaid > 0 && { unsaid }) }, `node ${id} does not accept connections: it gets none until it answers again`);
    },
  });
}

function healthOf(nodes: Nodes, config: Config, log: Logger): Health {
  return new Health({
    nodes, everyMs: config.readyCheckMs, answerMs: config.dialMs,
    changed: (node, problem) => {
      const { id } = node.listed;
      if (isUsable(node)) log.info({ peer: id }, `node ${id} gets connections`);
      else log.warn({ peer: id, problem }, `node ${id} gets no more connections: ${problem || node.listed.state}`);
    },
  });
}

/** What metrics and the admin port say. */
function reports(state: State, { members, nodes, door }: { readonly members: Members; readonly nodes: Nodes; readonly door: Door }) {
  const usage = (): LbUsage => ({
    counts: door.counts, bytes: door.bytes, stale: members.stale, table: nodes.table?.number ?? 0,
    nodes: nodes.all().map((node) => ({ id: node.listed.id, open: node.open, opened: node.opened, failed: node.failed, usable: isUsable(node) })),
  });
  const list = () => ({
    policy: state.config.policy, stale: members.stale, table: nodes.table?.number ?? 0, partitions: nodes.table?.partitions ?? 0,
    nodes: nodes.all().map((node) => {
      const { id, host, port, state, load } = node.listed;
      return { id, host, port, state, load, usable: isUsable(node), open: node.open, opened: node.opened, failed: node.failed };
    }),
  });
  const ready = () => {
    const problem = state.draining ? "the load balancer exits" : nodes.usable().length === 0 ? "no node takes connections" : "";
    return problem === "" ? { status: 200, value: { ready: true } } : { status: 503, value: { ready: false, error: { code: "unavailable", text: problem } } };
  };
  return { usage, list, ready };
}

interface Reloaded {
  readonly members: Members;
  readonly door: Door;
  readonly health: Health;
  readonly secure: TlsServer | null;
  readonly log: Logger;
}

function reload(renewed: Config, state: State, { members, door, health, secure, log }: Reloaded): void {
  const { config: current } = state;
  const ignored: (keyof Config)[] = fixed.filter((key) => renewed[key] !== current[key]);
  if ((renewed.tlsCert === "") !== (secure === null)) ignored.push("tlsCert", "tlsKey");
  if (renewed.redis !== current.redis) ignored.push("nodes");
  // A name that nobody gave is another one each time.
  const kept = Object.fromEntries([...ignored, "nodeId" as const].map((key) => [key, current[key]]));
  const next: Config = { ...renewed, ...kept };
  const pair = secure === null ? null : readCertificate(next);
  if (secure !== null && pair !== null) secure.setSecureContext(contextOf(pair));
  if (secure !== null) secure.maxConnections = acceptedMax(next);
  state.config = next;
  members.reload(next);
  door.reload(next);
  health.reload({ everyMs: next.readyCheckMs, answerMs: next.dialMs });
  log.info({ ...(ignored.length > 0 && { ignored }) }, `configuration reloaded${ignored.length > 0 ? `; a restart is needed for ${ignored.join(", ")}` : ""}`);
}

async function drain(state: State, door: Door, server: Server): Promise<void> {
  state.draining = true;
  server.close();
  door.leave();
  const giveUpAt = performance.now() + state.config.drainMs;
  while (door.open > 0 && performance.now() < giveUpAt && state.closing === null) await sleep(drainLookMs);
}

function serve(door: Door, certificate: Certificate | null, handshakeTimeout: number): { server: Server; secure: TlsServer | null } {
  if (certificate === null) {
    const server = createServer(acceptOptions);
    server.once("listening", () => acceptFrom(server, (client, readsShared) => door.accept(client, readsShared)));
    return { server, secure: null };
  }
  const { pauseOnConnect: _, ...options } = acceptOptions;
  const secure = createTlsServer({ ...options, ...contextOf(certificate), handshakeTimeout }, (socket: TLSSocket) => door.accept(socket, false));
  // A failed handshake ends the client's connection, and needs no other action.
  secure.on("tlsClientError", (_error, socket) => void socket.destroy());
  return { server: secure, secure };
}

function contextOf({ cert, key, passphrase }: Certificate): TlsOptions {
  return { cert, key, passphrase, minVersion: "TLSv1.2" };
}

/** Connections in the handshake of TLS are no clients yet, and only this counts them. */
function acceptedMax({ connectionsMax }: Pick<Config, "connectionsMax">): number {
  return 2 * connectionsMax;
}

function listening(server: Server, { host, port, sharePort, connectionsMax, tlsCert }: Config): Promise<number> {
  if (tlsCert !== "") server.maxConnections = acceptedMax({ connectionsMax });
  return new Promise((resolve, reject) => {
    const failed = (error: unknown) => reject(new ConfigError([listenProblem("--host", "--port", host, port, error)]));
    server.once("error", failed);
    server.listen({ host, port, backlog, ...(sharePort && { reusePort: true }) }, () => {
      server.off("error", failed);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

async function startPorts(config: Config, log: Logger, metrics: Parameters<typeof startMetrics>[1], paths: Parameters<typeof startOwnAdmin>[3], opened: { close(): unknown }[]): Promise<[Admin, Admin | null]> {
  const { adminHost, adminPort, adminKey, metricsHost, metricsPort } = config;
  const start = async (flag: string, host: string, port: number, opening: () => Promise<Admin>): Promise<Admin> => {
    const started = await opening().catch((error: unknown) => {
      throw new ConfigError([listenProblem(`--${flag}-host`, `--${flag}-port`, host, port, error)]);
    });
    opened.push(started);
    return started;
  };
  const admin = await start("admin", adminHost, adminPort, () => startOwnAdmin({ host: adminHost, port: adminPort, key: adminKey, log }, "flux-gateway lb admin", metrics, paths));
  if (metricsPort === null) return [admin, null];
  const alone = { host: metricsHost || "127.0.0.1", port: metricsPort };
  return [admin, await start("metrics", alone.host, alone.port, () => startMetrics(alone, metrics, log))];
}

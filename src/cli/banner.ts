/** What a node prints at start: its addresses and parts, and who may connect. */
import { getHeapStatistics } from "node:v8";
import { hasKey, isLoopback, showValue, type Config } from "../config/config.ts";
import { showNamespaceOption } from "../config/namespaces.ts";
import type { Gateway } from "../node/gateway.ts";
import { planMemory } from "../platform/memoryplan.ts";
import { redisServer } from "../redis/target.ts";

export interface Running extends Pick<Gateway, "config" | "port" | "tcpPort" | "adminPort" | "apiPort" | "metricsPort"> {
  readonly version: string;
  readonly configFile: string | undefined;
}

/** Fields of the log line at start. */
export function describe({ version, config, port, tcpPort, adminPort, apiPort, metricsPort, configFile }: Running): Record<string, string | number> {
  const s = config.tlsCert === "" ? "" : "s";
  const adminUrl = `http://${reachable(config.adminHost)}:${adminPort}`;
  const web = `http${s}://${reachable(config.host)}:${port}`;
  return {
    version,
    websocket: `ws${s}://${reachable(config.host)}:${port}/ws`,
    tcp: tcpPort === null ? "off" : `${s === "" ? "tcp" : "tls"}://${reachable(config.tcpHost || config.host)}:${tcpPort}`,
    demo: config.demo ? `${web}/` : "off",
    health: `${web}/health`,
    admin: `${adminUrl}/, ${config.adminKey === "" ? "without a key, from this machine only" : "with the admin key"}`,
    api: `http://${reachable(config.apiPort === null ? config.adminHost : config.apiHost || "127.0.0.1")}:${apiPort}/api/v1/docs`,
    metrics: metricsPort === null ? `${adminUrl}/metrics` : `http://${reachable(config.metricsHost || "127.0.0.1")}:${metricsPort}/metrics`,
    reactors: config.reactors,
    memory: memory(config),
    access: access(config),
    origins: origins(config),
    broker: broker(config),
    registry: config.redis === "" ? "embedded, in memory: this node alone" : `Redis at ${redisServer(config.redis)}, keys ${config.redisPrefix}…`,
    namespaces: namespaces(config),
    config: configFile ?? "no file",
  };
}

/** The same for people, as text. */
export function banner(running: Running): string {
  const { version, ...rest } = describe(running);
  const titles: Record<string, string> = { websocket: "WebSocket", tcp: "Raw TCP", demo: "Demo page", api: "HTTP API" };
  const lines = Object.entries(rest).map(([name, value]) => `  ${(titles[name] ?? capital(name)).padEnd(12)}${value}`);
  return ["", `flux-gateway ${version}, ${running.config.nodeId}, process ${process.pid}`, "", ...lines, "", "  Ctrl+C closes it.", ""].join("\n");
}

function access(config: Config): string {
  const from = isLoopback(config.host) ? "from this machine only" : "from every machine that reaches this address";
  if (!hasKey(config)) return `anonymous, ${from}`;
  return `with a token (${keys(config)})${config.allowAnonymous ? ", or anonymous" : ""}, ${from}`;
}

function keys({ authSecret, authSecretPrevious, authKeys, authJwksUrl }: Config): string {
  const secrets = [authSecret, authSecretPrevious].filter((secret) => secret !== "").length;
  const kinds = [secrets > 0 && (secrets > 1 ? "two secrets" : "a secret"), ...authKeys, authJwksUrl];
  return kinds.filter(Boolean).join(", ");
}

function broker(config: Config): string {
  const { dataDir, dataSync, nats } = config;
  if (nats.length > 0) return `NATS at ${showValue(config, "nats")}, as ${config.natsPrefix}`;
  if (dataDir === "") return "embedded, in memory: rooms and history are lost when the node exits";
  const when = dataSync === "commit" ? "before a publish is acknowledged" : "without waiting for the disk";
  return `embedded, on disk in ${dataDir}: written ${when}`;
}

/** The main thread's heap limit was fixed at start (node-flags); this node sets those of the reactors. */
function memory(config: Config): string {
  const { reactorHeapMb: reactor } = planMemory(config);
  const main = Math.round(getHeapStatistics().heap_size_limit / 2 ** 20);
  return `${Math.round(config.memoryLimitBytes / 2 ** 20)} MiB, of which heaps up to ${main} MiB and ${reactor} MiB a reactor`;
}

function origins({ allowedOrigins }: Config): string {
  if (allowedOrigins.includes("*")) return "pages from anywhere";
  return ["pages from this host", ...allowedOrigins].join(", ");
}

function namespaces(config: Config): string {
  const described = Object.entries(config.namespaces).map(([name, options]) => {
    if (!options.durable) return name;
    const { historySize, historyTtlMs } = options;
    return `${name} (durable: ${historySize} publications, ${showNamespaceOption("historyTtlMs", historyTtlMs)})`;
  });
  return described.join(", ");
}

/** A host for a URL that works on this machine. */
function reachable(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "localhost";
  return host.includes(":") ? `[${host}]` : host;
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

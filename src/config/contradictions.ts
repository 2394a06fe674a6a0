/** Checks options that are valid by themselves but contradict each other. */
import { neededBytes } from "../platform/memoryplan.ts";
import { hasKey, isLoopback } from "./reach.ts";
import { showSize } from "./values.ts";
import { label, type Source } from "./sources.ts";

/** Options that depend on one another. */
export interface Related {
  readonly host: string;
  readonly allowAnonymous: boolean;
  readonly authSecret: string;
  readonly authSecretPrevious: string;
  readonly authKeys: readonly string[];
  readonly authJwksUrl: string;
  readonly port: number;
  readonly adminHost: string;
  readonly adminPort: number;
  readonly adminKey: string;
  readonly apiHost: string;
  readonly apiKeys: string;
  readonly apiPort: number | null;
  readonly apiPublic: boolean;
  readonly apiTokens: boolean;
  readonly metricsHost: string;
  readonly metricsPort: number | null;
  readonly tcpPort: number | null;
  readonly tcpHost: string;
  readonly tlsCert: string;
  readonly tlsKey: string;
  readonly frameBytesMax: number;
  readonly ringBytes: number;
  readonly memoryLimitBytes: number;
  readonly reactors: number;
  readonly roomNameBytesMax: number;
  readonly dataDir: string;
  readonly nats: readonly string[];
  readonly natsApi: boolean;
  readonly natsUser: string;
  readonly natsPassword: string;
  readonly natsToken: string;
  readonly natsCreds: string;
  readonly natsTlsCert: string;
  readonly natsTlsKey: string;
  readonly redis: string;
  readonly resumeSecret: string;
  readonly redisTlsCa: string;
  readonly placement: string;
  readonly placementPartitions: number;
  readonly placementStreams: number;
  readonly maxPartitions: number;
  readonly nodeHeartbeatMs: number;
  readonly nodeDeadMs: number;
  readonly nodes: readonly string[];
  readonly sendProxy: boolean;
}
type Key = keyof Related;

/**
 * Contradictions, one problem each.
 * @param refused options that are invalid by themselves: no further problem is reported for them.
 * @param isUsed whether the command that runs takes the option. Rules about others do not concern it.
 */
export function contradictions(config: Related, refused: ReadonlySet<string>, sourceOf: (key: string) => Source, isUsed: (key: string) => boolean): string[] {
  const problems: string[] = [];
  const name = (key: Key) => label(sourceOf(key), key);
  const refuse = (wrong: boolean, key: Key, other: Key, text: string) => {
    if (!wrong || refused.has(key) || refused.has(other) || !isUsed(key) || !isUsed(other)) return;
    // Blames an option that was given, not a default.
    const accused = sourceOf(key).rank === "default" ? other : key;
    problems.push(`${name(accused)}: ${text}`);
  };
  const { host, allowAnonymous, authSecret, authSecretPrevious, port, adminPort, frameBytesMax, ringBytes, roomNameBytesMax } = config;
  const { tcpPort, tcpHost } = config;
  const frame = `${name("frameBytesMax")} of ${showSize(frameBytesMax)}`;
  /** The option's name as the operator would type it. */
  const called = (key: Key) => (sourceOf(key).rank === "default" ? sourceOf(key).name : name(key));

  refuse(
    !allowAnonymous && !hasKey(config) && !isLoopback(host) && !keyNames.some((key) => refused.has(key)),
    "host",
    "allowAnonymous",
    `other machines can reach ${host}, and without a token key anyone there can connect; set ` +
      `${called("authSecret")} or ${called("authKeys")}, use 127.0.0.1, or allow it with ${called("allowAnonymous")}`,
  );
  refuse(
    config.adminKey === "" && !isLoopback(config.adminHost),
    "adminHost",
    "adminKey",
    `other machines can reach ${config.adminHost}, and without a key anyone there can end sessions and drain the node; set ` +
      `${called("adminKey")}, use 127.0.0.1, or serve the metrics alone with ${called("metricsPort")}`,
  );
  refuse(
    config.apiPort !== null && config.adminKey === "" && config.apiKeys === "" && config.redis === "" && config.apiHost !== "" && !isLoopback(config.apiHost),
    "apiHost",
    "adminKey",
    `other machines can reach ${config.apiHost}, and without a key anyone there can publish and end sessions; set ${called("apiKeys")}, ${called("adminKey")} or ${called("redis")}, or use 127.0.0.1`,
  );
  refuse(config.apiHost !== "" && config.apiPort === null, "apiHost", "apiPort", `has no effect without ${called("apiPort")}; set both`);
  for (const [key, other] of [["port", port], ["adminPort", adminPort], ["tcpPort", tcpPort], ["metricsPort", config.metricsPort]] as const) {
    refuse(
      config.apiPort === other && other !== null && other !== 0,
      "apiPort",
      key,
      `${name("apiPort")} and ${name(key)} are both ${other}; choose another port for one of them`,
    );
  }
  refuse(
    config.apiPublic && config.apiKeys === "" && config.redis === "" && !hasKey(config) && !keyNames.some((key) => refused.has(key)),
    "apiPublic",
    "apiKeys",
    `clients can reach the port, and every request there needs a key, of which there is none; set ${called("apiKeys")} or ${called("redis")}`,
  );
  refuse(config.apiTokens && authSecret === "", "apiTokens", "authSecret", `there is no secret to sign tokens with; set ${called("authSecret")}`);
  refuse(config.metricsHost !== "" && config.metricsPort === null, "metricsHost", "metricsPort", `has no effect without ${called("metricsPort")}; set both`);
  refuse(
    authSecretPrevious !== "" && authSecret === "",
    "authSecretPrevious",
    "authSecret",
    `there is no current secret; set ${called("authSecret")} to the secret that signs tokens now`,
  );
  refuse(
    tcpPort !== null && tcpHost !== "" && !allowAnonymous && !hasKey(config) && !isLoopback(tcpHost) && !keyNames.some((key) => refused.has(key)),
    "tcpHost",
    "allowAnonymous",
    `other machines can reach ${tcpHost}, and without a token key anyone there can connect; set ` +
      `${called("authSecret")} or ${called("authKeys")}, use 127.0.0.1, or allow it with ${called("allowAnonymous")}`,
  );
  for (const [key, other] of [["tlsCert", "tlsKey"], ["tlsKey", "tlsCert"]] as const) {
    refuse(config[key] !== "" && config[other] === "", key, other, `has no effect without ${called(other)}; set both`);
  }
  for (const [key, other] of [["port", port], ["adminPort", adminPort], ["tcpPort", tcpPort]] as const) {
    refuse(
      config.metricsPort === other && other !== null && other !== 0,
      "metricsPort",
      key,
      `${name("metricsPort")} and ${name(key)} are both ${other}; choose another port for one of them`,
    );
  }
  for (const [key, other] of [["port", port], ["adminPort", adminPort]] as const) {
    refuse(
      tcpPort === other && tcpPort !== 0,
      "tcpPort",
      key,
      `${name("tcpPort")} and ${name(key)} are both ${other}; choose another port for one of them`,
    );
  }
  refuse(
    port === adminPort && port !== 0,
    "port",
    "adminPort",
    `${name("port")} and ${name("adminPort")} are both ${port}; choose another port for one of them`,
  );
  refuse(
    ringBytes < 16 * frameBytesMax,
    "ringBytes",
    "frameBytesMax",
    `${name("ringBytes")} of ${showSize(ringBytes)} is less than 16 × ${frame}; raise the first or lower the second`,
  );
  const { memoryLimitBytes, reactors } = config;
  const needed = neededBytes(reactors, ringBytes);
  refuse(
    needed > memoryLimitBytes,
    "reactors",
    "memoryLimitBytes",
    `${name("memoryLimitBytes")} of ${inMib(memoryLimitBytes)} is less than the ${inMib(needed)} that ${reactors === 1 ? "one reactor needs" : `${reactors} reactors need`}; raise the memory` +
      (reactors > 1 ? ` or lower ${called("reactors")}` : ringBytes > 16 * frameBytesMax ? ` or lower ${called("ringBytes")}` : ""),
  );
  refuse(
    roomNameBytesMax >= frameBytesMax,
    "roomNameBytesMax",
    "frameBytesMax",
    `${name("roomNameBytesMax")} of ${roomNameBytesMax} does not fit into a frame of ${frame}; lower the first or raise the second`,
  );
  refuse(
    config.nats.length > 0 && config.dataDir !== "",
    "dataDir",
    "nats",
    `NATS stores the rooms, and other nodes cannot use sessions on this node's disk; remove ${called("dataDir")} or ${called("nats")}`,
  );
  refuse(config.natsApi && config.nats.length === 0, "natsApi", "nats", `has no effect without ${called("nats")}; set both`);
  for (const key of natsKeys) {
    refuse(config[key] !== "" && config.nats.length === 0, key, "nats", `has no effect without ${called("nats")}; set both`);
  }
  refuse(config.natsPassword !== "" && config.natsUser === "", "natsPassword", "natsUser", `has no effect without ${called("natsUser")}; set both`);
  for (const [key, other] of [["natsCreds", "natsToken"], ["natsCreds", "natsUser"], ["natsToken", "natsUser"]] as const) {
    refuse(config[key] !== "" && config[other] !== "", key, other, `NATS authenticates a node by one of them; remove ${called(key)} or ${called(other)}`);
  }
  const inAddresses = new Set(config.nats.flatMap((server) => /\/\/([^@/]+)@/.exec(server)?.[1] ?? []));
  refuse(inAddresses.size > 1, "nats", "nats", "name different users or tokens, and a node is one user; give user or token once, for all servers");
  for (const key of ["natsCreds", "natsToken"] as const) {
    refuse(config[key] !== "" && inAddresses.size > 0, key, "nats", `NATS authenticates a node by one of them; remove this option, or the part before the @ in ${called("nats")}`);
  }
  for (const [key, other] of [["natsTlsCert", "natsTlsKey"], ["natsTlsKey", "natsTlsCert"]] as const) {
    refuse(config[key] !== "" && config[other] === "", key, other, `has no effect without ${called(other)}; set both`);
  }
  refuse(
    config.redis !== "" && config.dataDir !== "",
    "dataDir",
    "redis",
    `Redis stores the sessions, and other nodes cannot use rooms on this node's disk; remove ${called("dataDir")} or ${called("redis")}`,
  );
  refuse(
    config.nats.length > 0 && config.redis === "" && config.resumeSecret === "",
    "nats",
    "resumeSecret",
    `nodes on one NATS need the same secret for resume tokens and tickets; set ${called("resumeSecret")} alike on all nodes, or ${called("redis")}, where they share one`,
  );
  refuse(
    config.redisTlsCa !== "" && !config.redis.startsWith("rediss"),
    "redisTlsCa",
    "redis",
    `applies only to TLS, and the address in ${called("redis")} is not rediss://; use rediss://, or remove ${called("redisTlsCa")}`,
  );
  refuse(
    config.placement === "hash" && config.nats.length > 0 && config.redis === "",
    "placement",
    "redis",
    `hash needs Redis, where the nodes agree on the owner of each user; set ${called("redis")}, or use any`,
  );
  for (const [key, isSet] of [["nats", config.nats.length > 0], ["redis", config.redis !== ""]] as const) {
    refuse(
      config.placement === "partition" && !isSet,
      "placement",
      key,
      key === "nats"
        ? `partition needs NATS, which holds the leases of partitions and their queues; set ${called("nats")}, or use any or hash`
        : `partition needs Redis, where the nodes know each other and agree on a table; set ${called("redis")}, or use any or hash`,
    );
  }
  refuse(
    config.placement === "partition" && config.placementPartitions > partitionsPerStreamMax * config.placementStreams,
    "placementPartitions",
    "placementStreams",
    `${config.placementPartitions} partitions over ${config.placementStreams} streams are more than ${partitionsPerStreamMax} a stream, and every one has a consumer that slows the stream down; ` +
      `set ${called("placementStreams")} to ${Math.ceil(config.placementPartitions / partitionsPerStreamMax)} or more, or lower ${called("placementPartitions")}`,
  );
  refuse(config.maxPartitions > 0 && config.placement !== "partition", "maxPartitions", "placement", `applies only with ${called("placement")} partition; set that, or remove this option`);
  refuse(
    config.nodeDeadMs < 2 * config.nodeHeartbeatMs,
    "nodeDeadMs",
    "nodeHeartbeatMs",
    `${name("nodeDeadMs")} of ${config.nodeDeadMs} ms is less than 2 × ${name("nodeHeartbeatMs")} of ${config.nodeHeartbeatMs} ms, so one late heartbeat would count as a dead node; raise the first or lower the second`,
  );
  refuse(config.nodes.length > 0 && config.redis !== "", "nodes", "redis", `Redis names the nodes; remove ${called("nodes")} or ${called("redis")}`);
  refuse(config.nodes.length === 0 && config.redis === "", "nodes", "nodes", `no node is known; set ${called("redis")} to the Redis of the nodes, or list the nodes: gateway-1=10.0.0.5:8080,gateway-2=10.0.0.6:8080`);
  const twice = config.nodes.map(nameIn).find((name, i, all) => all.indexOf(name) !== i);
  refuse(twice !== undefined, "nodes", "nodes", `name ${twice} twice; give each node its own nodeId, and name it once`);
  refuse(
    config.sendProxy && config.tlsCert === "",
    "sendProxy",
    "tlsCert",
    `nodes that serve TLS cannot read a PROXY header, since it would come before TLS; set ${called("tlsCert")}, so that the load balancer ends TLS, or remove ${called("sendProxy")}`,
  );
  return problems;
}

const nameIn = (node: string) => node.split("=")[0]!;
const inMib = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;

/** Each partition has a consumer, and a stream with many of them takes fewer publications: docs/placement.md. */
const partitionsPerStreamMax = 32;

/** Options that apply only with NATS. */
const natsKeys = ["natsUser", "natsPassword", "natsToken", "natsCreds", "natsTlsCert", "natsTlsKey"] as const;

const keyNames = ["authSecret", "authKeys", "authJwksUrl"] as const;

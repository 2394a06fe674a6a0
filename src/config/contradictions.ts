/** Options that are right each by itself and wrong together. */
import { BlockList, isIP } from "node:net";
import { neededBytes } from "../platform/memoryplan.ts";
import { showSize } from "./checks.ts";
import { label, type Source } from "./sources.ts";

/** The options that have to agree with one another. */
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
  readonly natsUser: string;
  readonly natsPassword: string;
  readonly natsToken: string;
  readonly natsCreds: string;
  readonly natsTlsCert: string;
  readonly natsTlsKey: string;
  readonly redis: string;
  readonly redisTlsCa: string;
  readonly nodeHeartbeatMs: number;
  readonly nodeDeadMs: number;
}
type Key = keyof Related;

/**
 * What does not go together, one problem each.
 * @param refused options that are wrong by themselves already: nothing more is said of them.
 */
export function contradictions(config: Related, refused: ReadonlySet<string>, sourceOf: (key: string) => Source): string[] {
  const problems: string[] = [];
  const name = (key: Key) => label(sourceOf(key), key);
  const refuse = (wrong: boolean, key: Key, other: Key, text: string) => {
    if (!wrong || refused.has(key) || refused.has(other)) return;
    // What nobody gave is not what is wrong.
    const accused = sourceOf(key).rank === "default" ? other : key;
    problems.push(`${name(accused)}: ${text}`);
  };
  const { host, allowAnonymous, authSecret, authSecretPrevious, port, adminPort, frameBytesMax, ringBytes, roomNameBytesMax } = config;
  const { tcpPort, tcpHost } = config;
  const frame = `${name("frameBytesMax")} of ${showSize(frameBytesMax)}`;
  /** As whoever gave none of them would. */
  const called = (key: Key) => (sourceOf(key).rank === "default" ? sourceOf(key).name : name(key));

  refuse(
    !allowAnonymous && !hasKey(config) && !isLoopback(host) && !keyNames.some((key) => refused.has(key)),
    "host",
    "allowAnonymous",
    `other machines can reach ${host}, and without a key for tokens anyone there could connect; give one with ` +
      `${called("authSecret")} or ${called("authKeys")}, use 127.0.0.1, or allow it with ${called("allowAnonymous")}`,
  );
  refuse(
    config.adminKey === "" && !isLoopback(config.adminHost),
    "adminHost",
    "adminKey",
    `other machines can reach ${config.adminHost}, and without a key anyone there could end sessions and drain the node; give one with ` +
      `${called("adminKey")}, use 127.0.0.1, or serve the metrics alone with ${called("metricsPort")}`,
  );
  refuse(config.metricsHost !== "" && config.metricsPort === null, "metricsHost", "metricsPort", `is of no use without ${called("metricsPort")}; give both`);
  refuse(
    authSecretPrevious !== "" && authSecret === "",
    "authSecretPrevious",
    "authSecret",
    `without ${called("authSecret")} it is not the previous one; give the one tokens are signed with now`,
  );
  refuse(
    tcpPort !== null && tcpHost !== "" && !allowAnonymous && !hasKey(config) && !isLoopback(tcpHost) && !keyNames.some((key) => refused.has(key)),
    "tcpHost",
    "allowAnonymous",
    `other machines can reach ${tcpHost}, and without a key for tokens anyone there could connect; give one with ` +
      `${called("authSecret")} or ${called("authKeys")}, use 127.0.0.1, or allow it with ${called("allowAnonymous")}`,
  );
  for (const [key, other] of [["tlsCert", "tlsKey"], ["tlsKey", "tlsCert"]] as const) {
    refuse(config[key] !== "" && config[other] === "", key, other, `is of no use without ${called(other)}; give both`);
  }
  for (const [key, other] of [["port", port], ["adminPort", adminPort], ["tcpPort", tcpPort]] as const) {
    refuse(
      config.metricsPort === other && other !== null && other !== 0,
      "metricsPort",
      key,
      `${name("metricsPort")} and ${name(key)} are both ${other}; give one of them another port`,
    );
  }
  for (const [key, other] of [["port", port], ["adminPort", adminPort]] as const) {
    refuse(
      tcpPort === other && tcpPort !== 0,
      "tcpPort",
      key,
      `${name("tcpPort")} and ${name(key)} are both ${other}; give one of them another port`,
    );
  }
  refuse(
    port === adminPort && port !== 0,
    "port",
    "adminPort",
    `${name("port")} and ${name("adminPort")} are both ${port}; give one of them another port`,
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
    `${name("roomNameBytesMax")} of ${roomNameBytesMax} fits no frame under ${frame}; lower the first or raise the second`,
  );
  refuse(
    config.nats.length > 0 && config.dataDir !== "",
    "dataDir",
    "nats",
    `rooms are kept by NATS, and sessions on one node's disk are of no use to the others; leave ${called("dataDir")} or ${called("nats")} out`,
  );
  for (const key of natsKeys) {
    refuse(config[key] !== "" && config.nats.length === 0, key, "nats", `is of no use without ${called("nats")}; give both`);
  }
  refuse(config.natsPassword !== "" && config.natsUser === "", "natsPassword", "natsUser", `is of no use without ${called("natsUser")}; give both`);
  for (const [key, other] of [["natsCreds", "natsToken"], ["natsCreds", "natsUser"], ["natsToken", "natsUser"]] as const) {
    refuse(config[key] !== "" && config[other] !== "", key, other, `NATS lets a node in by one of them; leave ${called(key)} or ${called(other)} out`);
  }
  const inAddresses = new Set(config.nats.flatMap((server) => /\/\/([^@/]+)@/.exec(server)?.[1] ?? []));
  refuse(inAddresses.size > 1, "nats", "nats", "name different users or tokens, and a node is one user: give them once, they count for all servers");
  for (const key of ["natsCreds", "natsToken"] as const) {
    refuse(config[key] !== "" && inAddresses.size > 0, key, "nats", `NATS lets a node in by one of them; leave it or what stands in ${called("nats")} before the @ out`);
  }
  for (const [key, other] of [["natsTlsCert", "natsTlsKey"], ["natsTlsKey", "natsTlsCert"]] as const) {
    refuse(config[key] !== "" && config[other] === "", key, other, `is of no use without ${called(other)}; give both`);
  }
  refuse(
    config.redis !== "" && config.dataDir !== "",
    "dataDir",
    "redis",
    `sessions are kept in Redis, and rooms on one node's disk are of no use to the others; leave ${called("dataDir")} or ${called("redis")} out`,
  );
  refuse(
    config.redisTlsCa !== "" && !config.redis.startsWith("rediss"),
    "redisTlsCa",
    "redis",
    `is for servers with TLS, which only rediss:// in ${called("redis")} speaks to; write that, or leave ${called("redisTlsCa")} out`,
  );
  refuse(
    config.nodeDeadMs < 2 * config.nodeHeartbeatMs,
    "nodeDeadMs",
    "nodeHeartbeatMs",
    `${name("nodeDeadMs")} of ${config.nodeDeadMs} ms is less than 2 × ${name("nodeHeartbeatMs")} of ${config.nodeHeartbeatMs} ms, so that one late heartbeat would be a death; raise the first or lower the second`,
  );
  return problems;
}

const inMib = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;

/** What only counts where there is NATS. */
const natsKeys = ["natsUser", "natsPassword", "natsToken", "natsCreds", "natsTlsCert", "natsTlsKey"] as const;

const keyNames = ["authSecret", "authKeys", "authJwksUrl"] as const;

/** Whether there are keys that tokens can be checked with: without any nobody needs a token. */
export function hasKey({ authSecret = "", authKeys = [], authJwksUrl = "" }: Partial<Related>): boolean {
  return authSecret !== "" || authKeys.length > 0 || authJwksUrl !== "";
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Whether only this machine can reach what listens on `host`. Of names, only localhost is trusted to mean that. */
export function isLoopback(host: string): boolean {
  const version = isIP(host);
  return version === 0 ? host.toLowerCase() === "localhost" : loopback.check(host, version === 4 ? "ipv4" : "ipv6");
}

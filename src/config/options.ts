/** The table of options: what each is, what it may be, and what it is where nothing is given. */
import { randomBytes } from "node:crypto";
import type { CloseName, ErrorCode } from "../errors.ts";
import { usableCores } from "../platform/machine.ts";
import { memoryLimit } from "../platform/heap.ts";
import { overflowBytesWithin, planMemory, reactorsWithin, ringBytesWithin, type MemoryGiven } from "../platform/memoryplan.ts";
import { clientUrl, redisAddress } from "./addresses.ts";
import {
  count,
  headerSecret,
  list,
  matching,
  natsServers,
  oneOf,
  portOrOff,
  passphraseText,
  powerOfTwo,
  secret,
  secureUrl,
  size,
  time,
  timerMsMax,
  yesOrNo,
  type Check,
} from "./checks.ts";
import { isLoopback } from "./contradictions.ts";
import { origins } from "./origins.ts";

const port = count(0, 65_535);
const host = matching(/^[a-zA-Z0-9.:_%-]{1,253}$/, "an address or a host name", "host");
const hostOrNone = matching(/^[a-zA-Z0-9.:_%-]{0,253}$/, "an address or a host name", "host");
const nodeName = matching(/^[a-zA-Z0-9_.-]{1,64}$/, 'a name of 1 to 64 letters, digits, "_", "." or "-"', "name");
const redisName = matching(/^[^\s{}\u0000-\u001f]{1,64}$/, "1 to 64 characters without spaces and braces", "prefix");
const regionName = matching(/^[a-zA-Z0-9_.-]{0,64}$/, 'a name of letters, digits, "_", "." or "-"', "name");
const secretText = secret(32, 1024);
const names = (what: string) => list(/^[^\u0000-\u001f\u007f,]{1,256}$/, what, "names");
const randomNode = () => `node-${randomBytes(4).toString("hex")}`;
const pemFile = matching(/^[^\0]{0,1024}$/s, "a file's path", "file");
const anyText = matching(/^[^\0]{0,1024}$/s, "text", "text");
const folder = matching(/^[^\0]{0,1024}$/s, "a directory's path", "directory");
const logLevels = ["fatal", "error", "warn", "info", "debug", "trace", "silent"] as const;
const timer = time(1, timerMsMax);
const many = count(1, 100_000_000);
const bytes = size(1, 2 ** 40);

/**
 * Every option: its group, check, default, and what it is. Flag and variable are made from the key: `adminPort`,
 * `--admin-port`, `FLUX_ADMIN_PORT`.
 */
export const rows = {
  host: row("Network", host, (known) => (known.isGuarded ? "0.0.0.0" : "127.0.0.1"), "Address clients connect to.", {
    otherwise: "127.0.0.1; 0.0.0.0 with a key for tokens or allowAnonymous",
  }),
  port: row("Network", port, 8080, "Port for clients: WebSocket, health and demo page; 0 takes a free one."),
  adminHost: row("Network", host, "127.0.0.1", "Address of the admin port, which reads the metrics, ends sessions and drains the node; other than loopback only with adminKey."),
  adminPort: row("Network", port, 8081, "Port for metrics and for ending sessions; 0 takes a free one."),
  adminKey: row("Network", headerSecret(32, 1024), "", "Key that every request to the admin port has to show (Authorization: Bearer), and that the commands that ask it show.", {
    otherwise: "none: open to this machine",
  }),
  metricsHost: row("Network", hostOrNone, "", "Address of metricsPort.", { otherwise: "127.0.0.1" }),
  metricsPort: row("Network", portOrOff(), null, "Port that serves /metrics alone, read-only and without a key; 0 takes a free one."),
  tcpPort: row("Network", portOrOff(), null, "Port for clients on raw TCP; 0 takes a free one."),
  tcpHost: row("Network", hostOrNone, "", "Address of that port.", { otherwise: "host" }),
  tlsCert: row("Network", pemFile, "", "Certificate (PEM, the chain behind it): WebSocket, demo page and raw TCP are served over TLS.", {
    otherwise: "no TLS",
  }),
  tlsKey: row("Network", pemFile, "", "Its private key (PEM).", { otherwise: "none" }),
  tlsPassphrase: row("Network", passphraseText(1024), "", "What opens the key, if it is encrypted.", { otherwise: "none" }),
  demo: row("Network", yesOrNo(), true, "Serve a demo page at / on the port for clients."),
  compression: row(
    "Network",
    oneOf("off", "shared"),
    "off",
    "permessage-deflate for WebSockets that ask for it, each message by itself with a compressor that all share.",
  ),
  compressionBytesMin: row("Network", size(1, 2 ** 26), 512, "Smaller messages are not compressed."),

  allowAnonymous: row("Access", yesOrNo(), false, "Let clients that prove nothing connect, from other machines and where there are keys too."),
  allowedOrigins: row(
    "Access",
    origins(),
    [],
    "Origins whose pages may connect, besides pages from this host: https://example.com, https://*.example.com for every host below that one, * for any. Clients that send no Origin always may.",
    { otherwise: "the node's own pages", over: "close forbidden_origin" },
  ),
  authSecret: row("Access", secretText, "", "Secret that clients' tokens are signed with (HS256)."),
  authSecretPrevious: row("Access", secretText, "", "The secret before that one: tokens signed with it are good until they expire."),
  authKeys: row(
    "Access",
    list(/^[^\u0000,]{1,4096}$/, "paths of files", "files"),
    [],
    "Files of keys that tokens are signed with: PEM (public keys, certificates), a JWK or a JWKS.",
  ),
  authJwksUrl: row("Access", secureUrl(isLoopback), "", "Where an identity provider publishes its keys (JWKS)."),
  authAudience: row("Access", names("audiences"), [], "Tokens must be for one of these (aud).", { over: "close invalid_token" }),
  authIssuer: row("Access", names("issuers"), [], "Tokens must be of one of these (iss).", { over: "close invalid_token" }),
  authClockToleranceMs: row("Access", time(0, 300_000), 5000, "How far ahead the clocks of those who sign may be (nbf, iat)."),

  reactors: row("Node", count(1, 256), (known) => reactorsWithin(known.memoryLimitBytes, known.ringBytes, usableCores()), "Threads that serve sockets.", {
    otherwise: "cores this process may use, or as many as its memory is enough for",
  }),
  nodeId: row("Node", nodeName, randomNode, "Name of this node, in ready frames, logs and metrics.", { otherwise: "random" }),
  drainMs: row(
    "Node",
    time(0, 86_400_000),
    30_000,
    "When the node is told to end, sessions are sent away spread over this time, so that they do not come back all at once; 0: all at once.",
  ),
  logLevel: row("Node", oneOf(...logLevels), "info", `The least that is logged: ${logLevels.join(", ")}.`),
  logFormat: row(
    "Node",
    oneOf("pretty", "json"),
    () => (process.stdout.isTTY ? "pretty" : "json"),
    "How it is logged: for people, or one JSON object a line.",
    { otherwise: "pretty on a terminal, else json" },
  ),

  redis: row("Many nodes", redisAddress(), "", "Redis by which nodes know each other and share sessions: redis://, rediss://, redis+sentinel:// or redis+cluster://; empty: this node is alone.", {
    otherwise: "none",
  }),
  redisPrefix: row("Many nodes", redisName, "flux:", "What all keys and channels there begin with: gateways that share a Redis need one each."),
  redisTlsCa: row("Many nodes", pemFile, "", "Certificates (PEM) that those of servers with TLS are checked with.", { otherwise: "those Node trusts" }),
  redisAnswerMs: row("Many nodes", time(50, 60_000), 2000, "Redis is taken to be away when it has answered nothing for so long."),
  nodeHost: row("Many nodes", hostOrNone, "", "Address by which clients and other nodes reach this one.", {
    otherwise: "host, or this machine's address where that is every one",
  }),
  nodeUrl: row("Many nodes", clientUrl(), "", "Where clients connect to this node, if it is not nodeHost and port: behind a proxy, for example.", {
    otherwise: "made from nodeHost and port",
  }),
  region: row("Many nodes", regionName, "", "Where this node is, in words of your own.", { otherwise: "none" }),
  nodeHeartbeatMs: row("Many nodes", time(50, 600_000), 5000, "How often a node says that it is there."),
  nodeDeadMs: row("Many nodes", time(100, 3_600_000), 15_000, "A node of which nothing new was heard for so long is down; at least 2 × nodeHeartbeatMs."),

  handshakeTimeoutMs: row("Sessions", timer, 30_000, "Time a client has to say hello.", { over: "close handshake_timeout" }),
  heartbeatMs: row("Sessions", timer, 25_000, "A socket silent for this long is pinged."),
  heartbeatGraceMs: row("Sessions", timer, 10_000, "Time it then has to answer.", { over: "close no_heartbeat" }),

  sessionTtlMs: row("Sessions", timer, 120_000, "How long a session can be resumed after its socket was lost."),
  returnWindowMaxMs: row(
    "Sessions",
    time(1, 60_000),
    8000,
    "Clients that lose the node without a word come back spread over a window that grows with the sessions it holds, up to this, or half of sessionTtlMs if that is less; up to 500ms there is no window but that of their own backoff.",
  ),
  sessionsPerUserMax: row("Sessions", many, 100, "Sessions one user may have at once on this node.", { over: "close too_many_sessions" }),
  tokenWarningMs: row("Sessions", timer, 60_000, "How long before its token expires a session is told to refresh it, once; not before 80 % of the token's lifetime are over."),
  resumeSecret: row("Sessions", secretText, "", "Signs resume tokens; nodes that clients move between need the same.", {
    otherwise: "random",
  }),
  inboxSize: row("Direct messages", many, 1000, "Direct messages a user's inbox keeps."),
  inboxTtlMs: row("Direct messages", time(1, 3650 * 86_400_000), 30 * 86_400_000, "How long they are kept."),
  inboxBytesMax: row("Direct messages", size(1, 2 ** 40), 4_194_304, "Bytes of them."),
  sendsPerMinute: row("Direct messages", count(0, 1_000_000), 600, "Direct messages a user may send in a minute, or at once; 0 is no limit.", {
    over: "error rate_limited",
  }),
  newInboxesPerHour: row("Direct messages", count(0, 1_000_000), 1000, "Users to whom nobody has written before that a user may write to in an hour, or at once; 0 is no limit.", {
    over: "error rate_limited",
  }),

  presenceIntervalMs: row("Presence", time(10, 600_000), 1000, "How often, at most, the members of a room are told who came and went."),
  presenceGraceMs: row("Presence", time(0, 600_000), 10_000, "A user who goes and is back within this time has not been away."),
  presenceNamedUsersMax: row("Presence", count(0, 100_000), 1000, "With more users in a room than this, its members are only told how many there are."),
  presenceNamedChangesMax: row("Presence", count(0, 10_000), 100, "The same, with more users than this who came or went since it was told last."),
  presencePageMax: row("Presence", count(1, 1000), 256, "Users in one answer that says who is in a room."),
  userStatus: row("Presence", yesOrNo(), true, "Let sessions watch whether users are online; only those of their own tenant."),
  watchedPerSessionMax: row("Presence", count(1, 100_000), 200, "Users one session may watch.", { over: "error too_many_watched" }),
  lastSeenTtlMs: row("Presence", time(0, 3650 * 86_400_000), 30 * 86_400_000, "How long it is known when a user was seen last."),
  lastSeenMax: row("Presence", many, 100_000, "Users of whom it is; the longest gone are forgotten first."),

  frameBytesMax: row("Limits", size(1, 2 ** 26), 65_536, "Size of one frame.", { over: "close frame_too_large" }),
  roomsPerSessionMax: row("Limits", many, 100, "Rooms a session may be in.", { over: "error too_many_rooms" }),
  roomNameBytesMax: row("Limits", count(1, 4096), 255, "Bytes of a room's name.", { over: "error bad_request" }),
  commandsPerSecond: row(
    "Limits",
    count(0, 1_000_000),
    500,
    "Commands a session may send per second, in bursts of twice as many; 0 is no limit.",
    { over: "error rate_limited" },
  ),
  bytesPerSecond: row(
    "Limits",
    size(0, 2 ** 40),
    1_048_576,
    "Bytes a session may send per second, in bursts of twice as many; 0 is no limit.",
    { over: "error rate_limited" },
  ),
  socketsMax: row("Limits", many, 100_000, "Sockets on this node; more are answered HTTP 503, or on TCP closed.", { over: "error overloaded" }),
  handshakesPerSecond: row(
    "Limits",
    count(0, 10_000_000),
    10_000,
    "Upgrades per second and at once on this node, half of them kept for clients that come back; 0 is no limit. More are answered HTTP 503, or on TCP closed.",
    { over: "error overloaded" },
  ),
  roomsMax: row("Limits", many, 100_000, "Rooms on this node.", { over: "error overloaded" }),
  socketQueueBytesMax: row("Limits", size(1, 2 ** 30), 1_048_576, "Bytes that may wait to be sent to one socket.", {
    over: "close slow_consumer",
  }),

  ringBytes: row(
    "Memory",
    powerOfTwo(1024, 2 ** 30),
    ({ memoryLimitBytes, frameBytesMax }) => ringBytesWithin(memoryLimitBytes, frameBytesMax),
    "Ring between the hub and one reactor, in each direction; a power of two, at least 16 × frameBytesMax.",
    { otherwise: "4MiB; with less than 512MiB of memory 1MiB, or what frameBytesMax asks for" },
  ),
  memoryLimitBytes: row(
    "Memory",
    size(2 ** 20, 2 ** 50),
    () => memoryLimit(),
    "Memory this node may use: heaps, rings, history and queues are planned within it.",
    { otherwise: "the container's limit, else the machine's memory" },
  ),
  memoryHighPercent: row(
    "Memory",
    count(1, 100),
    90,
    "Share of it above which the node takes no more sockets and is not ready, or what leaves a reserve where that is less; it takes them again 5 points below.",
    { over: "error overloaded" },
  ),
  historyTotalBytesMax: row(
    "Memory",
    bytes,
    (known) => planMemory(known).historyBytes,
    "Bytes of history that all rooms of the embedded broker keep together; the room that was quiet longest loses its oldest first.",
    { otherwise: "1GiB, or a tenth of the memory that a node does not need when it is idle, where that is less" },
  ),
  overflowBytesMax: row("Memory", bytes, (known) => overflowBytesWithin(known.memoryLimitBytes), "Bytes that may wait for room in a full ring.", {
    otherwise: "16MiB; with less than 512MiB of memory 1MiB",
    over: "error overloaded",
  }),
  tailPublicationsMax: row("Memory", many, 128, "Newest publications of an active room kept at hand for recovery."),
  tailBytesMax: row("Memory", bytes, 262_144, "Bytes of them."),
  keyWindowMs: row("Memory", timer, 120_000, "How long an idempotency key is remembered."),
  keysPerRoomMax: row("Memory", many, 100_000, "Idempotency keys remembered for one room; the oldest are forgotten first."),

  dataDir: row("Disk", folder, "", "Directory that durable rooms, inboxes and sessions are kept in; empty: they end with the node.", {
    otherwise: "none",
  }),
  dataBytesMax: row(
    "Disk",
    size(16 * 2 ** 20, 2 ** 36),
    2 ** 30,
    "Bytes that rooms and inboxes may take there; the room that was quiet longest loses its oldest first.",
    { over: "error overloaded" },
  ),
  dataSync: row(
    "Disk",
    oneOf("commit", "off"),
    "commit",
    "When a publish is answered: commit, once it is on the disk; off, once the operating system has it, which a power loss undoes.",
  ),

  nats: row("NATS", natsServers(), [], "NATS servers (nats:// or tls://, separated by commas) through which nodes are one gateway: rooms live there."),
  natsUser: row("NATS", anyText, "", "Who the node is there; may stand in the address too.", { otherwise: "none" }),
  natsPassword: row("NATS", secret(1, 1024), "", "The user's password."),
  natsToken: row("NATS", secret(1, 1024), "", "A token, where the servers ask for one instead."),
  natsCreds: row("NATS", pemFile, "", "A file of credentials (.creds: JWT and seed), where they ask for those.", { otherwise: "none" }),
  natsTlsCa: row("NATS", pemFile, "", "Certificates (PEM) that the servers' certificates are checked with.", { otherwise: "those Node trusts" }),
  natsTlsCert: row("NATS", pemFile, "", "The node's own certificate (PEM), where the servers ask for one.", { otherwise: "none" }),
  natsTlsKey: row("NATS", pemFile, "", "Its private key (PEM).", { otherwise: "none" }),
  natsPrefix: row(
    "NATS",
    matching(/^[a-z0-9][a-z0-9_-]{0,31}$/, "1 to 32 small letters, digits, \"_\" or \"-\"", "name"),
    "flux",
    "Where the names of all subjects and, in capitals, streams begin: gateways with different ones do not meet.",
  ),
  natsPartitions: row("NATS", count(1, 256), 4, "Streams that the durable rooms of a namespace are spread over; a cluster of servers shares them. The same on every node."),
  natsReplicas: row("NATS", oneOf("1", "3", "5"), "1", "Servers that keep each durable room."),
  natsStorage: row("NATS", oneOf("file", "memory"), "file", "Where they keep it."),
  natsTimeoutMs: row("NATS", time(100, 600_000), 5000, "How long a publish waits for NATS to answer.", { over: "error unavailable" }),
  natsGraceMs: row("NATS", time(0, 3_600_000), 10_000, "How long NATS may be away before the node is not ready (/ready answers 503)."),
};

export interface Row<T> {
  readonly group: string;
  readonly check: Check<T>;
  /** A value, or how to find one when nothing was given. */
  readonly preset: T | ((known: Known) => T);
  readonly text: string;
  /** What the default is, in words, where it is found at start-up. */
  readonly otherwise?: string;
  /** What a client is told that goes over this limit. */
  readonly over?: Told;
}

/** What defaults depend on: other options, given or by default. */
export interface Known extends MemoryGiven {
  readonly isGuarded: boolean;
  readonly frameBytesMax: number;
}

export type Told = `close ${CloseName}` | `error ${ErrorCode}`;
type More = Pick<Row<unknown>, "otherwise" | "over">;

function row<T>(group: string, check: Check<T>, preset: NoInfer<Row<T>["preset"]>, text: string, more: More = {}): Row<T> {
  return { group, check, preset, text, ...more };
}

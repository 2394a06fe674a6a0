/** The table of options: meaning, check and default of each. */
import { randomBytes } from "node:crypto";
import type { CloseName, ErrorCode } from "../errors.ts";
import { connectionsWithin, openFilesMax, usableCores } from "../platform/machine.ts";
import { memoryLimit } from "../platform/heap.ts";
import { overflowBytesWithin, planMemory, reactorsWithin, ringBytesWithin, type MemoryGiven } from "../platform/memoryplan.ts";
import { clientUrl, postgresAddress, redisAddress } from "./addresses.ts";
import {
  backendUrl,
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
  signingSecret,
  size,
  time,
  timerMsMax,
  yesOrNo,
  type Check,
} from "./values.ts";
import { isLoopback } from "./reach.ts";
import { webhooksCheck } from "./webhooks.ts";
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

/** Options of `flux-gateway lb` alone. */
const lbGroup = "Load balancer";
/** Options that nodes and load balancers have in common. */
const common: ReadonlySet<string> = new Set([
  "host", "port", "adminHost", "adminPort", "adminKey", "metricsHost", "metricsPort", "tlsCert", "tlsKey", "tlsPassphrase", "nodeId", "drainMs", "logLevel", "logFormat",
  "redis", "redisPrefix", "redisTlsCa", "redisAnswerMs", "placementPartitions", "nodeHeartbeatMs", "nodeDeadMs",
]);

/** The commands that run with options of this table. A file may hold options of both. */
export type Runner = "start" | "lb";

export function isOptionOf(runner: Runner, key: string): boolean {
  if (common.has(key)) return true;
  const { group }: { readonly group: string } = rows[key as keyof typeof rows] ?? { group: "" };
  return (group === lbGroup) === (runner === "lb");
}

/**
 * Every option: group, check, default and text. Flag and variable are made from the key: `adminPort`, `--admin-port`,
 * `FLUX_ADMIN_PORT`.
 */
export const rows = {
  host: row("Network", host, (known) => (known.isGuarded ? "0.0.0.0" : "127.0.0.1"), "Address that clients connect to.", {
    otherwise: "127.0.0.1; 0.0.0.0 with a key for tokens or allowAnonymous",
  }),
  port: row("Network", port, 8080, "Port for clients: WebSocket, health checks and demo page. 0 takes a free port."),
  adminHost: row("Network", host, "127.0.0.1", "Address of the admin port, which serves the metrics, disconnects users and drains nodes. Other than loopback only with adminKey."),
  adminPort: row("Network", port, 8081, "Admin port: metrics, disconnects and drains. 0 takes a free port."),
  adminKey: row("Network", headerSecret(32, 1024), "", "Key for the admin port: requests without it (Authorization: Bearer KEY) are rejected. The commands that use the port send it.", {
    otherwise: "none: open to this machine",
  }),
  apiHost: row("Network", hostOrNone, "", "Address of apiPort. Other than loopback only with apiKeys, adminKey or redis.", { otherwise: "127.0.0.1" }),
  apiPort: row("Network", portOrOff(), null, "Port of its own for the HTTP API. 0 takes a free port. Without it the admin port serves the HTTP API, below /api/v1."),
  apiPublic: row("Network", yesOrNo(), false, "HTTP API on the port for clients too, below /api/v1. Every request there needs an API key, or a JWT for the API; adminKey is not accepted.", { off: "No HTTP API on the port for clients." }),
  metricsHost: row("Network", hostOrNone, "", "Address of metricsPort.", { otherwise: "127.0.0.1" }),
  metricsPort: row("Network", portOrOff(), null, "Port that serves /metrics alone, read-only and without a key. 0 takes a free port."),
  tcpPort: row("Network", portOrOff(), null, "Port for clients on raw TCP. 0 takes a free port."),
  tcpHost: row("Network", hostOrNone, "", "Address of tcpPort.", { otherwise: "host" }),
  tlsCert: row("Network", pemFile, "", "Certificate file (PEM, with its chain). With it, WebSocket, demo page and raw TCP are served over TLS.", {
    otherwise: "no TLS",
  }),
  tlsKey: row("Network", pemFile, "", "Private key file (PEM) of tlsCert.", { otherwise: "none" }),
  tlsPassphrase: row("Network", passphraseText(1024), "", "Passphrase of tlsKey, if the key is encrypted.", { otherwise: "none" }),
  demo: row("Network", yesOrNo(), true, "Demo page at / on the port for clients, and the browser client at /flux-client.js.", { off: "No demo page, and no browser client at /flux-client.js." }),
  compression: row(
    "Network",
    oneOf("off", "shared"),
    "off",
    "permessage-deflate for WebSockets that ask for it. shared: all sockets share one compressor, and each message is compressed by itself.",
  ),
  compressionBytesMin: row("Network", size(1, 2 ** 26), 512, "Size from which messages are compressed."),

  allowAnonymous: row("Access", yesOrNo(), false, "Connections without a token, from other machines and beside configured keys too.", { off: "Require a token, overriding the configuration file." }),
  allowedOrigins: row(
    "Access",
    origins(),
    [],
    "Origins whose pages may connect, besides the node's own: https://example.com, https://*.example.com (every host below it), or * (any). Pages of other origins are closed with 3505. Clients that send no Origin may always connect.",
    { otherwise: "the node's own pages" },
  ),
  apiKeys: row("Access", pemFile, "", "File of the keys for the HTTP API, made by flux-gateway key create. The node reads it again when it changes.", {
    otherwise: "none; with redis the keys are in Redis",
  }),
  apiTokens: row("Access", yesOrNo(), false, "Tokens for clients by the HTTP API (POST /tokens), signed with authSecret. Only keys with the scope tokens may ask for them.", { off: "No tokens for clients by the HTTP API." }),
  apiTokenMaxMs: row("Access", time(1_000, 365 * 86_400_000), 86_400_000, "Longest lifetime of a token that the HTTP API makes."),
  authSecret: row("Access", secretText, "", "Secret that signs the tokens of clients (HS256)."),
  authSecretPrevious: row("Access", secretText, "", "Previous authSecret: tokens signed with it stay valid until they expire."),
  authKeys: row(
    "Access",
    list(/^[^\u0000,]{1,4096}$/, "paths of files", "files"),
    [],
    "Files of keys that sign the tokens of clients: PEM (public keys, certificates), JWK or JWKS.",
  ),
  authJwksUrl: row("Access", secureUrl(isLoopback), "", "Address of an identity provider's keys (JWKS)."),
  authAudience: row("Access", names("audiences"), [], "Accepted audiences: tokens must name one of them (aud), or the client is closed with 3500."),
  authIssuer: row("Access", names("issuers"), [], "Accepted issuers: tokens must name one of them (iss), or the client is closed with 3500."),
  authClockToleranceMs: row("Access", time(0, 300_000), 5000, "Time by which the clock of a token's issuer may be ahead (nbf, iat). Earlier tokens are rejected."),

  reactors: row("Node", count(1, 256), (known) => reactorsWithin(known.memoryLimitBytes, known.ringBytes, usableCores()), "Worker threads that serve sockets.", {
    otherwise: "cores this process may use, or as many as its memory is enough for",
  }),
  wakeRestMs: row("Node", time(0, 100), 1, "Least time between two wakes of the main thread by a reactor, and of a reactor by the main thread. The first after a pause is at once. Under load it saves CPU, and may add so much to the latency of each of the two ways. 0: every wake is at once."),
  nodeId: row("Node", nodeName, randomNode, "Name of this node in ready frames, logs and metrics.", { otherwise: "random" }),
  drainMs: row(
    "Node",
    time(0, 86_400_000),
    30_000,
    "Time over which a node that stops closes its sessions, so that clients do not reconnect all at once. 0: all at once.",
  ),
  logLevel: row("Node", oneOf(...logLevels), "info", "Lowest level that is logged: fatal, error, warn, info, debug, trace or silent."),
  logFormat: row(
    "Node",
    oneOf("pretty", "json"),
    () => (process.stdout.isTTY ? "pretty" : "json"),
    "Log format: pretty for people, json for one JSON object a line.",
    { otherwise: "pretty on a terminal, else json" },
  ),

  redis: row("Many nodes", redisAddress(), "", "Redis through which nodes know each other and share sessions and presence: redis://, rediss://, redis+sentinel:// or redis+cluster://. Without it the node is alone.", {
    otherwise: "none",
  }),
  redisPrefix: row("Many nodes", redisName, "flux:", "Prefix of all keys and channels in Redis. Gateways that share a Redis need different prefixes."),
  redisTlsCa: row("Many nodes", pemFile, "", "Certificates file (PEM) to verify the certificates of Redis servers with.", { otherwise: "those Node trusts" }),
  redisAnswerMs: row("Many nodes", time(50, 60_000), 2000, "Time without an answer after which Redis counts as unavailable."),
  nodeHost: row("Many nodes", hostOrNone, "", "Host at which clients and other nodes reach this node.", {
    otherwise: "host, or this machine's address where that is every one",
  }),
  nodeUrl: row("Many nodes", clientUrl(), "", "Address at which clients reach this node, if it is not made of nodeHost and port: behind a proxy, for example.", {
    otherwise: "made from nodeHost and port",
  }),
  region: row("Many nodes", regionName, "", "Region of this node, a free text for `flux-gateway nodes`.", { otherwise: "none" }),
  placement: row(
    "Many nodes",
    oneOf("any", "hash", "partition"),
    "any",
    "Node that serves a user. any: every node. hash: one node for each user, chosen by a hash of the user, so that a user's sessions meet; other nodes send the user there. partition: at most one node at a time, by a lease in NATS, with a durable queue of direct messages in front; needs nats and redis.",
  ),
  placementPartitions: row("Many nodes", count(1, 16_384), (known) => (known.placement === "partition" ? 64 : 1024), "Shares into which all users are divided. Each share belongs to one node. The same on every node; with more than 25 nodes, about 40 for each.", {
    otherwise: "1024; 64 with placement partition",
  }),
  placementStreams: row("Many nodes", count(1, 256), 4, "Streams in NATS that store the queues of direct messages, with placement partition. At most 32 partitions each. The same on every node."),
  maxPartitions: row("Many nodes", count(0, 16_384), 0, "Partitions that this node may hold, with placement partition. What no node may take stays without an owner, and its users wait. 0: no limit."),
  placementStableMs: row("Many nodes", time(0, 3_600_000), 10_000, "Time a node must be up before users are assigned to it, where others have users already."),
  placementMovesPerSecond: row("Many nodes", count(0, 100_000), 100, "Sessions per second that this node sends to the node their user belongs on, after that has changed. Fewer while a node is busy. 0: sessions stay where they are."),
  placementCalmMs: row("Many nodes", time(0, 3_600_000), 30_000, "Time without a lost or draining node, and with Redis and NATS, before sessions are sent to another node."),
  weight: row("Many nodes", count(0, 16), 1, "This node's part of the users, relative to the other nodes. 0: no users are assigned to it."),
  nodeHeartbeatMs: row("Many nodes", time(50, 600_000), 5000, "Interval at which a node tells Redis that it is alive."),
  nodeDeadMs: row("Many nodes", time(100, 3_600_000), 15_000, "Silence after which another node counts as down. At least 2 × nodeHeartbeatMs."),

  handshakeTimeoutMs: row("Sessions", timer, 30_000, "Time from the connection to the first frame (hello).", { over: "close handshake_timeout" }),
  heartbeatMs: row("Sessions", timer, 25_000, "Silence after which the node pings a socket."),
  heartbeatGraceMs: row("Sessions", timer, 10_000, "Time to answer a ping of the node, and to complete a frame that has begun.", { over: "close no_heartbeat" }),

  sessionTtlMs: row("Sessions", timer, 120_000, "Time a session can be resumed after its socket is lost. Then it expires."),
  returnWindowMaxMs: row(
    "Sessions",
    time(1, 60_000),
    8000,
    "Widest window over which clients spread their reconnects after a node crashed. The window grows with the node's sessions, up to this and to half of sessionTtlMs. Up to 500ms the clients' own backoff is used.",
  ),
  sessionsPerUserMax: row("Sessions", many, 100, "Sessions of one user on this node.", { over: "close too_many_sessions" }),
  tokenWarningMs: row("Sessions", timer, 60_000, "Time before the expiry of its token at which a session is warned, once. Not before 80 % of the token's lifetime have passed."),
  resumeSecret: row("Sessions", secretText, "", "Secret that signs resume tokens. Nodes that clients move between need the same one. Without it: nodes on one Redis share a random one that Redis stores, a node with dataDir stores its own there, any other node makes a new one at each start.", {
    otherwise: "random",
  }),
  hookConnect: row("Hooks", backendUrl(), "", "URL of the backend that decides on each new session: it may deny it, name its user, and join it into rooms.", {
    otherwise: "none",
  }),
  hookRefresh: row("Hooks", backendUrl(), "", "URL of the backend that decides on each new token of a connected session. It may join the session into rooms.", { otherwise: "none" }),
  hookSecret: row("Hooks", signingSecret(), "", "Key that signs the questions of hooks (Standard Webhooks), whsec_ and base64. Hooks need one."),
  hookSecretPrevious: row("Hooks", signingSecret(), "", "Previous hookSecret: questions carry a signature of each, so that backends can change theirs one after the other."),
  hookTimeoutMs: row("Hooks", time(10, 60_000), 1000, "Time a question may take, waiting for a free connection included. After it hookOnFailure decides."),
  hookOnFailure: row(
    "Hooks",
    oneOf("deny", "allow"),
    "deny",
    "Decision on sessions and tokens while the backend does not answer: deny (close 3014, error unavailable), or allow. Namespaces have a hookOnFailure of their own.",
  ),
  hookConnectionsMax: row("Hooks", count(1, 1024), 64, "Questions under way to one backend at once, each on a connection. Others wait their turn."),

  webhooks: row("Webhooks", webhooksCheck(), {}, 'Endpoints of your backend that are told what happens to rooms, members, users and sessions: {"main":{"url":"https://example.com/webhooks"}}. The same on every node.', { otherwise: "none" }),
  webhooksAllowPrivate: row("Webhooks", yesOrNo(), false, "Webhooks to addresses in private networks and on this machine. Only for endpoints that you trust: without it the node refuses to connect to them.", {
    off: "Refuse webhooks to addresses in private networks.",
  }),
  webhookTimeoutMs: row("Webhooks", time(10, 60_000), 15_000, "Time an endpoint has to answer. Then the attempt has failed, and another follows."),
  webhookConnectionsMax: row("Webhooks", count(1, 1024), 64, "Messages under way to one endpoint at once, from this node."),
  webhookGiveUpMs: row("Webhooks", time(1000, 30 * 86_400_000), 3 * 86_400_000, "Time for which an event is tried again. Then it is a dead letter: see flux-gateway hooks failed."),
  webhookEventsMax: row("Webhooks", count(1, 100_000_000), 1_000_000, "Events of all webhooks that may wait to be told by this node. Beyond it new events are refused, and counted."),
  webhookEventsBytesMax: row("Webhooks", size(1024, 2 ** 40), 134_217_728, "Bytes of the events of all webhooks that may wait to be told by this node. Beyond it new events are refused, and counted."),

  inboxSize: row("Direct messages", many, 1000, "Direct messages an inbox keeps. Beyond it the oldest are deleted."),
  inboxTtlMs: row("Direct messages", time(1, 3650 * 86_400_000), 30 * 86_400_000, "Time an inbox keeps a direct message."),
  inboxBytesMax: row("Direct messages", size(1, 2 ** 40), 4_194_304, "Bytes of direct messages an inbox keeps. Beyond it the oldest are deleted."),
  sendsPerMinute: row("Direct messages", count(0, 1_000_000), 600, "Direct messages a user may send per minute, or in one burst. 0: no limit.", {
    over: "error rate_limited",
  }),
  newInboxesPerHour: row("Direct messages", count(0, 1_000_000), 1000, "First messages to users without an inbox that a user may send per hour, or in one burst. 0: no limit.", {
    over: "error rate_limited",
  }),

  presenceIntervalMs: row("Presence", time(10, 600_000), 1000, "Shortest interval between two presence events of a room."),
  presenceGraceMs: row("Presence", time(0, 600_000), 10_000, "Time a user stays present after the last session is lost. A user who returns within it has not left."),
  presenceNamedUsersMax: row("Presence", count(0, 100_000), 1000, "Users in a room above which presence events carry counts without names."),
  presenceNamedChangesMax: row("Presence", count(0, 10_000), 100, "Joins and leaves per interval above which presence events carry counts without names."),
  presencePageMax: row("Presence", count(1, 1000), 256, "Users in one page of a room's members."),
  userStatus: row("Presence", yesOrNo(), true, "Watching whether users of one's own tenant are online.", { off: "Reject watching whether users are online with forbidden." }),
  watchedPerSessionMax: row("Presence", count(1, 100_000), 200, "Users a session may watch.", { over: "error too_many_watched" }),
  lastSeenTtlMs: row("Presence", time(0, 3650 * 86_400_000), 30 * 86_400_000, "Time the node remembers when a user was last online."),
  lastSeenMax: row("Presence", many, 100_000, "Users whose last time online the node remembers. Beyond it the longest gone are deleted."),

  frameBytesMax: row("Limits", size(1, 2 ** 26), 65_536, "Bytes of one frame.", { over: "close frame_too_large" }),
  roomsPerSessionMax: row("Limits", many, 100, "Rooms a session may join.", { over: "error too_many_rooms" }),
  roomNameBytesMax: row("Limits", count(1, 4096), 255, "Bytes of a room name.", { over: "error bad_request" }),
  commandsPerSecond: row(
    "Limits",
    count(0, 1_000_000),
    500,
    "Commands a session may send per second, and twice as many in a burst. 0: no limit.",
    { over: "error rate_limited" },
  ),
  bytesPerSecond: row(
    "Limits",
    size(0, 2 ** 40),
    1_048_576,
    "Bytes a session may send per second, and twice as many in a burst. 0: no limit.",
    { over: "error rate_limited" },
  ),
  socketsMax: row("Limits", many, 100_000, "Sockets on this node. Beyond it the node answers upgrades with HTTP 503 (overloaded), and closes raw TCP with 3014."),
  handshakesPerSecond: row(
    "Limits",
    count(0, 10_000_000),
    10_000,
    "Handshakes per second, and as many in a burst; half of them are reserved for clients that reconnect. 0: no limit. Beyond it the node answers with HTTP 503 (overloaded), and closes raw TCP with 3014.",
    { },
  ),
  roomsMax: row("Limits", many, 100_000, "Rooms on this node. Beyond it the room that has been empty longest is deleted; if none is empty, joins and publishes to new rooms fail with overloaded."),
  socketQueueBytesMax: row("Limits", size(1, 2 ** 30), 1_048_576, "Bytes queued for one socket. Beyond it slowReaders of the room decides; a reply that does not fit closes the socket with 3008."),

  ringBytes: row(
    "Memory",
    powerOfTwo(1024, 2 ** 30),
    ({ memoryLimitBytes, frameBytesMax }) => ringBytesWithin(memoryLimitBytes, frameBytesMax),
    "Bytes of the ring between the hub and one reactor, per direction. A power of two, at least 16 × frameBytesMax.",
    { otherwise: "4MiB; with less than 512MiB of memory 1MiB, or what frameBytesMax asks for" },
  ),
  memoryLimitBytes: row(
    "Memory",
    size(2 ** 20, 2 ** 50),
    () => memoryLimit(),
    "Memory of this node: heaps, rings, history and queues are planned within it.",
    { otherwise: "the container's limit, else the machine's memory" },
  ),
  memoryHighPercent: row(
    "Memory",
    count(1, 100),
    90,
    "Percent of memoryLimitBytes above which the node is not ready and rejects sockets with HTTP 503 (overloaded). It accepts them again 5 points below. A small node does so earlier, when only its reserve is left.",
    { },
  ),
  historyTotalBytesMax: row(
    "Memory",
    bytes,
    (known) => planMemory(known).historyBytes,
    "Bytes of history of all rooms in memory. Beyond it the room that was quiet longest loses its oldest publications.",
    { otherwise: "1GiB, or a tenth of the memory that a node does not need when it is idle, where that is less" },
  ),
  overflowBytesMax: row("Memory", bytes, (known) => overflowBytesWithin(known.memoryLimitBytes), "Bytes queued for a full ring. Beyond it joins, publishes and reads fail with overloaded.", {
    otherwise: "16MiB; with less than 512MiB of memory 1MiB"
  }),
  tailPublicationsMax: row("Memory", many, 128, "Newest publications of an active room that the hub keeps encoded for recovery. Older ones are read from the broker."),
  tailBytesMax: row("Memory", bytes, 262_144, "Bytes of newest publications of an active room that the hub keeps encoded for recovery. Older ones are read from the broker."),
  keyWindowMs: row("Memory", timer, 120_000, "Time a room remembers an idempotency key."),
  keysPerRoomMax: row("Memory", many, 100_000, "Idempotency keys a room remembers. Beyond it the oldest are forgotten."),

  dataDir: row("Disk", folder, "", "Directory that stores durable rooms, inboxes and sessions. Without it they end with the process.", {
    otherwise: "none",
  }),
  dataBytesMax: row(
    "Disk",
    size(16 * 2 ** 20, 2 ** 36),
    2 ** 30,
    "Bytes of files for rooms and inboxes. Beyond it the room that was quiet longest loses its oldest publications. Publishes fail with overloaded only while deleting has not caught up.",
    { },
  ),
  dataSync: row(
    "Disk",
    oneOf("commit", "off"),
    "commit",
    "Moment a publish is acknowledged: commit, once the disk has it; off, once the operating system has it, which a power loss undoes.",
  ),

  archive: row("PostgreSQL", postgresAddress(), "", "PostgreSQL database that stores the publications of namespaces with archive: postgres://user:password@host:5432/database. Without it nothing is archived.", {
    otherwise: "none",
  }),
  archiveLagMs: row("PostgreSQL", time(60_000, 3650 * 86_400_000), 86_400_000, "Time a stream keeps publications that are not archived, while PostgreSQL is unavailable. Beyond it they are deleted, and the archive has a gap. Also the age of publications in the streams of archived namespaces, or historyTtlMs where that is more."),
  archiveLagBytesMax: row("PostgreSQL", size(0, 2 ** 50), 0, "Bytes that a stream of an archived namespace keeps. Beyond it the oldest publications are deleted, archived or not. 0: no limit."),
  archiveKeepMs: row("PostgreSQL", time(0, 3650 * 86_400_000), 0, "Time the archive keeps publications. Older days are deleted whole. 0: for ever."),
  outbox: row("PostgreSQL", postgresAddress(), "", "PostgreSQL database of the application with the outbox: flux.publish(room, data, key), called in a transaction, publishes after its commit. Not through PgBouncer.", {
    otherwise: "none",
  }),

  nats: row("NATS", natsServers(), [], "NATS servers (nats:// or tls://, separated by commas) that store durable rooms and connect the nodes of one gateway."),
  natsUser: row("NATS", anyText, "", "User name at NATS. The address may contain it instead.", { otherwise: "none" }),
  natsPassword: row("NATS", secret(1, 1024), "", "Password of natsUser."),
  natsToken: row("NATS", secret(1, 1024), "", "Token for NATS, where the servers require one."),
  natsCreds: row("NATS", pemFile, "", "Credentials file for NATS (.creds: JWT and seed), where the servers require one.", { otherwise: "none" }),
  natsTlsCa: row("NATS", pemFile, "", "Certificates file (PEM) to verify the certificates of NATS servers with.", { otherwise: "those Node trusts" }),
  natsTlsCert: row("NATS", pemFile, "", "Client certificate file (PEM) for NATS, where the servers require one.", { otherwise: "none" }),
  natsTlsKey: row("NATS", pemFile, "", "Private key file (PEM) of natsTlsCert.", { otherwise: "none" }),
  natsPrefix: row(
    "NATS",
    matching(/^[a-z0-9][a-z0-9_-]{0,31}$/, "1 to 32 small letters, digits, \"_\" or \"-\"", "name"),
    "flux",
    "Prefix of all subjects and, in capitals, of all streams in NATS. Gateways that share NATS need different prefixes.",
  ),
  natsApi: row("NATS", yesOrNo(), false, "Calls of the HTTP API over NATS: requests on flux.api.> (natsPrefix.api.>). NATS decides who may send them.", { off: "No calls of the HTTP API over NATS." }),
  natsPartitions: row("NATS", count(1, 256), 4, "Streams per durable namespace. More streams spread the rooms over more NATS servers. The same on every node."),
  natsReplicas: row("NATS", oneOf("1", "3", "5"), "1", "Copies of each durable room in the NATS cluster."),
  natsStorage: row("NATS", oneOf("file", "memory"), "file", "Storage of durable rooms in NATS: file or memory."),
  natsTimeoutMs: row("NATS", time(100, 600_000), 5000, "Time a publish waits for the acknowledgement of NATS.", { over: "error unavailable" }),
  natsGraceMs: row("NATS", time(0, 3_600_000), 10_000, "Time NATS may be unavailable before the node is not ready (/ready answers 503)."),

  policy: row(
    lbGroup,
    oneOf("hash", "round-robin", "least-connections", "least-load"),
    "hash",
    "Node that a connection is forwarded to. hash: the node of the user, as its first request names it (node=, ticket=, user=, a token), else one chosen by its address. round-robin: each in turn. least-connections: the node with the fewest. least-load: of two random nodes the one with less work.",
  ),
  nodes: row(
    lbGroup,
    list(/^[a-zA-Z0-9_.-]{1,64}=(?:[a-zA-Z0-9_.-]{1,253}|\[[0-9a-fA-F:.]+\]):(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])$/, "names and addresses such as gateway-1=10.0.0.5:8080", "nodes"),
    [],
    "Nodes, where no Redis names them: name=host:port, separated by commas. The names are those of nodeId.",
    { otherwise: "those in redis" },
  ),
  forward: row(lbGroup, oneOf("web", "tcp"), "web", "Port of the nodes that connections are forwarded to. web: port. tcp: tcpPort."),
  firstBytesMs: row(lbGroup, timer, 10_000, "Time a client has for its first request, with policy hash. Then its connection is closed."),
  firstBytesMax: row(lbGroup, size(256, 2 ** 20), 16_384, "Bytes of the first request that are read to find the user, with policy hash. A connection whose headers do not end within them is closed."),
  dialMs: row(lbGroup, time(10, 60_000), 1000, "Time a node has to accept a connection. Then the next node is tried."),
  readyCheckMs: row(lbGroup, time(50, 600_000), 2000, "Interval at which each node is asked for /ready. Two failed checks in a row take a node out, a good one brings it back."),
  connectionsMax: row(lbGroup, many, () => connectionsWithin(openFilesMax()), "Clients whose connections are forwarded at once. Beyond it the longest silent client is dropped, or the new one, where none is silent.", {
    otherwise: "what the limit of open files allows: two files each",
  }),
  sendProxy: row(lbGroup, yesOrNo(), false, "PROXY protocol v2: nodes get the client's address before its first byte. Only with tlsCert, and nodes without TLS."),
  sharePort: row(lbGroup, yesOrNo(), false, "Several load balancers on this machine listen on one port, and the kernel spreads the connections. Needs Node 22.12 or later."),
};

export interface Row<T> {
  readonly group: string;
  readonly check: Check<T>;
  /** The default, or a function that computes it. */
  readonly preset: T | ((known: Known) => T);
  readonly text: string;
  /** Text for a default that is computed at start. */
  readonly otherwise?: string;
  /** What happens to a client that exceeds this limit. */
  readonly over?: Told;
  /** For a switch: effect of its `--no-` flag. */
  readonly off?: string;
}

/** Values that defaults depend on: other options, given or by default. */
export interface Known extends MemoryGiven {
  readonly isGuarded: boolean;
  readonly placement: string;
  readonly frameBytesMax: number;
}

export type Told = `close ${CloseName}` | `error ${ErrorCode}`;
type More = Pick<Row<unknown>, "otherwise" | "over" | "off">;

function row<T>(group: string, check: Check<T>, preset: NoInfer<Row<T>["preset"]>, text: string, more: More = {}): Row<T> {
  return { group, check, preset, text, ...more };
}

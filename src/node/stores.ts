/** Builds the stores of publications and sessions: in memory, on disk, in NATS and Redis. */
import type { Broker, ConnectionUsage, Deliver, Moved, Retention } from "../broker/broker.ts";
import { createLogBroker } from "../broker/disk/log.ts";
import { createMemoryBroker } from "../broker/memory.ts";
import type { ArchiverUsage } from "../archive/archiver.ts";
import { gatewayOf, gatewayOfDirectory, openArchive } from "./archive.ts";
import type { NatsAccess } from "../broker/nats/connection/access.ts";
import type { QueueOptions } from "../broker/nats/streams/streams.ts";
import type { NatsBroker, RoomQueues } from "../broker/nats/broker.ts";
import type { SharedSessions } from "./cluster.ts";
import { ConfigError, showValue, type Config } from "../config/config.ts";
import { openDataDir } from "../disk/datadir.ts";
import { explained } from "../disk/error.ts";
import type { DiskUsage } from "../disk/journal.ts";
import { randomId } from "../platform/ids.ts";
import type { Logger } from "../platform/log/log.ts";
import { durableNamespaces, inboxNamespace, namespaceOf } from "../config/roomnames.ts";
import { xxh32 } from "../placement/hash.ts";
import { userOfInbox } from "../protocol/roomkeys.ts";
import { createDiskSessions } from "../sessions/disk.ts";
import { createMemorySessions } from "../sessions/memory.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { NodeWebhooks } from "./webhooks.ts";

/** Upper limits: sessions in the store (on disk also those with a socket), and devices with a stored inbox position. */
const storedSessionsMax = 1_000_000;
const cursorsMax = 1_000_000;
/**
 * A message from NATS may take this part of a ring. A ring takes records of half its size, and JSON may triple a byte.
 */
const ringShare = 8;
/** Bytes of publications that may wait for a commit to disk. */
const uncommittedBytesMax = 16 * 1024 * 1024;

/** State that outlives a socket, and with a data directory also the node. */
export interface Stores {
  readonly broker: Broker;
  readonly store: Sessions;
  readonly resumeSecret: string;
  /** The journals of a data directory, for metrics. */
  readonly journals: Readonly<Record<string, () => DiskUsage>>;
  /** Writes to the session store that nodes share. */
  readonly writes: () => { readonly waiting: number; readonly dropped: number };
  /** State of the connection to NATS; null where there is none. */
  readonly nats: (() => ConnectionUsage) | null;
  /** What this node archives; null where nothing is. */
  readonly archive: (() => ArchiverUsage) | null;
  /** The queues of direct messages; null where inboxes have none. */
  readonly queues: RoomQueues | null;
  close(): Promise<void>;
}

/** Parts that an embedding program supplies instead of those the options would choose. */
export interface Parts {
  /** Orders and stores publications. The node stops it when it closes. */
  readonly broker?: (deliver: Deliver, moved: Moved) => Broker | Promise<Broker>;
}

export interface StoresOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly parts: Parts;
  /** The session store that nodes share; null where each node has its own. */
  readonly shared: SharedSessions | null;
  /** Null where no endpoint is configured. */
  readonly webhooks: NodeWebhooks | null;
  readonly retentionOf: (room: string) => Retention | null;
  readonly deliver: Deliver;
  readonly moved: Moved;
}

/** @throws ConfigError where NATS or the data directory cannot be used. */
export async function openStores(options: StoresOptions): Promise<Stores> {
  const { dataDir, nats } = options.config;
  if (nats.length > 0 && options.parts.broker !== undefined) {
    throw new ConfigError(["nats: createGateway was given a broker as well, and rooms need one; remove nats or the broker"]);
  }
  return dataDir === "" ? openShared(options) : openOnDisk(options, dataDir);
}

/** Without a data directory: in memory, or in stores that other nodes share. */
async function openShared({ config, log, parts, shared, deliver, moved }: StoresOptions): Promise<Stores> {
  if (config.archive !== "" && config.nats.length === 0) throw new ConfigError(["--archive: the archive is written from the streams of NATS or from the data directory; set --nats or --data-dir, or remove it"]);
  const archive = await openArchive(config, gatewayOf(config), log);
  const nats = config.nats.length === 0 ? null : await openNats(config, log, deliver, moved).catch(async (error: unknown) => {
    await archive?.stop();
    throw error;
  });
  const archiving = archive && nats && archive.attach(nats);
  const broker = archiving?.broker ?? nats ?? (await parts.broker?.(deliver, moved)) ?? createMemoryBroker(roomLimits(config), deliver);
  const store = shared?.store ?? createMemorySessions(sessionLimits(config));
  const close = async () => void (await store.stop(), await archiving?.stop(), await broker.stop(), await archive?.stop());
  const resumeSecret = config.resumeSecret || (shared?.secret ?? randomId(32));
  const writes = shared?.store.writes ?? noWrites;
  return { broker, store, resumeSecret, journals: {}, writes, nats: nats && (() => nats.nats()), queues: nats && nats.queues, archive: archiving && (() => archiving.usage()), close };
}

async function openOnDisk({ config, log, parts, webhooks, retentionOf, deliver, moved }: StoresOptions, path: string): Promise<Stores> {
  const { dataBytesMax, dataSync } = config;
  const opened: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const end of opened.splice(0).reverse()) await end();
  };
  try {
    const dataDir = await openDataDir(path);
    opened.push(() => dataDir.close());
    const disk = { sync: dataSync === "commit", uncommittedBytesMax: Math.min(uncommittedBytesMax, dataBytesMax / 8), log };
    const archiveId = config.archive === "" ? "" : await dataDir.archiveId();
    if (archiveId !== "" && parts.broker !== undefined) throw new ConfigError(["archive: createGateway was given a broker, and the archive is written from one of its own; remove archive or the broker"]);
    const archive = await openArchive(config, gatewayOfDirectory(archiveId), log);
    opened.push(async () => archive?.stop());
    const isArchived = archive !== null && Object.values(config.namespaces).some((one) => one.archive === true);
    const kept = { archive: isArchived ? { name: `journal-${archiveId}`, lagMaxMs: config.archiveLagMs } : null };
    const openLog = () => createLogBroker({ ...roomLimits(config), ...disk, ...kept, folder: dataDir.folder("log"), dataBytesMax, retentionOf }, deliver);
    const logged = parts.broker === undefined ? await openLog() : null;
    const own = logged ?? (await parts.broker!(deliver, moved));
    opened.push(() => own.stop());
    const archiving = archive && logged && archive.attach(logged);
    if (archiving !== null) opened.push(() => archiving.stop());
    const broker = archiving?.broker ?? own;
    const store = await createDiskSessions({ ...sessionLimits(config), ...disk, folder: dataDir.folder("sessions") });
    opened.push(() => store.stop());
    const facts = (await webhooks?.openOnDisk({ ...disk, folder: dataDir.folder("webhooks") })) ?? null;
    if (facts !== null) opened.push(() => webhooks!.close());
    const journals = { ...(logged && { log: () => logged.disk() }), sessions: () => store.disk(), ...(facts && { webhooks: () => facts.disk() }) };
    return { broker, store, resumeSecret: config.resumeSecret || (await dataDir.secret()), journals, writes: noWrites, nats: null, queues: null, archive: archiving && (() => archiving.usage()), close };
  } catch (error) {
    await close();
    if (error instanceof ConfigError) throw error;
    throw new ConfigError([`--data-dir ${path}: ${explained(error).message}`]);
  }
}

function roomLimits({ roomsMax, historyTotalBytesMax, keyWindowMs, keysPerRoomMax }: Config): Parameters<typeof createMemoryBroker>[0] {
  return { roomsMax, historyTotalBytesMax, keyWindowMs, keysPerRoomMax };
}

function sessionLimits({ sessionTtlMs: ttlMs }: Config): Parameters<typeof createMemorySessions>[0] {
  return { ttlMs, sessionsMax: storedSessionsMax, cursorsMax };
}

const noWrites = () => ({ waiting: 0, dropped: 0 });

export function natsAccess(config: Config): NatsAccess {
  const { nats: servers, natsUser: user, natsPassword: password, natsToken: token, natsCreds: creds } = config;
  const { natsTlsCa: tlsCa, natsTlsCert: tlsCert, natsTlsKey: tlsKey } = config;
  return { servers, user, password, token, creds, tlsCa, tlsCert, tlsKey };
}

/** Inboxes have queues where each user has one holder. */
function queueOf({ placement, placementPartitions: partitions, placementStreams: streams }: Config): QueueOptions | undefined {
  if (placement !== "partition") return undefined;
  return { namespace: inboxNamespace, partitions, streams, partitionOf: (room) => xxh32(userOfInbox(room)) % partitions };
}

/** Loads the client library only where NATS is configured. */
async function openNats(config: Config, log: Logger, deliver: Deliver, moved: Moved): Promise<NatsBroker> {
  const { createNatsBroker, NatsProblem } = await import("../broker/nats/broker.ts");
  const { natsPrefix: prefix, natsTimeoutMs: timeoutMs, natsPartitions: partitions, natsStorage: storage, roomsMax, keyWindowMs, keysPerRoomMax, nodeId: node } = config;
  const kept = { prefix, partitions, replicas: Number(config.natsReplicas), storage, keyWindowMs, archiveLagMs: config.archiveLagMs, archiveLagBytesMax: config.archiveLagBytesMax, namespaces: durableNamespaces(config), namespaceOf, queue: queueOf(config), inboxes: inboxNamespace };
  const limits = { timeoutMs, roomsMax, keysPerRoomMax, payloadBytesMax: config.frameBytesMax, arrivingBytesMax: config.ringBytes / ringShare };
  try {
    return await createNatsBroker({ ...natsAccess(config), ...kept, ...limits, node, log }, deliver, moved);
  } catch (error) {
    if (!(error instanceof NatsProblem)) throw error;
    throw new ConfigError([`--nats ${showValue(config, "nats")}: ${error.message}`]);
  }
}

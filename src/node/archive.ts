/** Builds the archive: PostgreSQL, the archiver of this node's streams, and history that goes on there. */
import { startArchiver, type Archiver, type ArchiverUsage } from "../archive/archiver.ts";
import type { ArchiveOperations } from "../archive/operations.ts";
import { withArchive } from "../archive/history.ts";
import type { ArchivedBroker } from "../archive/feed.ts";
import type { Broker } from "../broker/broker.ts";
import { ConfigError, showValue, type Config } from "../config/config.ts";
import { archiveIdIn } from "../disk/datadir.ts";
import { explained } from "../disk/error.ts";
import { randomId } from "../platform/ids.ts";
import { PostgresProblem, textOf } from "../postgres/errors.ts";
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";

/** A node that stopped without a word holds its streams for so long. */
const leaseMs = 10_000;

export interface OpenArchive {
  /** Starts archiving the streams of a broker. */
  attach<B extends Broker & ArchivedBroker>(broker: B): Archiving<B>;
  stop(): Promise<void>;
}

export interface Archiving<B extends Broker> {
  readonly broker: B;
  usage(): ArchiverUsage;
  stop(): Promise<void>;
}

/**
 * Loads the client library only where an archive is configured. A PostgreSQL that cannot be reached does not prevent the
 * start: publications wait in their streams.
 * @param gateway what its tables belong to
 * @throws ConfigError for what stays until an operator acts
 */
export async function openArchive(config: Config, gateway: string, log: Logger): Promise<OpenArchive | null> {
  const { archive: url, archiveLagMs: lagMaxMs, archiveKeepMs: keepMs, nodeId } = config;
  if (url === "") return null;
  const { createPostgresArchive } = await import("../archive/postgres/postgres.ts");
  const archive = createPostgresArchive({ url, gateway, name: `flux-gateway ${nodeId}` });
  try {
    await archive.prepare();
  } catch (error) {
    if (error instanceof PostgresProblem) {
      await archive.stop();
      throw new ConfigError([`--archive ${showValue(config, "archive")}: ${error.message}`]);
    }
    log.warn({ problem: textOf(error) }, "archive: PostgreSQL cannot be reached; publications wait in their streams, and the node retries");
  }
  const failures = new Sparse();
  const failed = (error: Error) => {
    if (failures.due("read") !== null) log.warn({ problem: textOf(error) }, "archive: the history of a room could not be read; the request is answered unavailable");
  };
  return {
    attach(broker) {
      const archiver: Archiver = startArchiver({ archive, feeds: broker.feeds(), holder: `${nodeId} ${randomId(6)}`, leaseMs, lagMaxMs, keepMs, log });
      return { broker: withArchive(broker, { archive, streamOf: (room) => broker.streamOf(room), failed }), usage: () => archiver.usage(), stop: () => archiver.stop() };
    },
    stop: () => archive.stop(),
  };
}

/** For `flux-gateway archive`. @throws ConfigError */
export async function openArchiveTools(config: Config): Promise<{ open(): ArchiveOperations; explain(error: unknown): unknown }> {
  const { archive: url } = config;
  if (url === "") throw new ConfigError(["--archive: name the database of the archive, as your nodes do"]);
  const { openArchiveOperations } = await import("../archive/postgres/operations.ts");
  const explain = (error: unknown) => new ConfigError([`--archive ${showValue(config, "archive")}: ${textOf(error)}`]);
  const gateway = config.dataDir === "" ? gatewayOf(config) : gatewayOfDirectory(await archiveIdOf(config.dataDir));
  return { open: () => openArchiveOperations(url, gateway), explain };
}

async function archiveIdOf(path: string): Promise<string> {
  try {
    return await archiveIdIn(path);
  } catch (error) {
    throw new ConfigError([`--data-dir ${path}: ${explained(error).message}`]);
  }
}

/** What tables in PostgreSQL belong to. */
export function gatewayOf({ natsPrefix }: Pick<Config, "natsPrefix">): string {
  return `nats ${natsPrefix}`;
}

/** Positions of another directory, or of none, mean something else. */
export function gatewayOfDirectory(archiveId: string): string {
  return `data directory ${archiveId}`;
}

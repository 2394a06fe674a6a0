/**
 * Archives the streams of a node: takes leases of streams that no other node archives, and runs a writer for each. The
 * lease saves work only. What makes two writers harmless is the cursor in the archive.
 */
import type { Archive } from "./archive.ts";
import type { Feed } from "./feed.ts";
import { textOf } from "../postgres/errors.ts";
import { endedWithin } from "../platform/ended.ts";
import { Writer, type ArchiveCounts, type WriterLog } from "./writer.ts";

export interface ArchiverOptions {
  readonly archive: Archive;
  readonly feeds: readonly Feed[];
  /** This start of this node. */
  readonly holder: string;
  readonly leaseMs: number;
  /** Age of publications at which the stream deletes them, archived or not. */
  readonly lagMaxMs: number;
  /** Age at which the archive deletes rows; 0: never. */
  readonly keepMs: number;
  /** Milliseconds since 1970; replaced in tests. */
  readonly now?: () => number;
  readonly retryMs?: number;
  readonly tidyMs?: number;
  readonly log: WriterLog;
}

export interface ArchiverUsage extends Readonly<ArchiveCounts> {
  /** Streams that this node archives. */
  readonly streams: number;
  readonly pending: number;
  readonly lagMs: number;
  /** Whether the archive answered last time. */
  readonly up: boolean;
}

export interface Archiver {
  usage(): ArchiverUsage;
  /** Ends writes, and gives up the leases. */
  stop(): Promise<void>;
}

/** Streams taken in one round: nodes that start together share them. */
const takenAtOnce = 4;
/** Rounds between two looks at streams of others. */
const roundsPerLook = 10;
const tidyEveryMs = 10 * 60_000;
const retryAfterMs = 1_000;

/** A server that does not answer does not hold up the node that stops. */
const stopMs = 3_000;

export function startArchiver(options: ArchiverOptions): Archiver {
  const { archive, feeds, holder, leaseMs, lagMaxMs, keepMs, now = Date.now, retryMs = retryAfterMs, tidyMs = tidyEveryMs, log } = options;
  const counts: ArchiveCounts = { rows: 0, gaps: 0, missing: 0, failures: 0 };
  const writers = new Map<string, { readonly writer: Writer; readonly ended: Promise<void> }>();
  const names = feeds.map(({ stream }) => stream);
  let up = true;
  /** Since when no stream can be taken. */
  let downSince = 0;
  let alarmed = false;
  let rounds = 0;
  /** Streams that another node archives in another epoch than theirs, when it was last looked. */
  let foreign: readonly string[] = [];
  let saidForeign = false;
  let timer: NodeJS.Timeout | null = null;
  let tidyTimer: NodeJS.Timeout | null = null;
  let stopped = false;

  const start = (feed: Feed, cursor: Parameters<Writer["run"]>[0]) => {
    const retake = async () => (await archive.take([feed.stream], holder, leaseMs, 1))[0]?.cursor;
    const writer = new Writer({ feed, archive, counts, retake, now, retryMs, log });
    const ended = writer.run(cursor).finally(() => writers.delete(feed.stream));
    writers.set(feed.stream, { writer, ended });
  };

  const look = async (): Promise<number> => {
    const taken = await archive.take(names, holder, leaseMs, takenAtOnce);
    let started = 0;
    if (stopped) return 0;
    for (const { stream, cursor } of taken) {
      if (writers.has(stream)) continue;
      start(feeds.find((feed) => feed.stream === stream)!, cursor);
      started++;
    }
    for (const [stream, { writer }] of writers) if (!taken.some((one) => one.stream === stream)) writer.stop();
    return started;
  };

  /** A holder adopts a new epoch within seconds. One that keeps another archives the stream of another NATS. */
  const lookForOthers = async (): Promise<void> => {
    if (rounds++ % roundsPerLook !== 0) return;
    const others = feeds.filter(({ stream }) => !writers.has(stream));
    if (others.length === 0) return void (foreign = []);
    const epochs = await archive.epochs(others.map(({ stream }) => stream));
    const now: string[] = [];
    for (const feed of others) {
      const archived = epochs.get(feed.stream) ?? "";
      if (archived !== "" && (await feed.state()).epoch !== archived) now.push(feed.stream);
    }
    const stay = now.filter((stream) => foreign.includes(stream) && !writers.has(stream));
    if (stay.length > 0 && !saidForeign) log.error({ streams: stay }, "archive: another gateway archives its streams here under the names of this one's, which are not archived; two gateways have the same natsPrefix and schema: give each its own");
    saidForeign = stay.length > 0;
    foreign = now;
  };

  const round = async (): Promise<void> => {
    let started = 0;
    try {
      started = await look();
      await lookForOthers().catch(() => undefined); // NATS is unavailable, and the writers say so
      if (!up) log.info({}, "archive: PostgreSQL is available again");
      up = true;
    } catch (error) {
      if (up) log.warn({ problem: textOf(error) }, "archive: PostgreSQL is unavailable; publications wait in their streams, and the node retries");
      if (up) downSince = now();
      up = false;
    }
    alarm();
    if (!stopped) timer = setTimeout(() => void round(), started > 0 ? 50 + Math.random() * 200 : leaseMs / 5).unref();
  };

  /** At half of the time, or half of the space, after which publications would be lost. */
  const alarm = (): void => {
    const lagMs = lag();
    const filled = Math.max(0, ...feeds.map((feed) => feed.filled?.() ?? 0));
    const isLate = lagMs >= lagMaxMs / 2;
    const isFull = filled >= 0.5;
    if (!alarmed && isLate) log.error({ lagMs: Math.round(lagMs), archiveLagMs: lagMaxMs }, "archive: it lags by more than half of archiveLagMs; after that time streams delete publications, archived or not; check PostgreSQL");
    else if (!alarmed && isFull) log.error({ lagMs: Math.round(lagMs), filled }, "archive: what waits for it fills more than half of its space in the data directory; when that is full, the journal deletes publications, archived or not; check PostgreSQL, or raise dataBytesMax");
    if (alarmed && !isLate && !isFull) log.info({}, "archive: it has caught up");
    alarmed = isLate || isFull;
  };
  // Without a writer nobody knows what waits: at least what came since the archive was last there.
  const lag = () => Math.max(0, !up && writers.size === 0 ? now() - downSince : 0, ...[...writers.values()].map(({ writer }) => writer.lagMs));

  const tidy = async (): Promise<void> => {
    try {
      await archive.tidy(now(), keepMs);
    } catch (error) {
      log.warn({ problem: textOf(error) }, "archive: partitions could not be prepared or deleted; the node tries again later");
    }
    if (!stopped) tidyTimer = setTimeout(() => void tidy(), tidyMs).unref();
  };
  void tidy();
  void round();

  return {
    usage: () => ({ ...counts, streams: writers.size, pending: [...writers.values()].reduce((sum, { writer }) => sum + writer.pending, 0), lagMs: lag(), up }),
    async stop() {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
      if (tidyTimer !== null) clearTimeout(tidyTimer);
      const ended = [...writers.values()].map(({ writer, ended }) => (writer.stop(), ended));
      await endedWithin(Promise.all(ended), stopMs);
      await endedWithin(archive.release(names, holder), stopMs); // otherwise it expires
    },
  };
}

/**
 * The broker for many nodes: rooms in NATS. Ephemeral rooms are plain subjects (ephemeral.ts); durable rooms are in
 * streams (durable/durable.ts). wire/ is the format of both: subjects (names.ts), publications (envelope.ts), answers.
 */
import { createInbox, type NatsConnection } from "nats";
import type { ArchivedBroker } from "../../archive/feed.ts";
import type { ErrorCode } from "../../errors.ts";
import type { Broker, ConnectionUsage, Deliver, Moved, Retention } from "../broker.ts";
import { NatsProblem, type NatsAccess } from "./connection/access.ts";
import { Arriving } from "./wire/arriving.ts";
import { connectNats, watchNats, type NatsLog } from "./connection/connection.ts";
import { DurableRooms } from "./durable/durable.ts";
import { EphemeralRooms } from "./ephemeral.ts";
import { isOfSubscriptions, Listening } from "./listening.ts";
import { Outbox, overheadBytes } from "./outbox.ts";
import { Refusals, type RefusalReason } from "./refusals.ts";
import { StreamFeed } from "./history/feed.ts";
import { Pulls } from "./history/pulls.ts";
import { leftElsewhere } from "./queue/left.ts";
import type { QueuedPublication } from "./queue/pulling.ts";
import { Queues } from "./queue/queues.ts";
import { Reader } from "./history/reading.ts";
import { Streams, type StreamOptions } from "./streams/streams.ts";
import { partitionOf, streamName, tokenOf } from "./wire/names.ts";

export { NatsProblem } from "./connection/access.ts";

export interface NatsBrokerOptions extends NatsAccess, StreamOptions {
  /** Name of this connection in NATS. */
  readonly node: string;
  readonly timeoutMs: number;
  readonly roomsMax: number;
  readonly keysPerRoomMax: number;
  /** Largest payload. */
  readonly payloadBytesMax: number;
  /** Larger messages of other nodes are not delivered: they do not fit into a ring. */
  readonly arrivingBytesMax: number;
  /** Namespace of a room, by its key. */
  readonly namespaceOf: (room: string) => string;
  /** Durable namespaces. Their streams are created and checked at start, those of others at first use. */
  readonly namespaces: ReadonlyMap<string, Retention>;
  /** Namespace of inboxes, whose streams depend on the placement; undefined: there are none. */
  readonly inboxes?: string;
  /** Interval of comparing streams with open rooms. */
  readonly quietLookMs?: number;
  readonly log: NatsLog;
}

export interface NatsBroker extends Broker, ArchivedBroker {
  readonly nats: () => ConnectionUsage & { readonly refused: Readonly<Record<RefusalReason, number>> };
  /** Null: no rooms have queues. */
  readonly queues: RoomQueues | null;
}

/** Rooms of one namespace whose publications come from the queue of a partition, to the node that holds it. */
export interface RoomQueues {
  /** See placement/leases/leases.ts, PartitionQueue. */
  readonly queue: Pick<Queues, "state" | "backlogOf" | "createConsumer" | "deleteConsumersBelow" | "pull">;
  /** Whether this node may deliver for a partition now. To be set once, before anything is delivered. */
  setHolds(holds: (partition: number) => boolean): void;
  /** This node holds the partition from now on: its open rooms get what they lack. */
  began(partition: number): void;
  /** This node does not hold it any more. */
  ended(partition: number): void;
  /** A message of a queue, in order. */
  deliver(publication: QueuedPublication): void;
}

/** Publications and bytes without an acknowledgement. Beyond these limits publishes are rejected. */
const waitingMax = 65_536;
const waitingBytesMax = 64 * 1024 * 1024;

/** @throws NatsProblem */
export async function createNatsBroker(options: NatsBrokerOptions, deliver: Deliver, moved: Moved = () => undefined): Promise<NatsBroker> {
  const connection = await connectNats(options, options.node);
  try {
    return await brokerOn(connection, options, guarded(deliver, options.log), guarded(moved, options.log));
  } catch (error) {
    await end(connection);
    throw error;
  }
}

async function brokerOn(connection: NatsConnection, options: NatsBrokerOptions, deliver: Deliver, moved: Moved): Promise<NatsBroker> {
  const { timeoutMs, log, payloadBytesMax } = options;
  checkPayload(connection, payloadBytesMax);
  const refusals = new Refusals(log);
  const listening = new Listening({ connection, refusals, log });
  const limits = { timeoutMs, publicationsMax: waitingMax, bytesMax: waitingBytesMax, refusals, listening };
  const outbox: Outbox = new Outbox(connection, createInbox(), limits, (waiting, ack) => durable.acknowledged(waiting, ack));
  const pulls = new Pulls(listening);
  const streams = new Streams(connection, options, listening, log, () => durable.resync());
  const reader = new Reader(connection, streams, pulls);
  const arriving = new Arriving(outbox.node, options.arrivingBytesMax, log);
  const ephemeral = new EphemeralRooms({ ...options, listening, outbox, arriving }, deliver, moved);
  const durable = new DurableRooms({ ...options, listening, outbox, arriving, streams, reader }, deliver, moved);
  const { queue } = options;
  const queues = queue === undefined ? null : new Queues({ connection, streams, listening, prefix: options.prefix, queue });
  streams.onBeganAgain = (stream) => queues?.streamBeganAgain(stream);
  let connected = true;
  let reconnects = 0;
  watchNats(connection, log, {
    disconnected() {
      connected = false;
      outbox.disconnected();
      durable.disconnected();
    },
    reconnected() {
      connected = true;
      reconnects++;
      ephemeral.interrupted();
      outbox.reconnected();
      if (outbox.payloadMax < payloadBytesMax + overheadBytes) log.error({ max_payload: outbox.payloadMax }, tooSmall(payloadBytesMax));
      durable.reconnected();
      queues?.reconnected();
      listening.reconnected();
    },
    refused(denied, problem) {
      // Errors of subscriptions are reported where the subscription was made.
      if (denied?.operation === "publish") outbox.denied(denied.subject);
      else if (denied === null && !isOfSubscriptions(problem)) log.error({ problem }, "NATS: the server reports an error; see its log");
    },
  });
  const stop = async (): Promise<void> => {
    outbox.stop();
    queues?.stop();
    durable.stop();
    listening.stop();
    await end(connection);
  };
  try {
    await checkSubscriptions([outbox.heard, pulls.heard, ...(queues === null ? [] : [queues.heard])]);
    await Promise.all([...options.namespaces].map(([name, retention]) => streams.prepare(name, retention)));
    const left = options.inboxes === undefined ? null : await leftElsewhere(streams, options.prefix, options.inboxes, queue !== undefined);
    if (left !== null) log.warn({ ...left }, "NATS: streams hold direct messages from before --placement was changed: they are not delivered, and devices that lack them get a gap; they expire by inboxTtlMs, or are delivered if you change it back");
  } catch (error) {
    await stop();
    throw error;
  }

  const kindOf = (retention: Retention) => (retention.durable ? durable : ephemeral);
  return {
    open: (room, retention, done) => kindOf(retention).open(room, retention, guarded(done, log)),
    close(room) {
      ephemeral.close(room);
      durable.close(room);
    },
    publish: (room, retention, draft, done) => kindOf(retention).publish(room, retention, draft, guarded(done, log)),
    history: (room, retention, query, done) => kindOf(retention).history(room, retention, query, guarded(done, log)),
    usage: () => ({ rooms: ephemeral.size + durable.size, publications: 0, bytes: 0 }),
    feeds: () => streams.all().filter(({ retention }) => retention.archive === true).map((stream) => new StreamFeed(stream, { connection, streams, pulls, connections: () => reconnects })),
    streamOf(room) {
      const namespace = options.namespaceOf(room);
      return streamName(options.prefix, namespace, partitionOf(tokenOf(room), options.partitions));
    },
    nats: () => ({
      away: !connected || outbox.stalled,
      reconnects,
      waiting: outbox.size,
      waitingBytes: outbox.bytes,
      timeouts: outbox.timeouts,
      filled: durable.filled,
      reads: reader.reads,
      undeliverable: arriving.refused,
      refused: refusals.counts,
      unheard: listening.lost,
      restarts: streams.restarts,
    }),
    queues: queues && roomQueues(queues, durable, options),
    stop,
  };
}

function roomQueues(queues: Queues, durable: DurableRooms, { queue, namespaces }: NatsBrokerOptions): RoomQueues {
  const sizeMax = namespaces.get(queue?.namespace ?? "")?.historySize ?? 0;
  return {
    queue: queues,
    setHolds: (holds) => void (durable.queued.holds = holds),
    began: (partition) => durable.queueChanged(partition, true),
    ended: (partition) => durable.queueChanged(partition, false),
    // A room keeps one publication more than its size.
    deliver: (publication) => durable.consumed(publication, publication.pending >= sizeMax),
  };
}

/** Without the subscription for acknowledgements no publication would be answered. */
async function checkSubscriptions(heard: readonly Promise<ErrorCode | null>[]): Promise<void> {
  const answers = await Promise.all(heard);
  const refused = answers.find((answer) => answer !== null) ?? null;
  if (refused === "overloaded") throw new NatsProblem("max_subscriptions is too low: a node needs a few subscriptions, and one for each open room; raise max_subscriptions of the server or the account");
  if (refused !== null) throw new NatsProblem("the user may not subscribe to _INBOX.>, so answers cannot arrive; allow _INBOX.>");
}

function tooSmall(bytesMax: number): string {
  return `NATS: max_payload of this server is too low for frames of ${bytesMax} bytes: larger publications fail with too_large; set it to ${bytesMax + overheadBytes} or more on every server, or lower --frame-bytes-max`;
}

function checkPayload(connection: NatsConnection, bytesMax: number): void {
  const max = connection.info?.max_payload;
  if (max === undefined || bytesMax + overheadBytes <= max) return;
  throw new NatsProblem(
    `max_payload is ${max} bytes, too low for frames of ${bytesMax} bytes: ` +
      `set max_payload of the servers to ${bytesMax + overheadBytes} or more, or lower --frame-bytes-max`,
  );
}

/** An exception in the client library's reader would end the reader; in a promise it would end the node. */
function guarded<A extends unknown[]>(call: (...given: A) => void, log: NatsLog): (...given: A) => void {
  return (...given) => {
    try {
      call(...given);
    } catch (error) {
      log.error({ err: error }, "NATS: a received message could not be handled and is lost on this node: a bug");
    }
  };
}

async function end(connection: NatsConnection): Promise<void> {
  if (!connection.isClosed()) await connection.close();
}

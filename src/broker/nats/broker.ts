/**
 * The broker of many nodes: rooms in NATS. Ephemeral rooms are plain subjects (ephemeral.ts). Streams keep the durable
 * ones (durable/durable.ts). wire/ is what both send: subjects (names.ts), publications (envelope.ts), answers.
 */
import { createInbox, type NatsConnection } from "nats";
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
import { Pulls } from "./history/pulls.ts";
import { Reader } from "./history/reading.ts";
import { Streams, type StreamOptions } from "./streams/streams.ts";

export { NatsProblem } from "./connection/access.ts";

export interface NatsBrokerOptions extends NatsAccess, StreamOptions {
  /** What this connection is called in NATS. */
  readonly node: string;
  readonly timeoutMs: number;
  readonly roomsMax: number;
  readonly keysPerRoomMax: number;
  /** A payload is no larger. */
  readonly payloadBytesMax: number;
  /** A larger message of another node is not delivered: it does not fit what leads to the members. */
  readonly arrivingBytesMax: number;
  /** Of a room, by its key. */
  readonly namespaceOf: (room: string) => string;
  /** Durable namespaces whose streams are made and checked at the start; others are when they are used. */
  readonly namespaces: ReadonlyMap<string, Retention>;
  /** How often streams are compared with the rooms that are open here. */
  readonly quietLookMs?: number;
  readonly log: NatsLog;
}

export interface NatsBroker extends Broker {
  readonly nats: () => ConnectionUsage & { readonly refused: Readonly<Record<RefusalReason, number>> };
}

/** Publications and bytes without an answer, past which publish is refused. */
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
      listening.reconnected();
    },
    refused(denied, problem) {
      // Those of subscriptions are told by who asked for them.
      if (denied?.operation === "publish") outbox.denied(denied.subject);
      else if (denied === null && !isOfSubscriptions(problem)) log.error({ problem }, "NATS: the server reports an error");
    },
  });
  const stop = async (): Promise<void> => {
    outbox.stop();
    durable.stop();
    listening.stop();
    await end(connection);
  };
  try {
    await checkSubscriptions([outbox.heard, pulls.heard]);
    await Promise.all([...options.namespaces].map(([name, retention]) => streams.prepare(name, retention)));
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
    }),
    stop,
  };
}

/** Without that for acknowledgements no publication would ever be answered. */
async function checkSubscriptions(heard: readonly Promise<ErrorCode | null>[]): Promise<void> {
  const answers = await Promise.all(heard);
  const refused = answers.find((answer) => answer !== null) ?? null;
  if (refused === "overloaded") throw new NatsProblem("the server lets this node have too few subscriptions: it needs some of its own, and one for each open room; raise max_subscriptions of the server or the account");
  if (refused !== null) throw new NatsProblem("this node cannot hear the server's answers; let its user subscribe to _INBOX.>");
}

function tooSmall(bytesMax: number): string {
  return `NATS: max_payload of this server is too little for frames of ${bytesMax} bytes, and larger publications are refused too_large: set it to ${bytesMax + overheadBytes} or more on every server, or lower --frame-bytes-max`;
}

function checkPayload(connection: NatsConnection, bytesMax: number): void {
  const max = connection.info?.max_payload;
  if (max === undefined || bytesMax + overheadBytes <= max) return;
  throw new NatsProblem(
    `a message there may have ${max} bytes (max_payload), which is too little for frames of ${bytesMax}: ` +
      `set max_payload of the servers to ${bytesMax + overheadBytes} or more, or lower --frame-bytes-max`,
  );
}

/** What is thrown inside the client library's reader would end it, and inside a promise the node. */
function guarded<A extends unknown[]>(call: (...given: A) => void, log: NatsLog): (...given: A) => void {
  return (...given) => {
    try {
      call(...given);
    } catch (error) {
      log.error({ err: error }, "what NATS brought could not be passed on");
    }
  };
}

async function end(connection: NatsConnection): Promise<void> {
  if (!connection.isClosed()) await connection.close();
}

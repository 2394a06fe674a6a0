/**
 * The broker of many nodes: rooms in NATS. Ephemeral rooms are plain subjects (natsephemeral.ts). What a room is called
 * there is in natsnames.ts, what a publication looks like in natsenvelope.ts.
 */
import { createInbox, type NatsConnection } from "nats";
import type { Broker, Deliver } from "./broker.ts";
import { connectNats, watchNats, type NatsAccess, type NatsLog } from "./natsconnection.ts";
import { EphemeralRooms } from "./natsephemeral.ts";
import { Outbox } from "./natsoutbox.ts";

export { NatsProblem } from "./natsconnection.ts";

export interface NatsBrokerOptions extends NatsAccess {
  /** What this connection is called in NATS. */
  readonly node: string;
  /** Where all subjects begin, and in capitals all streams. */
  readonly prefix: string;
  readonly timeoutMs: number;
  readonly roomsMax: number;
  readonly keyWindowMs: number;
  readonly keysPerRoomMax: number;
  /** Of a room, by its key. */
  readonly namespaceOf: (room: string) => string;
  readonly log: NatsLog;
}

export interface NatsBroker extends Broker {
  readonly nats: () => NatsUsage;
}

export interface NatsUsage {
  /** Nothing can be published now: it is not connected, or does not answer. */
  readonly away: boolean;
  readonly reconnects: number;
  readonly waiting: number;
  readonly waitingBytes: number;
  readonly timeouts: number;
}

/** Publications and bytes without an answer, past which publish is refused. */
const waitingMax = 65_536;
const waitingBytesMax = 64 * 1024 * 1024;

/** @throws NatsProblem */
export async function createNatsBroker(options: NatsBrokerOptions, deliver: Deliver): Promise<NatsBroker> {
  const connection = await connectNats(options, options.node);
  const { timeoutMs, log } = options;
  const limits = { timeoutMs, publicationsMax: waitingMax, bytesMax: waitingBytesMax };
  const outbox = new Outbox(connection, createInbox(), limits, () => undefined);
  const ephemeral = new EphemeralRooms({ ...options, connection, outbox }, guarded(deliver, log));
  let connected = true;
  let reconnects = 0;
  watchNats(connection, log, {
    disconnected() {
      connected = false;
      outbox.disconnected();
    },
    reconnected() {
      connected = true;
      reconnects++;
      ephemeral.interrupted();
      outbox.reconnected();
    },
  });

  return {
    open: (room, retention, done) => (retention.durable ? done({ error: "unavailable" }) : ephemeral.open(room, retention, done)),
    close: ephemeral.close,
    publish: (room, retention, draft, done) =>
      retention.durable ? done({ error: "unavailable" }) : ephemeral.publish(room, retention, draft, done),
    history: (room, retention, query, done) =>
      retention.durable ? done({ error: "unavailable" }) : ephemeral.history(room, retention, query, done),
    usage: () => ({ rooms: ephemeral.size, publications: 0, bytes: 0 }),
    nats: () => ({
      away: !connected || outbox.stalled,
      reconnects,
      waiting: outbox.size,
      waitingBytes: outbox.bytes,
      timeouts: outbox.timeouts,
    }),
    stop: async () => {
      outbox.stop();
      await end(connection);
    },
  };
}

/** What is thrown inside the client library's reader would end it. */
function guarded(deliver: Deliver, log: NatsLog): Deliver {
  return (room, publication) => {
    try {
      deliver(room, publication);
    } catch (error) {
      log.error({ err: error }, "a delivery failed");
    }
  };
}

async function end(connection: NatsConnection): Promise<void> {
  if (!connection.isClosed()) await connection.close();
}

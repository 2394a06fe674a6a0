/** The connection to NATS and its state. */
import { connect, Events, DebugEvents, type ConnectionOptions, type Msg, type NatsConnection, type Status, type Subscription } from "nats";
import { hearRefusals } from "./handshake.ts";
import { shortenWays } from "./shortcut.ts";
import { accessOptions, explain, NatsProblem, type NatsAccess } from "./access.ts";

export interface NatsLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** Callbacks for changes of a connection. */
export interface Changes {
  /** Disconnected: nothing arrives any more. */
  disconnected(): void;
  /** Connected again; the library has repeated all subscriptions. */
  reconnected(): void;
  /**
   * The server sent `-ERR`. @param denied operation and subject of a missing permission. @param problem the server's
   * words for any other error
   */
  refused(denied: { readonly operation: string; readonly subject: string } | null, problem: string): void;
}

/** Wait between two attempts at one server, and the random part that spreads the nodes. */
const reconnectMs = 250;
const jitterMs = 100;
const connectTimeoutMs = 5_000;
/** A server that is silent for two of these intervals counts as dead, and another is tried. */
const pingMs = 5_000;
const pingsMax = 2;

/** @throws NatsProblem */
export async function connectNats(access: NatsAccess, name: string): Promise<NatsConnection> {
  hearRefusals();
  shortenWays();
  const options = optionsFor(access, name);
  try {
    // Random order spreads the nodes over the servers.
    const servers = await answeringFirst(inAnyOrder(addressesOf(access)), options);
    let connection: NatsConnection | null = null;
    const reconnectDelayHandler = () => {
      forgetTheFuture(connection);
      return reconnectMs + Math.random() * jitterMs;
    };
    return (connection = await connect({ ...options, servers, noRandomize: true, reconnectDelayHandler }));
  } catch (error) {
    throw new NatsProblem(explain(error, access));
  }
}

/**
 * Puts a reachable server first. Before its first connection, the client library forgets unreachable servers for good
 * and would not return to them later.
 * @throws the reason, where no server is reachable
 */
async function answeringFirst(servers: readonly string[], options: ConnectionOptions): Promise<string[]> {
  if (servers.length === 1) return [...servers];
  const failures: unknown[] = [];
  for (const server of servers) {
    try {
      await (await connect({ ...options, servers: [server] })).close();
      return [server, ...servers.filter((one) => one !== server)];
    } catch (error) {
      failures.push(error);
    }
  }
  // A server that answers and rejects says more than one that is down.
  throw failures.find((error) => !isNobodyThere(error)) ?? failures[0];
}

/**
 * Resets the library's times of attempts. It uses the system clock. After the clock is set back, these times are in the
 * future, and the library would not retry: an hour without NATS for a clock that was an hour ahead. The fields are
 * private: test/nats-library.test.ts fails if a new version changes them.
 */
function forgetTheFuture(connection: NatsConnection | null): void {
  const { protocol } = (connection ?? {}) as { readonly protocol?: { readonly servers?: { readonly servers?: { lastConnect: number }[] } } };
  for (const server of protocol?.servers?.servers ?? []) if (server.lastConnect > Date.now()) server.lastConnect = 0;
}

function isNobodyThere(error: unknown): boolean {
  return ["CONNECTION_REFUSED", "ECONNREFUSED"].includes((error as { code?: string }).code ?? "");
}

function inAnyOrder(servers: readonly string[]): string[] {
  return servers.map((server) => ({ server, at: Math.random() })).sort((a, b) => a.at - b.at).map(({ server }) => server);
}

/** State of the connection. The client library reports every failed attempt as a loss, and as many returns. */
interface Known {
  connected: boolean;
  /** The problem that was logged last. */
  problem: string;
}

/** Reports every disconnect and reconnect once, until the connection is closed. */
export function watchNats(connection: NatsConnection, log: NatsLog, changes: Changes): void {
  const known: Known = { connected: true, problem: "" };
  const watch = async () => {
    for await (const status of connection.status()) {
      try {
        onStatus(connection, known, status, log, changes);
      } catch (error) {
        log.error({ err: error }, "NATS: a change of the connection could not be handled: a bug");
      }
    }
  };
  watch().catch((error: unknown) => log.error({ err: error }, "NATS: the connection is no longer watched: a bug; restart this node"));
}

function onStatus(connection: NatsConnection, known: Known, status: Status, log: NatsLog, changes: Changes): void {
  const { type, data } = status;
  switch (type) {
    case Events.Disconnect: {
      const problem = lastErrorOf(connection)?.message;
      const wasConnected = known.connected;
      known.connected = false;
      if (wasConnected) log.warn({ server: String(data), problem }, "NATS: the connection is lost; the node retries until it is back");
      else if (problem !== undefined && problem !== known.problem) log.warn({ server: String(data), problem }, "NATS: a server rejects this node; the node retries; correct its credentials or permissions");
      known.problem = problem ?? "";
      return wasConnected ? changes.disconnected() : undefined;
    }
    case Events.Reconnect:
      if (known.connected) return;
      known.connected = true;
      log.info({ server: String(data) }, "NATS: connected again");
      return changes.reconnected();
    case Events.Error:
      // While disconnected, this belongs to an attempt and is reported with its failure.
      return known.connected ? changes.refused(status.permissionContext ?? null, lastErrorOf(connection)?.message ?? String(data)) : undefined;
    case DebugEvents.StaleConnection:
      return log.warn({}, "NATS: the server does not answer; the node reconnects");
  }
}

/**
 * Subscribes. Catches exceptions of the callback, which would end the client's reader and with it the connection.
 * @param onDenied called where the account may not subscribe: no messages will come.
 * @param queue each message goes to one of the subscribers with this name; "": to all.
 */
export function listen(
  connection: NatsConnection,
  subject: string,
  log: NatsLog,
  onMessage: (message: Msg) => void,
  onDenied: (error: Error) => void = (error) => log.error({ err: error, subject }, "NATS: a subscription was rejected; correct the permissions of the user"),
  queue = "",
): Subscription {
  return connection.subscribe(subject, {
    ...(queue !== "" && { queue }),
    callback: (error, message) => {
      try {
        if (error === null) onMessage(message);
        else onDenied(error);
      } catch (thrown) {
        log.error({ err: thrown, subject }, "NATS: a message could not be handled: a bug");
      }
    },
  });
}

/** The server's last error, except missing permissions. The library keeps it and passes on only a code. */
export function lastErrorOf(connection: NatsConnection): Error | undefined {
  return (connection as unknown as { readonly protocol?: { readonly lastError?: Error } }).protocol?.lastError;
}

/** A server's address without secrets. */
export function withoutSecrets(server: string): string {
  return server.replace(/\/\/[^@/]*@/, "//");
}

function addressesOf({ servers }: NatsAccess): string[] {
  return servers.map((server) => withoutSecrets(server).replace(/^[a-z]+:\/\//, ""));
}

function optionsFor(access: NatsAccess, name: string): ConnectionOptions {
  return {
    name,
    reconnect: true,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    timeout: connectTimeoutMs,
    pingInterval: pingMs,
    maxPingOut: pingsMax,
    ...accessOptions(access),
  };
}

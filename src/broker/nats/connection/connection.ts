/** The connection to NATS, and whether NATS is there. */
import { connect, Events, DebugEvents, type ConnectionOptions, type Msg, type NatsConnection, type Status, type Subscription } from "nats";
import { hearRefusals } from "./handshake.ts";
import { accessOptions, explain, NatsProblem, type NatsAccess } from "./access.ts";

export interface NatsLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** What happens to a connection after it was made. */
export interface Changes {
  /** Nothing arrives any more. */
  disconnected(): void;
  /** It is back, and everything that was subscribed is asked for again. */
  reconnected(): void;
  /** The server said `-ERR`. @param denied where it was for want of a permission. @param problem the server's words, where it was not */
  refused(denied: { readonly operation: string; readonly subject: string } | null, problem: string): void;
}

/** Between two attempts at the same server, and how much more at most, so that nodes do not come all at once. */
const reconnectMs = 250;
const jitterMs = 100;
const connectTimeoutMs = 5_000;
/** A server that is silent for two of these is given up, and another tried. */
const pingMs = 5_000;
const pingsMax = 2;

/** @throws NatsProblem */
export async function connectNats(access: NatsAccess, name: string): Promise<NatsConnection> {
  hearRefusals();
  const options = optionsFor(access, name);
  try {
    // Nodes spread over the servers.
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
 * The client library forgets for good each server that it cannot reach before it was connected for the first time, and
 * would not find it when the others go. So one that can be reached is the first that it tries.
 * @throws what is the matter, where there is none
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
  // One that answers and refuses tells more than one that is not there.
  throw failures.find((error) => !isNobodyThere(error)) ?? failures[0];
}

/**
 * The client library remembers by the system's clock when it tried a server last. After a step back that is in the future,
 * and it would not try again before: an hour without NATS for a clock that was an hour ahead. Its servers are private:
 * test/nats-library.test.ts fails where a new version has changed them.
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

/** What is known of the connection: the client library tells of every attempt that fails as of a loss, and of as many returns. */
interface Known {
  connected: boolean;
  /** What was logged last of why it is not. */
  problem: string;
}

/** Tells of every loss and return of the connection, once each, until it is closed. */
export function watchNats(connection: NatsConnection, log: NatsLog, changes: Changes): void {
  const known: Known = { connected: true, problem: "" };
  const watch = async () => {
    for await (const status of connection.status()) {
      try {
        onStatus(connection, known, status, log, changes);
      } catch (error) {
        log.error({ err: error }, "NATS: a change of the connection could not be dealt with");
      }
    }
  };
  watch().catch((error: unknown) => log.error({ err: error }, "NATS: the connection is not watched any more"));
}

function onStatus(connection: NatsConnection, known: Known, status: Status, log: NatsLog, changes: Changes): void {
  const { type, data } = status;
  switch (type) {
    case Events.Disconnect: {
      const problem = lastErrorOf(connection)?.message;
      const wasConnected = known.connected;
      known.connected = false;
      if (wasConnected) log.warn({ server: String(data), problem }, "NATS: the connection is lost; trying again until it is back");
      else if (problem !== undefined && problem !== known.problem) log.warn({ server: String(data), problem }, "NATS: a server answers and does not let this node in; it is tried again");
      known.problem = problem ?? "";
      return wasConnected ? changes.disconnected() : undefined;
    }
    case Events.Reconnect:
      if (known.connected) return;
      known.connected = true;
      log.info({ server: String(data) }, "NATS: connected again");
      return changes.reconnected();
    case Events.Error:
      // While it is away this is an answer to an attempt: told with its failure.
      return known.connected ? changes.refused(status.permissionContext ?? null, lastErrorOf(connection)?.message ?? String(data)) : undefined;
    case DebugEvents.StaleConnection:
      return log.warn({}, "NATS: the server does not answer");
  }
}

/**
 * Subscribes. What is thrown in a callback would end the client's reader, and with it the connection.
 * @param onDenied the account may not listen to it: nothing will come.
 */
export function listen(
  connection: NatsConnection,
  subject: string,
  log: NatsLog,
  onMessage: (message: Msg) => void,
  onDenied: (error: Error) => void = (error) => log.error({ err: error, subject }, "NATS: a subject cannot be listened to"),
): Subscription {
  return connection.subscribe(subject, {
    callback: (error, message) => {
      try {
        if (error === null) onMessage(message);
        else onDenied(error);
      } catch (thrown) {
        log.error({ err: thrown, subject }, "NATS: a message could not be dealt with");
      }
    },
  });
}

/** What the server said last that was an error, besides one of permissions. The library keeps it, and hands on a code only. */
export function lastErrorOf(connection: NatsConnection): Error | undefined {
  return (connection as unknown as { readonly protocol?: { readonly lastError?: Error } }).protocol?.lastError;
}

/** A server's address without what is secret in it. */
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

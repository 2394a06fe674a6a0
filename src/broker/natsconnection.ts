/** The connection to NATS: who we are there, what went wrong in words, and whether NATS is there. */
import { readFileSync } from "node:fs";
import { connect, credsAuthenticator, Events, DebugEvents, type ConnectionOptions, type Msg, type NatsConnection, type Subscription, type TlsOptions } from "nats";

export interface NatsAccess {
  /** `nats://host:4222`, `tls://…`; a user and password may stand in the first. */
  readonly servers: readonly string[];
  readonly user: string;
  readonly password: string;
  readonly token: string;
  /** Files. */
  readonly creds: string;
  readonly tlsCa: string;
  readonly tlsCert: string;
  readonly tlsKey: string;
}

export interface NatsLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** What is wrong with NATS as it was found at the start: whoever starts the node can do something about it. */
export class NatsProblem extends Error {
  override readonly name = "NatsProblem";
}

/** What happens to a connection after it was made. */
export interface Changes {
  /** Nothing arrives any more. */
  disconnected(): void;
  /** It is back, and everything that was subscribed is again. */
  reconnected(): void;
}

const reconnectMs = 250;
const connectTimeoutMs = 5_000;
/** A server that is silent for two of these is given up, and another tried. */
const pingMs = 5_000;
const pingsMax = 2;

/** @throws NatsProblem */
export async function connectNats(access: NatsAccess, name: string): Promise<NatsConnection> {
  const options = optionsFor(access, name);
  try {
    return await connect(options);
  } catch (error) {
    throw new NatsProblem(explain(error));
  }
}

/** Tells of every loss and return of the connection, until it is closed. */
export function watchNats(connection: NatsConnection, log: NatsLog, changes: Changes): void {
  const watch = async () => {
    for await (const { type, data } of connection.status()) {
      switch (type) {
        case Events.Disconnect:
          log.warn({ server: String(data) }, "NATS: the connection is lost; trying again until it is back");
          changes.disconnected();
          break;
        case Events.Reconnect:
          log.info({ server: String(data) }, "NATS: connected again");
          changes.reconnected();
          break;
        case Events.Error:
          log.error({ problem: String(data) }, "NATS: the server reports an error");
          break;
        case DebugEvents.StaleConnection:
          log.warn({}, "NATS: the server does not answer");
          break;
      }
    }
  };
  watch().catch((error: unknown) => log.error({ err: error }, "NATS: the connection is not watched any more"));
}

/**
 * Subscribes. What is thrown in a callback would end the client's reader, and with it the connection.
 * @param onRefused the account may not listen to it: nothing will come.
 */
export function listen(
  connection: NatsConnection,
  subject: string,
  log: NatsLog,
  onMessage: (message: Msg) => void,
  onRefused: () => void = () => undefined,
): Subscription {
  return connection.subscribe(subject, {
    callback: (error, message) => {
      try {
        if (error === null) return onMessage(message);
        log.error({ err: error, subject }, "NATS: a subject cannot be listened to");
        onRefused();
      } catch (thrown) {
        log.error({ err: thrown, subject }, "NATS: a message could not be dealt with");
      }
    },
  });
}

/** A server's address without what is secret in it. */
export function withoutSecrets(server: string): string {
  return server.replace(/\/\/[^@/]*@/, "//");
}

function optionsFor(access: NatsAccess, name: string): ConnectionOptions {
  const { servers, token, creds } = access;
  const inUrl = servers.map(userIn).find((found) => found !== null);
  const user = access.user || inUrl?.user;
  const pass = access.password || inUrl?.password;
  const tls = tlsFor(access);
  return {
    servers: servers.map((server) => withoutSecrets(server).replace(/^[a-z]+:\/\//, "")),
    name,
    reconnect: true,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: reconnectMs,
    timeout: connectTimeoutMs,
    pingInterval: pingMs,
    maxPingOut: pingsMax,
    ...(token !== "" && { token }),
    ...(user !== undefined && user !== "" && { user, pass: pass ?? "" }),
    ...(creds !== "" && { authenticator: credsAuthenticator(readFile("--nats-creds", creds)) }),
    ...(tls !== null && { tls }),
  };
}

function userIn(server: string): { user: string; password: string } | null {
  if (!server.includes("@")) return null;
  const { username, password } = new URL(server);
  return { user: decodeURIComponent(username), password: decodeURIComponent(password) };
}

function tlsFor({ servers, tlsCa, tlsCert, tlsKey }: NatsAccess): TlsOptions | null {
  const isAsked = servers.some((server) => server.startsWith("tls://"));
  if (!isAsked && tlsCa === "" && tlsCert === "" && tlsKey === "") return null;
  return {
    ...(tlsCa !== "" && { ca: readFile("--nats-tls-ca", tlsCa).toString() }),
    ...(tlsCert !== "" && { cert: readFile("--nats-tls-cert", tlsCert).toString() }),
    ...(tlsKey !== "" && { key: readFile("--nats-tls-key", tlsKey).toString() }),
  };
}

function readFile(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new NatsProblem(`the file of ${flag} cannot be read: ${(error as Error).message}`);
  }
}

function explain(error: unknown): string {
  const { code = "", message } = error as Error & { code?: string };
  switch (code) {
    case "CONNECTION_REFUSED":
    case "ECONNREFUSED":
      return "nothing answers there; start nats-server, or correct the address";
    case "AUTHORIZATION_VIOLATION":
    case "BAD_AUTHENTICATION":
      return "the server does not let this node in; give its credentials with --nats-creds, --nats-user and --nats-password, or --nats-token";
    case "TIMEOUT":
    case "CONNECTION_TIMEOUT":
      return "the server does not answer in time; look whether it is a NATS server, and reachable from here";
    default:
      return `cannot connect: ${message}`;
  }
}

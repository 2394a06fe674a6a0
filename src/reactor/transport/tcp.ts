/** The TCP transport: accepts connections, or refuses them with a code. */
import { createServer, type ListenOptions, type Server, type Socket as Stream } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import type { Certificate } from "../../config/certificate.ts";
import { closes } from "../../errors.ts";
import { defaultFormat } from "../../protocol/formats/formats.ts";
import type { Reactor } from "../reactor.ts";
import { createSession } from "../session/session.ts";
import { opened, refusals, turnedAway, type TurnAway } from "./sockets.ts";
import { TcpAudience } from "./tcpaudience.ts";
import { TcpSocket } from "./tcpsocket.ts";

/** Connections that are being sent a refusal. More are dropped without one. */
const refusedMax = 256;
const refusedMs = 1000;
const backlog = 4096;

export interface TcpTransport {
  /** Takes no more sockets. */
  stop(): void;
  /** New connections get this certificate. */
  renew(certificate: Certificate): void;
}

export interface TcpListening {
  readonly host: string;
  readonly port: number;
  /** For TLS; null for none. */
  readonly certificate: Certificate | null;
  /** Other reactors listen on the same port. */
  readonly shared: boolean;
  listening(): void;
  failed(error: Error): void;
}

export function serveTcp(reactor: Reactor, door: () => TurnAway | null, where: TcpListening): TcpTransport {
  const audience = new TcpAudience();
  reactor.audiences.add(audience);
  const refuse = refuser(reactor);
  const take = (stream: Stream) => {
    const closed = door();
    if (closed !== null) return refuse(stream, closed);
    if (!reactor.admission.admit()) return refuse(stream, refusals.crowd);
    const session = createSession(audience, defaultFormat, "", "", "");
    reactor.counters.add("tcpSockets", 1);
    opened(reactor, session, new TcpSocket(reactor, session, audience, stream));
  };
  const { config } = reactor;
  const { certificate } = where;
  const common = { allowHalfOpen: true, noDelay: true };
  const handshakeTimeout = config.handshakeTimeoutMs;
  const secure = certificate && createTlsServer({ ...common, ...pair(certificate), handshakeTimeout }, take);
  // A failed handshake closes the client's connection, and needs no other action.
  secure?.on("tlsClientError", (_, stream) => void stream.destroy());
  const server = secure ?? createServer(common, take);
  // Connections in the TLS handshake are no sessions yet, and only this counts them.
  server.maxConnections = config.socketsMax + refusedMax;
  listen(server, where);
  return { stop: () => void server.close(), renew: (renewed) => secure?.setSecureContext(pair(renewed)) };
}

function pair({ cert, key, passphrase }: Certificate): TlsOptions {
  return { cert, key, passphrase, minVersion: "TLSv1.2" };
}

function listen(server: Server, { host, port, shared, listening, failed }: TcpListening): void {
  server.once("error", failed);
  // reusePort is newer than the types of the oldest Node that is supported.
  const options: ListenOptions & { reusePort?: boolean } = { host, port, backlog, ...(shared && { reusePort: true }) };
  server.listen(options, () => {
    server.off("error", failed);
    // A connection that could not be accepted, for want of file descriptors, is lost. The others go on.
    server.on("error", () => undefined);
    listening();
  });
}

/** Sends a connection the refusal, and drops it if it stays. */
function refuser(reactor: Reactor): (stream: Stream, refusal: TurnAway) => void {
  const { encoder } = reactor;
  let refused = 0;
  return (stream, refusal) => {
    const { close } = refusal;
    turnedAway(reactor, refusal);
    if (refused >= refusedMax) return void stream.destroy();
    refused++;
    const timer = setTimeout(() => stream.destroy(), refusedMs);
    stream.on("error", () => stream.destroy());
    stream.on("close", () => {
      refused--;
      clearTimeout(timer);
    });
    stream.resume();
    stream.end(Buffer.from(encoder.frame(defaultFormat, { id: 0, closed: { code: closes[close].code, reason: close } })));
  };
}
